"""Colour jitter as single operations of torch's, for accelerators, where each of its 200 small ones would be a launch.

CUDA (which ROCm is too) and XPU have a Triton kernel for them (`triton_kernels.py`), the CPU what it has anyway. Where
there is no Triton, or it does not work, colour jitter consists of small operations as on the CPU.
"""

import functools
import importlib.util
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from simclr_ablate.augment import tensorflow_color
from simclr_ablate.augment.batching import Kinds
from simclr_ablate.augment.color import JITTER_ORDERS, jitter_kinds_
from simclr_ablate.device import send

log = logging.getLogger(__name__)

DEVICES = ["cuda", "xpu"]
"""Types of device that Triton compiles for."""
AMOUNTS = ("brightness", "contrast", "saturation", "hue")
"""The columns of TensorFlow's amounts, and what its steps are counted by."""

_STEPS = torch.tensor([[AMOUNTS.index(name) for name in order] for order in JITTER_ORDERS])
_library = torch.library.Library("simclr_ablate", "DEF")
_library.define(
    "color_jitter_(Tensor(a!) images, Tensor tones, Tensor hue, Tensor before_hue) -> ()"
)
_library.define("tensorflow_jitter_(Tensor(a!) images, Tensor amounts, Tensor steps) -> ()")
_works = True


def covers(device: torch.device) -> bool:
    """Whether colour jitter is one operation there."""
    return _works and device.type in DEVICES and _has_triton()


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def color_jitter_(images: Tensor, tones: Tensor, hue: Tensor, before_hue: Tensor) -> Tensor:
    """Colour jitter that `color.jitter_steps` prepared, in place; returns `images`. All are on one device."""
    return _in_place(
        images, lambda x: torch.ops.simclr_ablate.color_jitter_(x, tones, hue, before_hue)
    )


def tensorflow_jitter_(images: Tensor, amounts: Tensor, steps: Tensor) -> Tensor:
    """TensorFlow's colour jitter in place; returns `images`. All are on one device.

    amounts: (N, 4), in the order of AMOUNTS; steps: of `steps_of`.
    """
    return _in_place(
        images, lambda x: torch.ops.simclr_ablate.tensorflow_jitter_(x, amounts, steps)
    )


def steps_of(order: Tensor) -> Tensor:
    """(N, 4), the numbers among AMOUNTS of each image's steps. order: (N,) indices into JITTER_ORDERS."""
    return _STEPS[order]


def _in_place(images: Tensor, jitter_: Callable[[Tensor], object]) -> Tensor:
    if images.is_contiguous():
        jitter_(images)
        return images
    straight = images.contiguous()
    jitter_(straight)
    return images.copy_(straight)


def _small_jitter_(images: Tensor, tones: Tensor, hue: Tensor, before_hue: Tensor) -> None:
    kinds = send(Kinds.of(before_hue.cpu(), images.device), images.device)
    jitter_kinds_(images, kinds, **kinds.take({"tones": tones, "hue": hue}))


def _small_tensorflow_jitter_(images: Tensor, amounts: Tensor, steps: Tensor) -> None:
    order = (steps.cpu().unsqueeze(1) == _STEPS).all(2).long().argmax(1)
    kinds = send(Kinds.of(order, images.device), images.device)
    named = dict(zip(AMOUNTS, amounts.unbind(1), strict=True))
    tensorflow_color.jitter_kinds_(images, kinds, **kinds.take(named))


def _by_triton(name: str, otherwise: Callable[..., None]) -> Callable[..., None]:
    """The Triton kernel `name`, or else `otherwise`: Triton needs a C compiler, which not every node has."""

    def jitter_(*tensors: Tensor) -> None:
        global _works
        if _works:
            device = tensors[0].device
            try:
                from simclr_ablate.augment import triton_kernels

                # Triton launches on the process's current device, wherever the tensors are.
                with torch.get_device_module(device).device(device):
                    getattr(triton_kernels, name)(*tensors)
                return
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # whatever goes wrong between Python and the driver
                _works = False
                log.warning("colour jitter takes many launches, since Triton failed: %s", error)
        otherwise(*tensors)

    return jitter_


for _name, _small in (
    ("color_jitter_", _small_jitter_),
    ("tensorflow_jitter_", _small_tensorflow_jitter_),
):
    _library.impl(_name, _small, "CPU")
    _library.impl(_name, lambda *_: None, "Meta")  # no values, no shapes that change
    for _key in ("CUDA", "XPU"):
        _library.impl(_name, _by_triton(_name, _small), _key)
