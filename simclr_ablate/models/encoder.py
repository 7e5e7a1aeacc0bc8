"""The encoder f: ResNets in every depth, width and stem that the study needs."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from simclr_ablate.schema import Compute

BN_MOMENTUM = 0.1
"""Weight of the new batch in the running statistics; the paper's .9 is the weight of the old value."""
BN_EPSILON = 1e-5


_COMMON = (64, 128, 256, 512)


class _Plan(NamedTuple):
    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, ...]
    channels: tuple[int, ...] = _COMMON
    widths: tuple[int, ...] | None = (1, 2, 4)


_PLANS = {
    "resnet8": _Plan(BasicBlock, (1, 1, 1), (16, 32, 128), None),
    "resnet18": _Plan(BasicBlock, (2, 2, 2, 2)),
    "resnet34": _Plan(BasicBlock, (3, 4, 6, 3)),
    "resnet50": _Plan(Bottleneck, (3, 4, 6, 3)),
    "resnet101": _Plan(Bottleneck, (3, 4, 23, 3)),
    "resnet152": _Plan(Bottleneck, (3, 8, 36, 3)),
}
_STEMS = ("imagenet", "cifar", "strided")


def build_encoder(architecture: str, width: int, stem: str) -> "Encoder":
    """The encoder f of Section 2.1: a ResNet up to and including its global average pool.

    architecture: resnet18 to resnet152 of He et al. 2016 (strides on the 3x3 convolution), or
        resnet8 for small images and small machines: three stages of one basic block with 16, 32 and
        128 channels. The last stage is twice as wide as usual, which costs little with so few pixels
        left and gives h more room.
    width: multiplies the channels of every stage, including the stem (Fig. 7): 1, 2 or 4; for resnet8
        any. (torchvision's wide_resnet50_2 widens only the 3x3 convolutions: another network.)
    stem: `imagenet`: 7x7 convolution of stride 2 and 3x3 max-pool of stride 2; `cifar`: 3x3
        convolution of stride 1 (App. B.9); `strided`: 3x3 convolution of stride 2.

    Weights are drawn from torch's global generator, as torchvision draws its own (He et al. 2015,
    fan out). With the ImageNet stem, the parameters of the common architectures have torchvision's
    names and shapes.

    Raises ValueError if an argument is none of these.
    """
    if architecture not in _PLANS:
        raise ValueError(
            f"encoder.architecture must be one of {', '.join(_PLANS)}, got {architecture!r}"
        )
    if stem not in _STEMS:
        raise ValueError(f"encoder.stem must be one of {', '.join(_STEMS)}, got {stem!r}")
    plan = _PLANS[architecture]
    if plan.widths is None and width < 1:
        raise ValueError(f"encoder.width must be >= 1, got {width}")
    if plan.widths is not None and width not in plan.widths:
        accepted = ", ".join(map(str, plan.widths))
        raise ValueError(f"encoder.width must be one of {accepted} for {architecture}, got {width}")
    channels = [stage * width for stage in plan.channels]
    return Encoder(plan.block, plan.depths, channels, stem)


class Encoder(nn.Sequential):
    """A ResNet without its classifier: images (N, 3, H, W) to h, (N, dim)."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        channels: Sequence[int],
        stem: str,
    ) -> None:
        kernel, stride = {"imagenet": (7, 2), "cifar": (3, 1), "strided": (3, 2)}[stem]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        in_channels = channels[0]
        layers["conv1"] = nn.Conv2d(3, in_channels, kernel, stride, kernel // 2, bias=False)
        layers["bn1"] = _batch_norm(in_channels)
        layers["relu"] = nn.ReLU(inplace=True)
        if stem == "imagenet":
            layers["maxpool"] = nn.MaxPool2d(3, 2, padding=1)
        for number, (depth, out_channels) in enumerate(zip(depths, channels, strict=True)):
            stride = 2 if number else 1
            layers[f"layer{number + 1}"] = _stage(block, in_channels, out_channels, depth, stride)
            in_channels = out_channels * block.expansion
        layers["avgpool"] = GlobalAveragePool()
        super().__init__(layers)
        self.dim = in_channels
        """Width of h."""
        self.apply(_initialise)


class GlobalAveragePool(nn.Module):
    """(N, C, H, W) to (N, C)."""

    def forward(self, features: Tensor) -> Tensor:
        # The gradient of a mean over (2, 3) is in no memory format, which makes the backward pass of
        # the ReLU before it several times slower than with this gradient.
        return features.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    channels: int,
    depth: int,
    stride: int,
) -> nn.Sequential:
    out_channels = channels * block.expansion
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), _batch_norm(out_channels)
        )
    first = block(in_channels, channels, stride, shortcut, norm_layer=_batch_norm)
    rest = [block(out_channels, channels, norm_layer=_batch_norm) for _ in range(depth - 1)]
    return nn.Sequential(first, *rest)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BN_EPSILON, momentum=BN_MOMENTUM)


def _initialise(module: nn.Module) -> None:
    """Draws a convolution's weights; zeroes a block's last batch norm, so the block starts as its shortcut."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, Bottleneck):
        nn.init.zeros_(module.bn3.weight)
    elif isinstance(module, BasicBlock):
        nn.init.zeros_(module.bn2.weight)


def memory_format(compute: Compute) -> torch.memory_format:
    """How images and convolutions lie in memory."""
    return torch.channels_last if compute.channels_last else torch.contiguous_format
