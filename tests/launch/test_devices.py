"""A command knows the machine's devices without loading torch, and refuses what it does not have."""

import os
import subprocess
import sys

import pytest

from simclr_ablate.config import ConfigError
from simclr_ablate.launch import devices
from simclr_ablate.launch.devices import Accelerators, accelerators, check_devices
from simclr_ablate.plan.launchers import LocalOptions, SlurmOptions

LOCAL = LocalOptions(name="local", parallel=None, memory_gb=1.0, runs_per_gpu=None)


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
        python=None,
        use_srun=True,
        srun_args=(),
    )


def found(count: int, kind: str = "cuda") -> Accelerators:
    return Accelerators(kind, ("NVIDIA H100",) * count, (80 * 2**30,) * count)


@pytest.mark.slow
def test_accelerators_are_those_that_torch_finds(monkeypatch) -> None:
    """Whatever is visible: the driver is asked once by a process, so torch is by forks that have not asked it."""
    visible = [None, "-1"]
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
    counts = []
    for each in visible:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if each is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", each)
        assert accelerators().problem is None
        counts.append(len(accelerators().names))
    assert counts == list(map(int, asked.stdout.split()))


def test_looking_for_devices_loads_no_torch() -> None:
    code = (
        "import sys; from simclr_ablate.launch.devices import accelerators; accelerators(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cuda", "2 x NVIDIA A10, NVIDIA T4"),
        ("mps", "Apple GPU"),
        ("", "CPU, 4 cores"),
    ],
)
def test_what_torch_says_is_read(monkeypatch, tmp_path, kind: str, expected: str) -> None:
    """Another module stands for torch, as it is on a machine with these devices."""
    names = {"cuda": ["NVIDIA A10", "NVIDIA A10", "NVIDIA T4"], "mps": [], "": []}[kind]
    (tmp_path / "torch.py").write_text(
        f"""
class accelerator:
    is_available = staticmethod(lambda: {bool(kind)})
    current_accelerator = staticmethod(lambda: type("Device", (), {{"type": {kind!r}}}))
    device_count = staticmethod(lambda: {max(1, len(names))})
class cuda:
    get_device_name = staticmethod({names}.__getitem__)
    get_device_properties = staticmethod(lambda k: type("Of", (), {{"total_memory": 2**30 * (k + 1)}}))
class mps:
    pass
"""
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(devices, "_SIGNS", ("/proc/self",))
    devices._asked.cache_clear()
    asked = accelerators()
    assert asked.problem is None
    assert asked.describe() == expected
    assert asked.devices == [f"{kind}:{k}" for k in range(len(asked.names))]
    assert asked.memory == {"cuda": (2**30, 2**31, 3 * 2**30), "mps": (0,), "": ()}[kind]
    devices._asked.cache_clear()


def test_a_torch_that_cannot_be_asked_is_told(monkeypatch) -> None:
    monkeypatch.setattr(devices, "_SIGNS", ("/proc/self",))
    monkeypatch.setattr(devices, "_ASK", "raise OSError('libcudart.so is not there')")
    devices._asked.cache_clear()
    assert (
        accelerators()
        .describe()
        .endswith("(torch could not look for others: OSError: libcudart.so is not there)")
    )
    devices._asked.cache_clear()


@pytest.mark.parametrize(
    ("there", "overrides", "message"),
    [
        (0, ["compute.device=cuda"], "one of auto, cpu here, where torch finds no GPU, got 'cuda'"),
        (0, ["compute.device=mps"], "one of auto, cpu here, where torch finds no GPU, got 'mps'"),
        (
            2,
            ["compute.device=cuda:7"],
            "one of auto, cpu, cuda, cuda:0, cuda:1 here, where torch finds 2 x NVIDIA H100, "
            "got 'cuda:7'",
        ),
        (2, ["compute.device=xpu"], "where torch finds 2 x NVIDIA H100, got 'xpu'"),
        (2, ["compute.ranks=4"], "compute.ranks must be <= 2, the number of GPUs here, got 4"),
        (2, ["compute.ranks=4", "compute.device=cuda"], "compute.ranks must be <= 2"),
        (
            0,
            ["compute.compile=graphs"],
            "off or default here, where torch finds CPU, .*, got 'graphs'",
        ),
    ],
)
def test_devices_that_are_not_there_are_refused(
    there, overrides, message, monkeypatch, make_experiment
) -> None:
    monkeypatch.setattr(devices, "accelerators", lambda: found(there, "cuda" if there else ""))
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
        (2, ["compute.device=cuda"]),
        (2, ["compute.device=cpu", "compute.ranks=4"]),
        (2, ["compute.compile=graphs"]),
    ],
)
def test_devices_that_are_there_are_not(there, overrides, monkeypatch, make_experiment) -> None:
    monkeypatch.setattr(devices, "accelerators", lambda: found(there, "cuda" if there else ""))
    check_devices(make_experiment(*overrides), LOCAL)
