"""The devices of this machine, counted without loading torch into the command, which may fork later."""

import functools
import os
import subprocess
import sys
from pathlib import Path

from simclr_ablate.config import ConfigError
from simclr_ablate.launch.resources import ranks_of, resources_of
from simclr_ablate.plan.launchers import LauncherOptions, SlurmOptions
from simclr_ablate.schema import Experiment

_SIGNS = ("/dev/nvidia*", "/proc/driver/nvidia/gpus/*", "/dev/kfd", "/dev/dxg")
"""A machine with a GPU has at least one of these: the driver of NVIDIA, of AMD, or of Windows in WSL."""

_COUNT = "import torch; print(torch.cuda.device_count())"
_SECONDS = 120.0


def gpu_count() -> int:
    """The number of GPUs that torch finds here; CUDA_VISIBLE_DEVICES means what it means to torch.

    Torch is asked once, in another process, and only if the machine has a sign of a GPU.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible is not None and visible.strip() in ("", "-1")
    if hidden or not any(any(Path("/").glob(sign[1:])) for sign in _SIGNS):
        return 0
    return _torch_count(visible)


@functools.cache
def _torch_count(visible: str | None) -> int:
    """The number of GPUs that torch finds. visible: CUDA_VISIBLE_DEVICES, on which the answer depends."""
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _COUNT], capture_output=True, text=True, timeout=_SECONDS
        )
        return int(asked.stdout.split()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return 0


def check_devices(experiment: Experiment, launcher: LauncherOptions, shared: bool = False) -> None:
    """Raises ConfigError if the experiment asks for devices that do not exist where it runs.

    launcher: for a cluster, only its rules are checked, because its nodes have other devices than this machine.
    shared: whether torchrun started the run's processes, and thus set the number of ranks.
    """
    compute, ranks = experiment.compute, 1
    if isinstance(launcher, SlurmOptions):
        resources = resources_of(experiment, launcher)
        if launcher.cluster == "slurm":
            return
        ranks = ranks_of(experiment, resources.gpus)
    elif not shared:
        ranks = ranks_of(experiment)
    if compute.device.startswith("cuda"):
        _check_device(compute.device)
    elif compute.device == "cpu" or ranks == 1:
        return
    count = gpu_count()
    if count and ranks > count:
        raise ConfigError(f"compute.ranks must be <= {count}, the number of GPUs here, got {ranks}")


def _check_device(device: str) -> None:
    count = gpu_count()
    if not count:
        raise ConfigError(
            f"compute.device must be auto or cpu if torch finds no GPU, got {device!r}"
        )
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        last = f"cuda:{count - 1}"
        raise ConfigError(
            f"compute.device must be auto, cpu, cuda or at most {last}, the last GPU here, got {device!r}"
        )
