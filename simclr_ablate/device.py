"""What devices have in common: the CPU, and accelerators as torch knows them (CUDA, which ROCm is too, MPS, XPU)."""

import math

import torch
from torch.distributed import get_default_backend_for_device

FUSED = ("cpu", "cuda", "mps", "xpu")
"""The devices on which torch's optimisers update all parameters in one kernel."""


def is_accelerator(device: torch.device) -> bool:
    """Whether this is not the CPU: every operation is a launch, and each transfer may wait for those before it."""
    return device.type != "cpu"


def free_bytes(device: torch.device) -> float:
    """The free memory of an accelerator; infinite for the CPU, and where the device shares the CPU's (MPS)."""
    ask = getattr(getattr(torch, device.type, None), "mem_get_info", None)
    return ask(device)[0] if ask is not None else math.inf


def backend_of(device: torch.device) -> str:
    """The torch.distributed backend for ranks on such a device: nccl for cuda, gloo for the CPU."""
    return get_default_backend_for_device(device)
