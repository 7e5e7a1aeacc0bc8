"""Jobs that a real SLURM has taken, and of which the command that submitted them could not tell."""

import os
import shutil
from pathlib import Path

import pytest

from simclr_ablate.store import Store
from tests.commands import run_process
from tests.slurm.conftest import ON_SLURM, eventually, slurm
from tests.slurm.test_slurm import job_of, wait_until_done

RUNS = ["-m", *ON_SLURM, "seed=0,1", "optimizer.epochs=1"]
KILLED = "kill -9 $PPID"
TIMED_OUT = "echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1"


@pytest.fixture
def after_sbatch(environment, tmp_path):
    """`after_sbatch(what)`: an environment in which sbatch submits, says nothing, and does `what`."""

    def build(what: str) -> dict[str, str]:
        folder = tmp_path / "programs"
        folder.mkdir()
        path = folder / "sbatch"
        path.write_text(f'#!/bin/sh\n{shutil.which("sbatch")} "$@" > /dev/null\n{what}\n')
        path.chmod(0o755)
        return {**environment, "PATH": f"{folder}:{os.environ['PATH']}"}

    return build


def jobs_in_all() -> int:
    """How many jobs SLURM has been given that still wait or run."""
    return len(slurm("squeue", "--noheader", "--array", "--format=%i").split())


@pytest.mark.parametrize("arguments", [RUNS, [*RUNS, "seed=0"]])
def test_a_killed_command_leaves_jobs_that_the_next_one_finds(
    environment, after_sbatch, tmp_path: Path, arguments
) -> None:
    slurm("scontrol", "update", "nodename=ALL", "state=drain", "reason=test")  # so that all wait
    try:
        store = tmp_path / "runs"
        status, _ = run_process(after_sbatch(KILLED), store, *arguments)
        assert status == -9
        jobs = jobs_in_all()
        status, output = run_process(environment, store, *arguments)
        assert status == 0, output
        assert "queued or running already" in output
        assert jobs_in_all() == jobs, "some were submitted twice"
    finally:
        slurm("scontrol", "update", "nodename=ALL", "state=resume")
    wait_until_done(store)
    for run in Store(store).runs():
        index = job_of(run).partition("_")[2]
        assert index in ("", str(run.config()["seed"])), "a job carried out another's run"
        assert run.log_path.read_text().count("pretraining from step") == 1


def test_a_lost_answer_of_sbatchs_is_looked_for(environment, after_sbatch, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    status, output = run_process(after_sbatch(TIMED_OUT), store, *RUNS)
    assert status == 0, output
    assert "submitted 2 experiments as job" in output
    wait_until_done(store)
    eventually(lambda: jobs_in_all() == 0, "an empty queue")


def test_from_inside_an_allocation(environment, tmp_path: Path) -> None:
    """What it has set would ask for more memory than there is, if sbatch heard of it."""
    inside = {"SLURM_JOB_ID": "1", "SLURM_MEM_PER_CPU": "9999999", "SLURM_NTASKS": "99"}
    store = tmp_path / "runs"
    status, output = run_process({**environment, **inside}, store, *RUNS)
    assert status == 0, output
    wait_until_done(store)
