"""The paper's released checkpoints, through an .npz: features equal those of TensorFlow's network.

TensorFlow is not needed: `Released` computes the released network in plain tensors, NHWC as there, and names variables
in the order in which it makes them. It shares nothing with the code under test.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from simclr_ablate.config import ConfigError
from simclr_ablate.models.encoder import SamePool, build_encoder
from simclr_ablate.weights.tensorflow import tensorflow_names
from tests.weights.conftest import Importing
from tests.weights.networks import assert_alike

pytestmark = pytest.mark.slow

DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


class Released:
    """The released ResNet on images (N, H, W, 3); its variables have random values, made when they are first used."""

    def __init__(self, depths: tuple[int, ...], width: int, cifar_stem: bool = False) -> None:
        self.depths, self.width, self.cifar_stem = depths, width, cifar_stem
        self.variables: dict[str, Tensor] = {}
        self._draw = torch.Generator().manual_seed(width)
        self._counts: dict[str, int] = {}

    def __call__(self, images: Tensor) -> Tensor:
        self._counts = {}
        filters = 64 * self.width
        if self.cifar_stem:
            x = self.norm(self.conv(images, filters, 3, 1)).relu()
        else:
            x = self.norm(self.conv(images, filters, 7, 2)).relu()
            x = same_pool(x)
        for group, depth in enumerate(self.depths):
            for block in range(depth):
                stride = 2 if group and not block else 1
                x = self.bottleneck(x, filters * 2**group, stride, project=not block)
        return x.mean((1, 2))

    def bottleneck(self, x: Tensor, filters: int, stride: int, project: bool) -> Tensor:
        shortcut = x
        if project:
            shortcut = self.norm(self.conv(x, 4 * filters, 1, stride))
        y = self.norm(self.conv(x, filters, 1, 1)).relu()
        y = self.norm(self.conv(y, filters, 3, stride)).relu()
        y = self.norm(self.conv(y, 4 * filters, 1, 1))
        return (y + shortcut).relu()

    def conv(self, x: Tensor, filters: int, kernel: int, stride: int) -> Tensor:
        """Strided convolutions are padded by a fixed (kernel - 1), the smaller half first; others as SAME."""
        shape = (kernel, kernel, x.shape[-1], filters)
        scale = math.sqrt(2 / (kernel * kernel * filters))
        weights = self.variable("conv2d", "kernel", lambda: scale * self.normal(shape))
        total = kernel - 1
        pads = (total // 2, total - total // 2) * 2
        padded = F.pad(x.permute(0, 3, 1, 2), pads)
        return F.conv2d(padded, weights.permute(3, 2, 0, 1), stride=stride).permute(0, 2, 3, 1)

    def norm(self, x: Tensor) -> Tensor:
        n, first = x.shape[-1], "batch_normalization"
        gamma = self.variable(first, "gamma", lambda: 1 + 0.3 * self.normal((n,)), new=True)
        beta = self.variable(first, "beta", lambda: 0.1 * self.normal((n,)), new=False)
        mean = self.variable(first, "moving_mean", lambda: 0.1 * self.normal((n,)), new=False)
        variance = self.variable(
            first, "moving_variance", lambda: self.normal((n,)).square() + 0.5, new=False
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * gamma + beta

    def variable(self, layer: str, name: str, make: object, new: bool = True) -> Tensor:
        if new:
            self._counts[layer] = self._counts.get(layer, -1) + 1
        number = self._counts[layer]
        full = f"base_model/{layer}{f'_{number}' if number else ''}/{name}"
        if full not in self.variables:
            self.variables[full] = make()  # type: ignore[operator]
        return self.variables[full]

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self._draw)


def same_pool(x: Tensor) -> Tensor:
    """TensorFlow's 3x3 max pool of stride 2 with padding SAME, window by window: (N, H, W, C)."""
    rows, columns = (same_windows(side) for side in x.shape[1:3])
    return torch.stack(
        [torch.stack([x[:, r][:, :, c].amax((1, 2)) for c in columns], 1) for r in rows], 1
    )


def same_windows(side: int) -> list[slice]:
    """Windows of 3 in steps of 2. The output has ceil(side / 2) places; the padding's smaller half comes first."""
    places = math.ceil(side / 2)
    before = max((places - 1) * 2 + 3 - side, 0) // 2
    return [slice(max(2 * k - before, 0), min(2 * k - before + 3, side)) for k in range(places)]


@pytest.mark.parametrize("size", [1, 2, 7, 8, 15, 16])
def test_the_pool_has_tensorflows_windows(size: int) -> None:
    features = torch.randn(2, size, size + 1, 3)
    ours = SamePool()(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert torch.equal(ours, same_pool(features))


def write(path: Path, variables: dict[str, Tensor], **more: Tensor) -> None:
    """What the lines in docs/weights.md write."""
    np.savez(path, **{name: tensor.numpy() for name, tensor in (variables | more).items()})


@pytest.mark.parametrize(("width", "sizes"), [(1, (64, 72)), (2, (32,))])
def test_features_of_the_released_network(
    width: int,
    sizes: tuple[int, ...],
    tmp_path: Path,
    imported: Importing,
    caplog: pytest.LogCaptureFixture,
) -> None:
    theirs = Released(DEPTHS["resnet50"], width)
    brightness = torch.tensor([0.3, 0.6, 1]).view(-1, 1, 1, 1)
    images = [brightness * torch.rand(3, size, size, 3) for size in sizes]
    references = [theirs(each) for each in images]
    head = {"head_contrastive/nl_0/dense/kernel": torch.rand(3, 3), "global_step": torch.ones(())}
    slots = {"base_model/conv2d/kernel/Momentum": torch.rand(7, 7, 3, 64)}
    write(tmp_path / "w.npz", theirs.variables, **head, **slots)
    spec, ours = imported(tmp_path / "w.npz", "resnet50", width, "tensorflow", size=32)
    for each, reference in zip(images, references, strict=True):
        assert_alike(ours(each.permute(0, 3, 1, 2)), reference)
    assert spec.mean is None
    said = "made for images of 224 pixels, resized by bicubic interpolation; here they have 32"
    assert said in caplog.text
    assert "how images were normalised" not in caplog.text


def test_features_with_the_stem_for_cifar(tmp_path: Path, imported: Importing) -> None:
    theirs = Released((3, 4, 23, 3), 1, cifar_stem=True)
    images = torch.rand(2, 16, 16, 3) * torch.tensor([0.3, 1]).view(-1, 1, 1, 1)
    reference = theirs(images)
    write(tmp_path / "w.npz", theirs.variables)
    _, ours = imported(tmp_path / "w.npz", "resnet101", 1, "cifar", size=16)
    assert_alike(ours(images.permute(0, 3, 1, 2)), reference)


def test_other_stems_and_other_networks_are_refused(tmp_path: Path, imported: Importing) -> None:
    theirs = Released(DEPTHS["resnet50"], 1)
    theirs(torch.rand(1, 32, 32, 3))
    write(tmp_path / "w.npz", theirs.variables)
    with pytest.raises(
        ConfigError, match=r"encoder\.stem must be tensorflow for .*, got 'imagenet'"
    ):
        imported(tmp_path / "w.npz", "resnet50")
    with pytest.raises(
        ConfigError, match=r"encoder=resnet50 encoder.width=1 encoder.stem=tensorflow would fit"
    ):
        imported(tmp_path / "w.npz", "resnet50", 2, "tensorflow")
    with pytest.raises(
        ConfigError, match=r"encoder\.architecture must be one of resnet8, .* got 'timm:resnet50'"
    ):
        imported(tmp_path / "w.npz", "timm:resnet50")
    selective = theirs.variables | {"base_model/dense/kernel": torch.rand(3)}
    write(tmp_path / "w.npz", selective)
    with pytest.raises(ConfigError, match=r"the encoder lacks: base_model.dense.kernel"):
        imported(tmp_path / "w.npz", "resnet50", 1, "tensorflow")


@pytest.mark.parametrize("architecture", ["resnet8", "resnet18", "resnet152"])
def test_every_tensor_has_a_name_of_its_own(architecture: str) -> None:
    with torch.device("meta"):
        state = build_encoder(architecture, 1, "cifar").state_dict()
    names = tensorflow_names(list(state))
    assert names.keys() == {name for name in state if "num_batches" not in name}
    assert len(set(names.values())) == len(names)
