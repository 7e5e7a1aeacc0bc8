import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.randomness import seeded_init

COMMON = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_equals_torchvision_without_its_classifier(architecture: str) -> None:
    theirs = torchvision.models.get_model(architecture).eval()
    for norm in theirs.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    theirs.fc = nn.Identity()
    with torch.device("meta"):
        ours = build_encoder(architecture, width=1, stem="imagenet").eval()
    ours.load_state_dict(theirs.state_dict(), assign=True)
    images = torch.rand(2, 3, 64, 80)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", COMMON)
def test_width_1_has_as_many_parameters_as_torchvision(architecture: str) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.get_model(architecture)
        ours = build_encoder(architecture, width=1, stem="imagenet")
    assert parameters(ours) == parameters(theirs) - parameters(theirs.fc)
    assert ours.dim == theirs.fc.in_features


# Table 6 and Fig. 7 of the paper count 24, 94 and 375 million with the stem of ImageNet.
@pytest.mark.parametrize(("width", "millions"), [(1, 23.5), (2, 94), (4, 375)])
def test_width_multiplies_every_stage(width: int, millions: float) -> None:
    with torch.device("meta"):
        encoder = build_encoder("resnet50", width, "imagenet")
    assert parameters(encoder) / 1e6 == pytest.approx(millions, rel=0.01)
    assert encoder.conv1.out_channels == 64 * width
    for number, stage in enumerate(
        [encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4]
    ):
        assert stage[0].conv1.out_channels == 64 * 2**number * width
        assert stage[-1].conv3.out_channels == 256 * 2**number * width
    assert encoder.dim == 2048 * width


def test_resnet8_has_three_stages_of_one_block() -> None:
    for width in (1, 2, 3):
        encoder = build_encoder("resnet8", width, "strided")
        convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
        weighted = [m for m in convolutions if m.kernel_size == (3, 3)]
        assert len(weighted) == 7  # and the classifier makes 8
        assert [m.out_channels // width for m in weighted] == [16, 16, 16, 32, 32, 128, 128]
        assert encoder.dim == 128 * width


@pytest.mark.parametrize(("stem", "side"), [("imagenet", 8), ("cifar", 32), ("strided", 16)])
def test_size_of_the_first_stage(stem: str, side: int) -> None:
    encoder = build_encoder("resnet8", 1, stem)
    sides = []
    encoder.layer1.register_forward_hook(lambda _, inputs, __: sides.append(inputs[0].shape[2:]))
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, 128)
    assert sides == [(side, side)]


@pytest.mark.parametrize("architecture", ["resnet8", "resnet18", "resnet50"])
def test_residual_blocks_start_as_their_shortcuts(architecture: str) -> None:
    encoder = build_encoder(architecture, 1, "cifar")
    blocks = [m for m in encoder.modules() if isinstance(m, BasicBlock | Bottleneck)]
    for block in blocks:
        features = torch.rand(2, block.conv1.in_channels, 2, 2)
        expected = block.downsample(features).relu() if block.downsample else features
        assert torch.equal(block(features), expected)


def test_batch_norm_follows_the_paper() -> None:
    norms = [m for m in build_encoder("resnet50", 1, "imagenet").modules() if hasattr(m, "eps")]
    assert len(norms) == 53
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.1, 1e-5)}


@pytest.mark.parametrize("architecture", ["resnet8", "resnet18"])
def test_memory_format_changes_nothing(architecture: str) -> None:
    encoder = build_encoder(architecture, 1, "strided")
    images = torch.rand(8, 3, 16, 16)
    direction = torch.randn(8, encoder.dim)
    outputs, gradients = [], []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        encoder.to(memory_format=memory_format).zero_grad()
        h = encoder(images.contiguous(memory_format=memory_format))
        h.backward(direction)
        outputs.append(h.detach())
        gradients.append(encoder.conv1.weight.grad.clone())
    torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-4)
    # As a whole: rounding decides ties of the ReLU and the maximum, each of which moves some of its elements.
    error = torch.linalg.norm(gradients[0] - gradients[1]) / torch.linalg.norm(gradients[0])
    assert error < 0.05


def test_weights_come_from_the_seed_alone() -> None:
    def weights(seed: int) -> torch.Tensor:
        with seeded_init(seed, "encoder"):
            return nn.utils.parameters_to_vector(build_encoder("resnet8", 1, "cifar").parameters())

    state = torch.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet20", 1, "cifar"), r"encoder\.architecture must be one of .*, got 'resnet20'"),
        (("resnet50", 3, "cifar"), r"encoder\.width must be one of 1, 2, 4 for resnet50, got 3"),
        (("resnet8", 0, "cifar"), r"encoder\.width must be >= 1, got 0"),
        (("resnet8", 1, "tiny"), r"encoder\.stem must be one of .*, got 'tiny'"),
    ],
)
def test_refuses_what_it_cannot_build(arguments: tuple[str, int, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_encoder(*arguments)
