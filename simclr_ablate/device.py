"""What devices have in common: the CPU, and accelerators as torch knows them (CUDA, which ROCm is too, MPS, XPU)."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import psutil
import torch
from torch import Tensor, nn
from torch.distributed import get_default_backend_for_device
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices

from simclr_ablate.provenance import processor

_ALIGNMENT = 16
"""Bytes: tensors in a block begin at multiples of it, which suits every type."""
_PINNING = ("cuda", "xpu")
"""Devices that copy from pinned memory while the CPU goes on."""

COMPILER = "inductor"
"""The backend of torch.compile."""

T = TypeVar("T")


def set_arithmetic(deterministic: bool = False, tf32: bool | None = None) -> None:
    """How this process computes from now on, on CUDA (which ROCm is too); see `compute.deterministic` and `tf32`.

    Matrix products are never TF32: views and losses are made of them. A CPU computes as before.
    """
    if deterministic:
        # cuBLAS reads it when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # It need not be filled: nothing reads it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = not deterministic if tf32 is None else tf32


def enter(device: torch.device) -> None:
    """Makes this GPU the process's current one: streams, pinned memory and kernels that name no device belong to it."""
    if device.type in _PINNING and device.index is not None:
        torch.get_device_module(device).set_device(device)


def name_of(device: torch.device) -> str:
    """What the device is, in words: `NVIDIA H200`, or the name of the processor."""
    if not is_accelerator(device):
        return processor()
    # Not all kinds of device tell their name.
    named = getattr(torch.get_device_module(device), "get_device_name", None)
    return str(named(device)) if named is not None else str(device)


def is_accelerator(device: torch.device) -> bool:
    """Whether this is not the CPU: every operation is a launch, and each transfer may wait for those before it."""
    return device.type != "cpu"


def mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of nested dicts, lists and tuples with each tensor changed, always in the same order."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {name: mapped(value, change) for name, value in tree.items()}
    if isinstance(tree, list):
        return [mapped(value, change) for value in tree]
    if isinstance(tree, tuple):
        parts = [mapped(value, change) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree


def send(tree: T, device: torch.device) -> T:
    """A copy of nested dicts, lists and tuples with all their CPU tensors on `device`.

    They travel as one block of bytes, in pinned memory, and nothing waits for them: on an accelerator, each transfer by
    itself would cost more than all of them together. What is there already, and what is no tensor, stays as it is.
    """
    if not is_accelerator(device):
        return tree
    leaving: list[Tensor] = []
    places: list[slice] = []
    end = 0

    def leave(tensor: Tensor) -> Tensor:
        nonlocal end
        if not is_accelerator(tensor.device):
            leaving.append(tensor)
            places.append(slice(end, end + tensor.nbytes))
            end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
        return tensor

    mapped(tree, leave)
    block = torch.empty(end, dtype=torch.uint8, pin_memory=device.type in _PINNING)
    for tensor, place in zip(leaving, places, strict=True):
        block[place].copy_(tensor.contiguous().view(-1).view(torch.uint8))
    there = block.to(device, non_blocking=True)
    parts = iter([there[place] for place in places])

    def arrive(tensor: Tensor) -> Tensor:
        if is_accelerator(tensor.device):
            return tensor
        return next(parts).view(tensor.dtype).view(tensor.shape)

    return mapped(tree, arrive)


def send_ahead(
    batches: Iterable[tuple[Tensor, T]], device: torch.device
) -> Iterator[tuple[Tensor, T]]:
    """`send` of each batch, beside which something stays on the CPU, in order.

    Where the device copies from pinned memory, a batch travels on a stream of its own, while the one before it is
    worked on.
    """
    if device.type not in _PINNING:
        for batch, rest in batches:
            yield send(batch, device), rest
        return
    module = torch.get_device_module(device)
    side = module.Stream(device)
    under_way: list[tuple[Tensor, T, Any]] = []
    for batch, rest in batches:
        with module.stream(side):
            under_way.append((send(batch, device), rest, side.record_event()))
        if len(under_way) == 2:
            yield _received(*under_way.pop(0), module.current_stream(device))
    for each in under_way:
        yield _received(*each, module.current_stream(device))


def _received(batch: Tensor, rest: T, arrival: Any, stream: Any) -> tuple[Tensor, T]:
    """The batch, for work on `stream` from its arrival on; its memory is not used again before that work is done."""
    stream.wait_event(arrival)
    batch.record_stream(stream)
    return batch, rest


def free_bytes(device: torch.device) -> float:
    """The free memory of an accelerator; infinite for the CPU, and where the device shares the CPU's (MPS)."""
    ask = getattr(getattr(torch, device.type, None), "mem_get_info", None)
    return ask(device)[0] if ask is not None else math.inf


def memory_in_use(device: torch.device) -> dict[str, int]:
    """Bytes in use: `memory`, of this process, and `device_memory`, the most that torch has held on an accelerator."""
    found = {"memory": psutil.Process().memory_info().rss}
    ask = getattr(getattr(torch, device.type, None), "max_memory_allocated", None)
    if is_accelerator(device) and ask is not None:
        found["device_memory"] = ask(device)
    return found


def compiled(network: nn.Module, how: str) -> nn.Module:
    """The network compiled for training, which shares its weights and modes; itself if `how` is off.

    how: see `compute.compile`. Compiling happens in the first step, and raises there what torch cannot compile.
    """
    if how == "off":
        return network
    mode = "reduce-overhead" if how == "graphs" else None
    made = torch.compile(network, mode=mode, dynamic=False, backend=COMPILER)
    return made  # type: ignore[return-value]


def has_fused_optimizers(device: torch.device) -> bool:
    """Whether torch's optimisers can update all parameters in one kernel there."""
    return device.type in _get_fused_kernels_supported_devices()


def backend_of(device: torch.device) -> str:
    """The torch.distributed backend for ranks on such a device: nccl for cuda, gloo for the CPU."""
    return get_default_backend_for_device(device)
