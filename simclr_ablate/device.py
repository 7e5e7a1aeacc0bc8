"""What devices have in common: the CPU, and accelerators as torch knows them (CUDA, which ROCm is too, MPS, XPU)."""

import math
import os

import torch
from torch.distributed import get_default_backend_for_device
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices


def set_arithmetic(deterministic: bool = False, tf32: bool | None = None) -> None:
    """How this process computes from now on, on CUDA (which ROCm is too); see `compute.deterministic` and `tf32`.

    Matrix products are never TF32: views and losses are made of them. A CPU computes as before.
    """
    if deterministic:
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # cuBLAS reads it when it starts
    torch.use_deterministic_algorithms(deterministic)
    # It need not be filled: nothing reads it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = not deterministic if tf32 is None else tf32


def is_accelerator(device: torch.device) -> bool:
    """Whether this is not the CPU: every operation is a launch, and each transfer may wait for those before it."""
    return device.type != "cpu"


def free_bytes(device: torch.device) -> float:
    """The free memory of an accelerator; infinite for the CPU, and where the device shares the CPU's (MPS)."""
    ask = getattr(getattr(torch, device.type, None), "mem_get_info", None)
    return ask(device)[0] if ask is not None else math.inf


def has_fused_optimizers(device: torch.device) -> bool:
    """Whether torch's optimisers can update all parameters in one kernel there."""
    return device.type in _get_fused_kernels_supported_devices()


def backend_of(device: torch.device) -> str:
    """The torch.distributed backend for ranks on such a device: nccl for cuda, gloo for the CPU."""
    return get_default_backend_for_device(device)
