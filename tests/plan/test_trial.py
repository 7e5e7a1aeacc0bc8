"""What is wrong with a piece of the user's own is found before any run starts."""

import importlib
from collections.abc import Callable

import pytest
import torch

from simclr_ablate.config import ConfigError
from simclr_ablate.plan.plan import make_plan
from simclr_ablate.plan.trial import try_own
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Store

OWN = """
import torch
from torch import nn
from simclr_ablate.augment.operations import Operation, Solarize
from simclr_ablate.augment.policies import Policy, pair_policy
from simclr_ablate.evaluation.protocol import Result
from simclr_ablate.losses.exact import ContrastiveLoss

CALLS = []

def operation(apply, draw=lambda n: {}):
    class Own(Operation):
        def draw(self, n, height, width, generator):
            return draw(n)

        def apply(self, images, params):
            return apply(images, **params)

    return lambda magnitudes: [Own()]

def invert(magnitudes):
    CALLS.append("invert")
    return [Solarize(0.0)]

brighter = operation(lambda images: images + 0.5)
not_a_number = operation(lambda images: images / images.mul(0))
smaller = operation(lambda images: images[..., 1:])
mixed = operation(lambda images: (images + images.flip(0)) / 2)
drawn_late = operation(lambda images: (images + torch.rand(len(images), 1, 1, 1)).clamp(0, 1))
drawn_elsewhere = operation(
    lambda images, by: images * by.view(-1, 1, 1, 1), lambda n: {"by": torch.rand(n)}
)
drawn_short = operation(lambda images, by: images, lambda n: {"by": torch.rand(n - 1)})

def inverted(magnitudes):
    return Policy(first=invert(magnitudes))

def too_large(magnitudes):
    return Policy(first=invert(magnitudes) + smaller(magnitudes))

def protocol(result):
    return lambda subject, frozen: result(frozen)

no_result = protocol(lambda frozen: {"mine": 1.0})
no_metrics = protocol(lambda frozen: Result({}, {}))
no_number = protocol(lambda frozen: Result({"mine": torch.ones(())}, {}))
another_column = protocol(lambda frozen: Result({"mine": 1.0, "seed": 2.0}, {}))
few_rows = protocol(lambda frozen: Result({"mine": 1.0}, {"guess": frozen.test.labels[1:]}))
unruly = protocol(lambda frozen: frozen.test.nothing)

def deep(in_dim, dim):
    CALLS.append(in_dim)
    return nn.Linear(in_dim, dim)

def narrow(in_dim, dim):
    return nn.Linear(5, dim)

def forgetful(in_dim, dim):
    return nn.Sequential(nn.Linear(in_dim, dim), nn.Dropout(0.5))

def misnamed(magnitudes):
    return pair_policy(magnitudes.size, "colour", "blur")

def network(forward, *parts, **buffers):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList(parts or [nn.Linear(3, 8)])
            for name, buffer in buffers.items():
                self.register_buffer(name, buffer)

        def forward(self, images):
            CALLS.append(tuple(images.shape))
            return forward(self, images)

    return lambda width, stem: Network()

def pooled(self, images):
    return self.parts[0](images.mean((2, 3)))

def with_dropout(self, images):
    return nn.functional.dropout(pooled(self, images), training=self.training)

def remembering(self, images):
    self.mean = 0.9 * self.mean + 0.1 * images.mean()
    return pooled(self, images)

def centred(self, images):
    h = pooled(self, images)
    return h - h.mean(0)

def flattened(self, images):
    return self.parts[0](images.mean((2, 3))).repeat(1, images.shape[-1])

small = network(pooled)
random_later = network(with_dropout)
with_memory = network(remembering, mean=torch.zeros(()))
of_batches = network(centred)
of_sizes = network(flattened)
of_maps = network(lambda self, images: images)
frozen = network(pooled, nn.Linear(3, 8).requires_grad_(False))
steep_network = network(lambda self, images: (0 * pooled(self, images)).sqrt())

class NormAndMore(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()

more_than_norm = network(lambda self, images: self.parts[0](images).mean((2, 3)), NormAndMore(3))

def loss(of_z):
    return lambda spec, ranks: of_z

zero = torch.zeros(())
good = loss(lambda z: ContrastiveLoss(z.square().sum(), zero, zero))
scalar = loss(lambda z: z.square().sum())
each = loss(lambda z: ContrastiveLoss(z.square().sum(1), zero, zero))
number = loss(lambda z: ContrastiveLoss(z.square().sum(), 0.5, zero))
constant = loss(lambda z: ContrastiveLoss(zero, zero, zero))
steep = loss(lambda z: ContrastiveLoss((0 * z).sqrt().sum(), zero, zero))
failing = loss(lambda z: z @ z)

def no_function(spec, ranks):
    return spec.temperature

def no_arguments():
    return None

def images(data):
    CALLS.append("images")
"""


@pytest.fixture
def mine(own_module: Callable[[str], str]) -> str:
    return own_module(OWN)


def test_what_is_well_passes_and_draws_nothing_of_the_global_generator(
    mine: str, make_experiment: Callable[..., Experiment]
) -> None:
    pieces = [f"head.kind={mine}:deep", f"loss.name={mine}:good", f"data.name={mine}:images"]
    pair = ["views=pair", f"views.first={mine}:invert", "views.second=color"]
    before = torch.random.get_rng_state()
    for seed in range(3):
        try_own(make_experiment(*pieces, *pair, f"seed={seed}"))
    assert torch.equal(torch.random.get_rng_state(), before)
    calls = importlib.import_module(mine).CALLS
    assert calls == ["invert", 128], "each piece is tried once, and no images are made"
    try_own(make_experiment(*pieces, f"views.extra={mine}:invert", "encoder.width=2"))
    assert calls[2:] == ["invert", 256]


def test_what_an_experiment_does_not_use_is_not_tried(
    mine: str, make_experiment: Callable[..., Experiment]
) -> None:
    unused = [f"head.kind={mine}:narrow", f"loss.name={mine}:scalar"]
    try_own(make_experiment("objective=supervised", *unused))
    try_own(make_experiment("objective=none", unused[1]))
    with pytest.raises(ConfigError, match=r"head\.kind"):
        try_own(make_experiment("objective=none", *unused))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("brighter", r"views must be in \[0, 1\], got .* to 1\.\d+"),
        ("not_a_number", r"views must be in \[0, 1\], got nan to nan"),
        ("smaller", r"make views of images \(4, 3, 32, 32\), and failed: RuntimeError"),
        ("mixed", "treat each image by itself, but the same draw gave other views"),
        ("drawn_late", "the same draw gave other views"),
        ("drawn_elsewhere", "must draw only from its generator"),
        ("drawn_short", "make views of images .*, and failed: IndexError"),
    ],
)
def test_wrong_operations(
    mine: str, make_experiment: Callable[..., Experiment], function: str, message: str
) -> None:
    experiment = make_experiment("views=pair", f"views.first={mine}:{function}")
    with pytest.raises(ConfigError, match=rf"^views\.first={mine}:{function}.*{message}"):
        try_own(experiment)


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        ("views.policy={}:too_large", "make views of images .*, and failed: RuntimeError"),
        ("views.policy={}:invert", "must make a Policy, got list"),
        ("views.policy={}:misnamed", r"failed: ConfigError: views\.first must be .*line \d+\)"),
        ("head.kind={}:forgetful", "must not be random .*, but made two different z"),
        ("head.kind={}:narrow", r"take h, \(3, 128\), and failed: RuntimeError: mat1"),
        ("head.kind={}:no_arguments", "make a head for h of width 128, and failed: TypeError"),
        ("loss.name={}:scalar", "must return a ContrastiveLoss of three scalar .*, got Tensor"),
        ("loss.name={}:each", r"three scalar tensors, got \(8,\) as its loss"),
        ("loss.name={}:number", "three scalar tensors, got float as its accuracy"),
        ("loss.name={}:constant", "have a gradient with respect to z, and failed: RuntimeError"),
        ("loss.name={}:steep", "must have a finite gradient with respect to z"),
        ("loss.name={}:failing", r"take z, \(8, 16\), and failed: RuntimeError.*line \d+\)"),
        ("loss.name={}:no_function", "must make a function of z, got float"),
        ("data.name={}:video", "has no 'video'"),
        ("evaluation.protocol={}:no_result", "must return a Result, got dict"),
        ("evaluation.protocol={}:no_metrics", "must return at least one metric, got none"),
        ("evaluation.protocol={}:no_number", "metrics that are numbers, got Tensor as mine"),
        ("evaluation.protocol={}:another_column", "names of their own, got seed, .* a column"),
        ("evaluation.protocol={}:few_rows", r"each test image \(16\), got 15 as guess"),
        ("evaluation.protocol={}:unruly", "evaluate an encoder, and failed: AttributeError"),
    ],
)
def test_other_wrong_pieces(
    mine: str, make_experiment: Callable[..., Experiment], piece: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        try_own(make_experiment(piece.format(mine)))
    assert str(caught.value).startswith(piece.partition("=")[0])


def test_a_policy_for_streamed_images_begins_with_a_crop(
    mine: str, make_experiment: Callable[..., Experiment]
) -> None:
    streamed = ["data=imagenet", "data.root=/images", "data.size=32"]
    try_own(make_experiment("views=pair", f"views.first={mine}:invert", *streamed))
    try_own(make_experiment(f"views.policy={mine}:inverted"))
    with pytest.raises(ConfigError, match=r"must suit streamed images, .*begin with the same crop"):
        try_own(make_experiment(f"views.policy={mine}:inverted", *streamed))


def test_a_sweep_is_refused_whole(
    mine: str, make_experiment: Callable[..., Experiment], tmp_path
) -> None:
    experiments = [make_experiment(f"loss.name={mine}:{name}") for name in ("good", "scalar")]
    with pytest.raises(ConfigError, match=r"loss\.name=.*:scalar must return"):
        make_plan(experiments, Store(tmp_path / "runs"), "both")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (
            ["views=pair", "views.second=blur", "views.first=torchvision:Grayscale"],
            r"views\.first=torchvision:Grayscale must return images \(3, 32, 32\), got \(1, 32, 32\)",
        ),
        (
            ["views.extra='torchvision:Normalize(mean=[.5,.5,.5],std=[.2,.2,.2])'"],
            r"views\.extra=torchvision:Normalize\(.*must return images with values in \[0, 1\], got -2.* to 2",
        ),
        (
            ["views.policy='lightly:SimCLRTransform(input_size=64)'"],
            r"views\.policy=lightly:.* must return images \(3, 32, 32\), got \(3, 64, 64\)",
        ),
        (
            ['views.policy=\'lightly:SimCLRTransform(normalize={"mean": [0.5], "std": [0.1]})\''],
            r"views\.policy=lightly:.* must return images with values in \[0, 1\], got -5.* to 5",
        ),
        (["views.policy=lightly:DINOTransform"], "two views of an image, got .*, which has 8"),
        (["views.extra=torchvision:RandomErase"], "did you mean RandomErasing?"),
    ],
)
def test_a_librarys_transform_is_tried(
    make_experiment: Callable[..., Experiment], views: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        try_own(make_experiment(*views))
    assert "\n" not in str(caught.value)


def test_a_slow_transform_is_told_once(
    make_experiment: Callable[..., Experiment], caplog: pytest.LogCaptureFixture
) -> None:
    views = ["views=pair", "views.second=torchvision:AugMix", "views.first=torchvision:RGB"]
    for first in ("views.strength=1", "views.crop_area=0.5"):
        try_own(make_experiment(*views, first))
    assert [record.getMessage().partition(" works")[0] for record in caplog.records] == [
        "views.first=torchvision:RGB",
        "views.second=torchvision:AugMix",
    ]


def test_streamed_images_are_not_for_whole_transforms(
    make_experiment: Callable[..., Experiment],
) -> None:
    streamed = ["data=imagenet", "data.root=/images", "views.policy=lightly:SimCLRTransform"]
    with pytest.raises(
        ConfigError, match=r"begin with a crop of ours for data=imagenet, .*, got 'li"
    ):
        make_experiment(*streamed)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("random_later", "must not be random once it is made, as dropout is, but made two different h"),
        ("with_memory", "must keep nothing of a batch but the statistics of torch's batch norm, but changes own.mean"),
        ("of_batches", "must treat each image by itself in eval mode, but images one by one have other h"),
        ("of_maps", r"must map images \(2, 3, 32, 32\) to h, \(2, D\), got \(2, 3, 32, 32\)"),
        ("frozen", "must have parameters to train, got none"),
        ("steep_network", "must have finite gradients"),
        ("deep", "must make a network, and failed|take images"),
        ("no_arguments", "must make a network, and failed: TypeError"),
        ("smal", "did you mean small?"),
    ],
)  # fmt: skip
def test_wrong_encoders(
    mine: str, make_experiment: Callable[..., Experiment], function: str, message: str
) -> None:
    for objective in ("contrastive", "supervised"):
        experiment = make_experiment(
            f"encoder.architecture={mine}:{function}", f"objective={objective}"
        )
        with pytest.raises(ConfigError, match=message) as caught:
            try_own(experiment)
        assert str(caught.value).startswith("encoder.architecture")
        assert "\n" not in str(caught.value)


def test_an_encoder_is_tried_at_the_sizes_of_its_images(
    mine: str, make_experiment: Callable[..., Experiment], compose_config
) -> None:
    other = ["data@evaluation.data=cifar10", "evaluation.data.size=16"]
    before = torch.random.get_rng_state()
    try_own(make_experiment(f"encoder.architecture={mine}:small", *other))
    assert torch.equal(torch.random.get_rng_state(), before)
    sizes = {call[-1] for call in importlib.import_module(mine).CALLS}
    assert sizes == {32, 16}
    with pytest.raises(ConfigError, match=r"32 pixels, .* and of 16 to h of one width, got"):
        try_own(make_experiment(f"encoder.architecture={mine}:of_sizes", *other))


def test_a_batch_norm_that_ranks_cannot_share_is_refused(
    mine: str, make_experiment: Callable[..., Experiment]
) -> None:
    encoder = f"encoder.architecture={mine}:more_than_norm"
    try_own(make_experiment(encoder))
    with pytest.raises(ConfigError, match=r"compute\.ranks must be 1 for .* NormAndMore, got 2"):
        try_own(make_experiment(encoder, "compute.ranks=2"))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("timm:resnet81", "must name a model of timm, got 'timm:resnet81'; did you mean resnet18"),
        ("timm:resnet18.a1_in1k", "must be timm:NAME or .*, got 'timm:resnet18.a1_in1k': it must"),
        ("'timm:resnet18(depth=3)'", "must be made by timm.create_model, and failed: TypeError"),
        ("'timm:resnet18(pretrained=true)'", "must have no argument pretrained: weights are drawn"),
        ("'timm:test_resnet(drop_rate=0.5)'", "must not be random once it is made"),
        (
            "timm:vit_tiny_patch16_224",
            r"must take images \(2, 3, 32, 32\), and failed: AssertionError: .*224",
        ),
    ],
)
def test_wrong_networks_of_timm(
    make_experiment: Callable[..., Experiment], architecture: str, message: str
) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match=message) as caught:
        try_own(make_experiment(f"encoder.architecture={architecture}"))
    assert str(caught.value).startswith("encoder.architecture")


def test_networks_of_timm_pass(make_experiment: Callable[..., Experiment]) -> None:
    pytest.importorskip("timm")
    for architecture in ("timm:test_efficientnet", "timm:test_vit(img_size=32, patch_size=8)"):
        try_own(make_experiment(f"encoder.architecture='{architecture}'", "compute.ranks=2"))
