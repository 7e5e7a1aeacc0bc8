"""The accelerators of this machine, asked of torch without loading it into the command, which may fork later."""

import functools
import importlib.metadata
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simclr_ablate.config import ConfigError
from simclr_ablate.cores import available_cores
from simclr_ablate.launch.resources import ranks_of, resources_of
from simclr_ablate.plan.launchers import LauncherOptions, SlurmOptions
from simclr_ablate.schema import Experiment
from simclr_ablate.terminal import count

_SIGNS = ("/dev/nvidia*", "/proc/driver/nvidia/gpus/*", "/dev/kfd", "/dev/dxg")
"""A machine with a GPU has at least one of these: the driver of NVIDIA, of AMD, or of Windows in WSL."""
_VISIBLE = (
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
)
"""Variables that hide devices from torch."""

_ASK = """
import json, torch
kind = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else ""
module = getattr(torch, kind, None)
count = torch.accelerator.device_count() if kind else 0
name = getattr(module, "get_device_name", lambda _: "Apple GPU")
properties = getattr(module, "get_device_properties", None)
memory = [properties(k).total_memory if properties else 0 for k in range(count)]
print(json.dumps([kind, [name(k) for k in range(count)], memory]))
"""
_SECONDS = 120.0


@dataclass(frozen=True)
class Accelerators:
    """What torch finds on a machine.

    kind: torch's name for their type: cuda (ROCm's too), mps or xpu; empty if there are none.
    memory: of each, in bytes; 0 where the device does not say.
    problem: why torch could not be asked, if so.
    """

    kind: str = ""
    names: tuple[str, ...] = ()
    memory: tuple[int, ...] = ()
    problem: str | None = None

    @property
    def devices(self) -> list[str]:
        """Torch's names of the devices, such as `cuda:0`."""
        return [f"{self.kind}:{index}" for index in range(len(self.names))]

    def describe(self) -> str:
        """In words: `2 x NVIDIA H100`, or the CPU."""
        if self.names:
            return ", ".join(
                f"{number} x {name}" if number > 1 else name
                for name, number in Counter(self.names).items()
            )
        why = f" (torch could not look for others: {self.problem})" if self.problem else ""
        return f"CPU, {count(available_cores(), 'core')}{why}"


def accelerators() -> Accelerators:
    """The accelerators that torch finds here; the variables that hide devices mean what they mean to torch.

    Torch is asked once, in another process, and only if there may be one.
    """
    if not _may_exist():
        return Accelerators()
    return _asked(tuple(os.environ.get(name) for name in _VISIBLE))


def _may_exist() -> bool:
    # Torch for Intel's GPUs is a package of its own.
    if sys.platform == "darwin" or "+xpu" in importlib.metadata.version("torch"):
        return True
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible is not None and visible.strip() in ("", "-1")
    return not hidden and any(any(Path("/").glob(sign[1:])) for sign in _SIGNS)


@functools.cache
def _asked(visible: tuple[str | None, ...]) -> Accelerators:
    """What torch says. visible: the variables on which the answer depends."""
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _ASK], capture_output=True, text=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Accelerators(problem=str(error))
    try:
        kind, names, memory = json.loads(asked.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (asked.stderr or asked.stdout).strip().splitlines()[-1:]
        return Accelerators(problem=last[0] if last else f"exit status {asked.returncode}")
    return Accelerators(kind, tuple(names), tuple(memory))


def devices_for(experiment: Experiment, found: Accelerators) -> list[str]:
    """The devices that `compute.device` allows, of those that there are: `cpu`, or accelerators by number."""
    asked = experiment.compute.device
    if asked == "auto":
        return found.devices or ["cpu"]
    if asked == found.kind:
        return found.devices
    return [asked]


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
    needs_graphs = compute.compile == "graphs"
    if compute.device == "cpu" or (compute.device == "auto" and ranks == 1 and not needs_graphs):
        return
    found = accelerators()
    if needs_graphs and found.kind != "cuda":
        raise ConfigError(
            f"compute.compile must be off or default here, where torch finds {found.describe()} "
            "and CUDA graphs are not, got 'graphs'"
        )
    if compute.device != "auto":
        _check_device(compute.device, found)
    if found.names and ranks > len(found.names):
        raise ConfigError(
            f"compute.ranks must be <= {len(found.names)}, the number of GPUs here, got {ranks}"
        )


def _check_device(device: str, found: Accelerators) -> None:
    if device in (found.kind, *found.devices):
        return
    accepted: Sequence[str] = ["auto", "cpu"]
    if found.kind:
        accepted = [*accepted, found.kind, *found.devices]
    why = f": torch could not look for others: {found.problem}" if found.problem else ""
    raise ConfigError(
        f"compute.device must be one of {', '.join(accepted)} here, where torch finds "
        f"{found.describe() if found.names else 'no GPU'}, got {device!r}{why}"
    )
