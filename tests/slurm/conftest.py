"""A real SLURM for the tests: `make test-slurm` starts one; elsewhere they are skipped."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import run_process, user_environment
from tests.shared import warm_cache
from tests.slowly import SLOW

STEPS = [SLOW, "optimizer.epochs=9"]
"""Runs of 90 steps, which take more than nine seconds: long enough to be disturbed."""
ON_SLURM = ["launcher=slurm", "launcher.cpus=1", "launcher.memory_gb=2", "launcher.time_minutes=30"]


def slurm(*command: str) -> str:
    """What a command of SLURM's prints. None of them may wait for ever."""
    done = subprocess.run(
        [*command], capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL
    )
    return done.stdout


def eventually(condition: Callable[[], object], what: str, seconds: float = 180) -> None:
    """Waits for `condition()` to be true; SLURM's own waits have no bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}\n{slurm('squeue')}"
        time.sleep(0.2)


@pytest.fixture(scope="package", autouse=True)
def cluster() -> Iterator[str]:
    """The folder of the cluster that the tests may disturb; it has two CPUs. SLURM's commands reach it here alone."""
    folder = os.environ.get("SIMCLR_ABLATE_TEST_SLURM")
    if not folder:
        pytest.skip("no cluster: SIMCLR_ABLATE_TEST_SLURM is not set, which `make test-slurm` does")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
        yield folder


@pytest.fixture(autouse=True)
def _empty_queue(cluster: str) -> None:
    """Each test begins with the queue empty."""
    jobs = slurm("squeue", "--noheader", "--format=%A").split()
    if jobs:
        slurm("scancel", *set(jobs))
        eventually(lambda: not slurm("squeue", "--noheader"), "an empty queue")


@pytest.fixture(scope="package")
def environment(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    found = user_environment(warm_cache(tmp_path_factory))
    found["PYTHONPATH"] = str(Path(__file__).parents[2])  # for jobs to find the slow loss
    # Tracing would make the jobs half as slow again, and jobs that are killed leave no trace.
    return {name: value for name, value in found.items() if not name.startswith("COVERAGE_")}


@pytest.fixture(scope="package")
def undisturbed(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the sweep that the tests disturb, as one machine carries it out without a cluster."""
    store = tmp_path_factory.mktemp("undisturbed")
    status, output = run_process(
        environment, store, "-m", "seed=0,1,2", *STEPS, "launcher.parallel=3"
    )
    assert status == 0, output
    return store
