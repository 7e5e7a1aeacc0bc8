"""The names of the paper's released code (google-research/simclr, `resnet.py`) for the tensors of our ResNets.

TensorFlow numbers layers in the order in which they are made: `base_model/conv2d/kernel`, `base_model/conv2d_1/kernel`,
... A block makes its shortcut first. Kernels are (height, width, in, out), ours (out, in, height, width).
"""

from collections.abc import Sequence

from torch import Tensor

SCOPE = "base_model/"
"""What all names of the encoder begin with."""

_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def tensorflow_names(names: Sequence[str]) -> dict[str, str]:
    """Our names of a ResNet's tensors, each with TensorFlow's; without counts of batches, which TensorFlow lacks."""
    convolutions = [name.removesuffix(".weight") for name in names if _is_kernel(name)]
    in_order = sorted(convolutions, key=_order)
    result = {}
    for number, convolution in enumerate(in_order):
        suffix = f"_{number}" if number else ""
        result[f"{convolution}.weight"] = f"{SCOPE}conv2d{suffix}/kernel"
        norm = _norm_after(convolution)
        for ours, theirs in _NORM.items():
            result[f"{norm}.{ours}"] = f"{SCOPE}batch_normalization{suffix}/{theirs}"
    return result


def from_tensorflow(tensor: Tensor) -> Tensor:
    """A tensor of TensorFlow's as ours: kernels are transposed."""
    return tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor


def to_tensorflow(tensor: Tensor) -> Tensor:
    """The inverse of `from_tensorflow`."""
    return tensor.permute(2, 3, 1, 0).contiguous() if tensor.ndim == 4 else tensor


def _is_kernel(name: str) -> bool:
    layer = name.removesuffix(".weight").rpartition(".")[2]
    return name.endswith("downsample.0.weight") or (
        name.endswith(".weight") and layer.startswith("conv")
    )


def _order(convolution: str) -> tuple[int, int, int]:
    """Stage, block and place in the block of `conv1`, `layer1.0.conv1` or `layer1.0.downsample.0`."""
    if convolution == "conv1":
        return 0, 0, 0
    stage, block, layer, *_ = convolution.split(".")
    place = 0 if layer == "downsample" else int(layer.removeprefix("conv"))
    return int(stage.removeprefix("layer")), int(block), place


def _norm_after(convolution: str) -> str:
    """The batch norm that follows a convolution."""
    if convolution.endswith("downsample.0"):
        return f"{convolution[:-1]}1"
    return convolution.replace("conv", "bn")
