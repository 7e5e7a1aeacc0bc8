"""A command knows the machine's devices without loading torch, and refuses what it does not have."""

import subprocess
import sys

import pytest

from simclr_ablate.config import ConfigError
from simclr_ablate.launch import devices
from simclr_ablate.launch.devices import check_devices, gpu_count
from simclr_ablate.plan.launchers import LocalOptions, SlurmOptions

LOCAL = LocalOptions(name="local", parallel=None, memory_gb=1.0, runs_per_gpu=1)


def slurm(cluster: str) -> SlurmOptions:
    return SlurmOptions(
        name="slurm",
        cluster=cluster,
        follow=False,
        max_parallel=None,
        nodes=1,
        gpus=0,
        cpus=1,
        memory_gb=None,
        time_minutes=10,
        resources=(),
        partition=None,
        account=None,
        qos=None,
        constraint=None,
        signal_seconds=60,
        setup=(),
        sbatch={},
    )


def test_gpus_are_those_that_torch_finds(monkeypatch) -> None:
    """Whatever is visible: the driver is asked once by a process, so torch is by forks that have not asked it."""
    visible = [None, "-1", "0"]
    code = """
import os, torch
for visible in VISIBLE:
    if os.fork() == 0:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
        print(torch.cuda.device_count(), flush=True)
        os._exit(0)
    os.wait()
"""
    code = code.replace("VISIBLE:", f"{visible}:")
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    monkeypatch.setattr(devices, "_SIGNS", (*devices._SIGNS, "/proc/self"))  # so that it is asked
    found = []
    for each in visible:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if each is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", each)
        found.append(gpu_count())
    assert found == list(map(int, asked.stdout.split()))


def test_looking_for_devices_loads_no_torch() -> None:
    code = (
        "import sys; from simclr_ablate.launch.devices import gpu_count; gpu_count(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("there", "overrides", "message"),
    [
        (0, ["compute.device=cuda"], "compute.device must be auto or cpu if torch finds no GPU"),
        (2, ["compute.device=cuda:7"], "at most cuda:1, the last GPU here, got 'cuda:7'"),
        (2, ["compute.ranks=4"], "compute.ranks must be <= 2, the number of GPUs here, got 4"),
        (2, ["compute.ranks=4", "compute.device=cuda"], "compute.ranks must be <= 2"),
    ],
)
def test_devices_that_are_not_there_are_refused(
    there, overrides, message, monkeypatch, make_experiment
) -> None:
    monkeypatch.setattr(devices, "gpu_count", lambda: there)
    experiment = make_experiment(*overrides)
    for launcher in (LOCAL, slurm("local")):
        with pytest.raises(ConfigError, match=message):
            check_devices(experiment, launcher)
    # Of a cluster's nodes, the machine that submits knows nothing.
    check_devices(experiment, slurm("slurm"))


@pytest.mark.parametrize(
    ("there", "overrides"),
    [
        (0, ["compute.ranks=4"]),
        (0, []),
        (2, ["compute.device=cuda:1"]),
        (2, ["compute.device=cpu", "compute.ranks=4"]),
    ],
)
def test_devices_that_are_there_are_not(there, overrides, monkeypatch, make_experiment) -> None:
    monkeypatch.setattr(devices, "gpu_count", lambda: there)
    check_devices(make_experiment(*overrides), LOCAL)
