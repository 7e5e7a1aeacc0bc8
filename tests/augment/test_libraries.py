"""Transforms of other libraries: what they make is what the libraries make, however a batch is divided."""

import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from simclr_ablate import own
from simclr_ablate.augment import libraries
from simclr_ablate.augment.libraries import (
    Batched,
    OneByOne,
    check_range,
    library_operations,
    origins,
    slow_ones,
    two_views,
)
from simclr_ablate.augment.operations import Operation
from simclr_ablate.augment.policies import Policy, library_policy, pair_policy, simclr_policy
from simclr_ablate.config import ConfigError

kornia = pytest.importorskip("kornia")
K = kornia.augmentation
SIZE = 16


def one(text: str) -> Operation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (operation,) = library_operations(text, SIZE, "views.first")
    return operation


def images(n: int = 6) -> Tensor:
    return torch.rand(n, 3, SIZE, SIZE)


def changed(operation: Operation, batch: Tensor, seed: int = 0) -> Tensor:
    params = operation.draw(len(batch), SIZE, SIZE, Generator().manual_seed(seed))
    return operation(batch, params)


def seeds_of(operation: Operation, n: int, seed: int = 0) -> list[int]:
    return operation.draw(n, SIZE, SIZE, Generator().manual_seed(seed))["seed"].tolist()


def seeded(seed: int, make: Callable[[], Tensor]) -> Tensor:
    """What `make` returns with all global generators seeded as their libraries document it."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    return make()


def test_rotation_is_torchvisions_function_of_the_drawn_angle() -> None:
    rotation, batch = one("torchvision:RandomRotation(degrees=(10, 80))"), images()
    drawn = v2.RandomRotation((10, 80))
    expected = []
    for image, seed in zip(batch, seeds_of(rotation, 6), strict=True):
        angle = seeded(seed, lambda: drawn.make_params([]))["angle"]
        assert 10 <= angle <= 80
        expected.append(tvf.rotate_image(image, angle))
    torch.testing.assert_close(changed(rotation, batch), torch.stack(expected))


def test_blur_is_torchvisions_function_of_the_drawn_sigma() -> None:
    blur, batch = one("torchvision:GaussianBlur(kernel_size=5, sigma=(0.5, 3))"), images()
    drawn = v2.GaussianBlur(5, (0.5, 3))
    sigmas = [seeded(seed, lambda: drawn.make_params([]))["sigma"][0] for seed in seeds_of(blur, 6)]
    assert len(set(sigmas)) == 6
    expected = [
        tvf.gaussian_blur_image(image, [5, 5], [sigma, sigma])
        for image, sigma in zip(batch, sigmas, strict=True)
    ]
    torch.testing.assert_close(changed(blur, batch), torch.stack(expected))


@pytest.mark.parametrize("policy", ["imagenet", "cifar10"])
def test_autoaugment_works_on_bytes(policy: str) -> None:
    operation = one(f"torchvision:AutoAugment(policy='{policy}')")
    levels = torch.randint(256, (6, 3, SIZE, SIZE), dtype=torch.uint8)
    theirs = v2.AutoAugment(v2.AutoAugmentPolicy(policy))
    expected = [
        seeded(seed, lambda level=level: theirs(level))  # type: ignore[misc]
        for level, seed in zip(levels, seeds_of(operation, 6), strict=True)
    ]
    made = changed(operation, levels / 255)
    assert torch.equal((made * 255).round().to(torch.uint8), torch.stack(expected))


def test_kornia_gamma_is_a_power_of_each_image() -> None:
    gamma, batch = one("kornia:RandomGamma(gamma=(0.5, 2.0), p=1.0)"), images()
    assert isinstance(gamma, Batched)
    params = gamma.draw(6, SIZE, SIZE, Generator().manual_seed(3))
    powers = params["gamma_factor"]
    assert len(powers.unique()) == 6
    assert ((powers >= 0.5) & (powers <= 2)).all()
    torch.testing.assert_close(gamma(batch, params), batch ** powers.view(-1, 1, 1, 1))


def test_kornia_leaves_some_images_alone() -> None:
    flip, batch = one("kornia:RandomHorizontalFlip(p=0.5)"), images(40)
    made = changed(flip, batch)
    mirrored = [torch.equal(m, b.flip(-1)) for m, b in zip(made, batch, strict=True)]
    same = [torch.equal(m, b) for m, b in zip(made, batch, strict=True)]
    assert 5 < sum(mirrored) < 35
    assert sum(mirrored) + sum(same) == 40


def test_what_kornia_draws_for_a_whole_batch_is_drawn_for_each_image() -> None:
    # The order of its four steps is one for a batch.
    jiggle, batch = one("kornia:ColorJiggle(brightness=0.4, contrast=0.4, hue=0.2)"), images()
    assert isinstance(jiggle, OneByOne)
    theirs = K.ColorJiggle(brightness=0.4, contrast=0.4, hue=0.2)
    expected = [
        seeded(seed, lambda image=image: theirs(image[None])[0])  # type: ignore[misc]
        for image, seed in zip(batch, seeds_of(jiggle, 6), strict=True)
    ]
    torch.testing.assert_close(changed(jiggle, batch), torch.stack(expected))


@pytest.mark.parametrize("name", ["SimCLRTransform", "BYOLTransform", "WMSETransform"])
def test_views_of_lightly_are_its_own_of_pil_images(name: str) -> None:
    from lightly import transforms as lightly

    levels = torch.randint(256, (4, 3, 20, 24), dtype=torch.uint8)
    policy = library_policy(
        f"lightly:{name}(num_samples=2)" if "WMSE" in name else f"lightly:{name}", SIZE
    )
    made = policy.two_views(levels, Generator().manual_seed(1))
    if name == "BYOLTransform":
        both = [
            getattr(lightly, f"BYOLView{k}Transform")(input_size=SIZE, normalize=None)
            for k in (1, 2)
        ]
        assert policy.first != policy.second
    else:
        nothing = {"mean": [0, 0, 0], "std": [1, 1, 1]}
        both = getattr(lightly, name)(input_size=SIZE, normalize=nothing).transforms
    drawn = policy.draw_two(levels, Generator().manual_seed(1))
    seeds = torch.cat([branch.params[0]["seed"] for branch in drawn.branches]).tolist()
    assert len(set(seeds)) == 8
    for row, seed in enumerate(seeds):
        image = tvf.to_pil_image(levels[row % 4])
        expected = seeded(seed, lambda: both[row // 4](image))  # noqa: B023
        torch.testing.assert_close(made[row], expected)


TEXTS = [
    "torchvision:GaussianNoise(sigma=0.1)",
    "torchvision:ElasticTransform(alpha=20.0, sigma=2.0)",
    "torchvision:RandomApply(p=0.5, transforms=[ColorJitter(hue=0.3), RandomInvert()])",
    "torchvision:RandAugment",
    "kornia:RandomGaussianNoise(mean=0.0, std=0.1, p=0.7)",
    "kornia:RandomAffine(degrees=30.0, p=0.8)",
    "kornia:ColorJitter(brightness=0.5, hue=0.2)",
    "kornia:RandAugment(n=2, m=10)",
]


@pytest.mark.parametrize("text", TEXTS)
def test_views_do_not_depend_on_how_a_batch_is_divided(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        policy = pair_policy(SIZE, text, "blur")
    batch = torch.randint(256, (9, 3, 20, 20), dtype=torch.uint8)
    drawn = policy.draw_two(batch, Generator().manual_seed(5))
    whole = drawn.make().in_order().view(2, 9, 3, SIZE, SIZE)
    for parts in ([slice(0, 3), slice(3, 6), slice(6, 9)], [slice(0, 1), slice(1, 9)]):
        pieces = [drawn.of(part).make().in_order() for part in parts]
        joined = [p.view(2, -1, 3, SIZE, SIZE) for p in pieces]
        torch.testing.assert_close(torch.cat(joined, 1), whole)
    policy.chunk_bytes = 1
    again = policy.two_views(batch, Generator().manual_seed(5))
    torch.testing.assert_close(again, whole.flatten(0, 1))
    other = policy.two_views(batch, Generator().manual_seed(6))
    assert not torch.allclose(other, again, atol=0.01)


@pytest.mark.parametrize("text", TEXTS)
def test_the_same_draw_gives_the_same_bits_and_leaves_global_generators_alone(text: str) -> None:
    operation, batch = one(text), images()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = changed(operation, batch)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()
    torch.rand(1), random.random(), np.random.rand()
    assert torch.equal(changed(operation, batch), first)


def test_input_is_left_as_it_is() -> None:
    erase, batch = one("torchvision:RandomErasing(inplace=True, p=1.0)"), images()
    kept = batch.clone()
    assert not torch.equal(changed(erase, batch), kept)
    assert torch.equal(batch, kept)


def test_an_added_operation_works_on_half_of_the_views() -> None:
    text = "torchvision:RandomInvert(p=1.0)"
    batch = torch.randint(256, (40, 3, SIZE, SIZE), dtype=torch.uint8)
    made, plain = (
        simclr_policy(SIZE, extra=extra).two_views(batch, Generator().manual_seed(0))
        for extra in (text, None)
    )
    inverted = [torch.allclose(m, 1 - p, atol=1e-6) for m, p in zip(made, plain, strict=True)]
    same = [torch.equal(m, p) for m, p in zip(made, plain, strict=True)]
    assert 20 < sum(inverted) < 60
    assert sum(inverted) + sum(same) == 80


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torchvision:GausianBlur", "a transform of torchvision, got .*:GausianBlur; did you mean GaussianBlur?"),
        ("torchvision:functional", "must name a transform of torchvision"),
        ("torchvision:GaussianBlur", r"must be .*:GaussianBlur\(kernel_size, sigma=.*\), got .*: missing .* 'kernel"),
        ("torchvision:GaussianBlur(kernel_size=4)", "got torchvision:GaussianBlur.*: ValueError: .*odd"),
        ("torchvision:GaussianBlur(kernel=3)", "unexpected keyword argument 'kernel'|missing a required argument"),
        ("torchvision:AutoAugment(policy='mnist')", r"got torchvision:AutoAugment\(policy='mnist'\): ValueError"),
        ("torchvision:RandomApply(transforms=[Blur])", "Blur must be a number, "),
        ("torchvision:RandomApply(transforms=[Blur()])", "must name a transform of torchvision"),
        ("kornia:RandomHues", "must name a transform of kornia, got kornia:RandomHues; did you mean RandomHue?"),
        ("kornia:RandomMixUpV2", "must name a transform of kornia"),
        ("kornia:RandomAffine3D", "must name a transform of kornia"),
        ("kornia:ImageSequential", "must name a transform of kornia"),
        ("kornia:ColorJiggle(brightness=0.3, same_on_batch=True)", "same_on_batch must be False"),
    ],
)  # fmt: skip
def test_what_is_no_transform_is_refused(text: str, message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message) as caught:
        one(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lightly:DINOTransform", "with two views of an image, got lightly:DINOTransform, which has 8"),
        ("lightly:SimCLRViewTransform", "two views of an image, got .*, which has 1"),
        ("lightly:SimCLRTransfrom", "name a transform of lightly, .*did you mean SimCLRTransform?"),
        ("lightly:SimCLRTransform(cj=1)", "got an unexpected keyword argument 'cj'"),
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^views\.policy must .*{message}"):
        two_views(text, SIZE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torchvision:CenterCrop(size=8)", r"must return images \(3, 16, 16\), got \(3, 8, 8\)"),
        ("torchvision:Grayscale", r"must return images \(3, 16, 16\), got \(1, 16, 16\)"),
        ("torchvision:FiveCrop(size=8)", r"must return images \(3, 16, 16\), got tuple"),
        ("torchvision:ToPILImage", r"must return images \(3, 16, 16\), got Image"),
        ("torchvision:MixUp", r"must take images \(3, 16, 16\), and failed: ValueError"),
    ],
)
def test_what_makes_no_images_is_refused(text: str, message: str) -> None:
    operation = one(text)
    with pytest.raises(own.OwnError, match=rf"^views\.first={text.partition('(')[0]}.*{message}"):
        changed(operation, images())


def test_a_normalisation_is_refused_and_some_noise_is_clipped() -> None:
    normal = one("torchvision:Normalize(mean=[0.5, 0.5, 0.5], std=[0.2, 0.2, 0.2])")
    with pytest.raises(
        own.OwnError, match=r"must return images with values in \[0, 1\], got -2.* to 2"
    ):
        check_range(normal, images(32))
    noise = one("kornia:RandomGaussianNoise(std=0.05, p=1.0)")
    check_range(noise, images(32))
    made = changed(noise, images(32))
    assert made.min() == 0
    assert made.max() == 1


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(libraries.MODULES, "kornia", ("kornia_that_is_not_there",))
    with pytest.raises(
        ConfigError,
        match=r"^views\.first=kornia:RandomHue needs kornia, which .*: pip install kornia$",
    ):
        one("kornia:RandomHue")


def test_slow_operations_and_versions_are_told() -> None:
    rotation = "torchvision:RandomRotation(degrees=3)"
    policy = Policy(first=[*simclr_policy(SIZE, extra=rotation).first, one("kornia:RandomHue")])
    assert slow_ones(policy.operations) == [f"views.extra={rotation}"]
    theirs = torch.__version__ and __import__("torchvision").__version__.partition("+")[0]
    assert origins(policy.operations)[0].startswith(
        f"views.extra={rotation} of torchvision {theirs}"
    )
    assert (
        origins(policy.operations)[1]
        == f"views.first=kornia:RandomHue of kornia {kornia.__version__}"
    )
