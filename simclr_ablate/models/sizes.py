"""The shapes of our ResNets and the number of their parameters, without PyTorch."""

from typing import NamedTuple

_COMMON = (64, 128, 256, 512)


class Plan(NamedTuple):
    """The stages of a ResNet.

    bottleneck: whether a block is three convolutions, the last with four times as many channels, or two. depths: the
    blocks of each stage. channels: those of each stage at width 1. widths: those that are accepted; None: any.
    """

    bottleneck: bool
    depths: tuple[int, ...]
    channels: tuple[int, ...] = _COMMON
    widths: tuple[int, ...] | None = (1, 2, 4)


PLANS = {
    "resnet8": Plan(False, (1, 1, 1), (16, 32, 128), None),
    "resnet18": Plan(False, (2, 2, 2, 2)),
    "resnet34": Plan(False, (3, 4, 6, 3)),
    "resnet50": Plan(True, (3, 4, 6, 3)),
    "resnet101": Plan(True, (3, 4, 23, 3)),
    "resnet152": Plan(True, (3, 8, 36, 3)),
}

STEM_KERNELS = {"cifar": 3, "strided": 3, "imagenet": 7, "tensorflow": 7}
"""The side of the first convolution's kernel, by `encoder.stem`."""


def parameters(architecture: str, width: int, stem: str) -> int:
    """The number of parameters of f alone, without head or classifier. Convolutions have no biases."""
    plan = PLANS[architecture]
    entering = plan.channels[0] * width
    total = 3 * entering * STEM_KERNELS[stem] ** 2 + _norm(entering)
    for stage, (depth, of_plan) in enumerate(zip(plan.depths, plan.channels, strict=True)):
        channels = of_plan * width
        leaving = channels * (4 if plan.bottleneck else 1)
        for block in range(depth):
            total += _block(entering, channels, leaving, plan.bottleneck)
            if block == 0 and (stage or entering != leaving):  # the shortcut is a convolution
                total += entering * leaving + _norm(leaving)
            entering = leaving
    return total


def _block(entering: int, channels: int, leaving: int, bottleneck: bool) -> int:
    if bottleneck:
        made = [(1, entering, channels), (3, channels, channels), (1, channels, leaving)]
    else:
        made = [(3, entering, channels), (3, channels, leaving)]
    return sum(kernel**2 * into * out + _norm(out) for kernel, into, out in made)


def _norm(channels: int) -> int:
    """Batch norm's scale and shift."""
    return 2 * channels
