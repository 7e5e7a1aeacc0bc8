"""Jobs that start Python in another way, with a script that stands for a container."""

import sys
from pathlib import Path

import pytest

from simclr_ablate.store import Run, Store
from tests.commands import own_sweeps, run_process
from tests.slurm.conftest import ON_SLURM, slurm
from tests.slurm.test_second_stage import FEW, follow
from tests.slurm.test_slurm import (
    RARE_CHECKPOINTS,
    assert_as_undisturbed,
    assert_gone_on_with,
    at_step,
    block,
    job_of,
    seeds,
    submit,
    wait_until_done,
)


class Container:
    """A command that notes each of its calls and then becomes Python."""

    def __init__(self, folder: Path) -> None:
        self._notes = folder / "calls"
        self.command = folder / "a container"
        self.command.write_text(
            f'#!/bin/sh\necho "$1 $SLURM_JOB_NAME $FROM_SRUN" >> "{self._notes}"\nshift\n'
            f'exec {sys.executable} "$@"\n'
        )
        self.command.chmod(0o755)

    @property
    def option(self) -> str:
        return f"launcher.python=\"'{self.command}' image\""

    @property
    def calls(self) -> list[list[str]]:
        """The container's first argument, the name of its job, and what only srun was told."""
        return [line.split() for line in self._notes.read_text().splitlines()]


def output_of(run: Run) -> str:
    """What the run's job printed."""
    return Path(run.last_submission()["output"]).read_text()


@pytest.fixture
def container(tmp_path) -> Container:
    return Container(tmp_path)


def test_both_stages_and_the_job_between_run_in_the_container(
    environment, container, tmp_path
) -> None:
    store = Store(tmp_path / "store")
    status, output = run_process(
        environment,
        tmp_path / "store",
        *own_sweeps(tmp_path / "config", pick=FEW),
        *(*ON_SLURM, "sweep=pick", "optimizer.epochs=1", container.option),
        "launcher.srun_args=['--export=ALL,FROM_SRUN=yes']",
    )
    assert status == 0, output
    assert follow(store).splitlines()[-1] == "3 complete"
    names = [(image, name[: -len("-0123456789ab")], told) for image, name, told in container.calls]
    run, choice = ("image", "pick", "yes"), ("image", "pick-choice", "yes")
    assert names == [run, run, choice, run]


def test_without_srun_a_preempted_run_saves_and_goes_on(
    environment, container, tmp_path, undisturbed
) -> None:
    """SLURM's signal reaches Python, which the batch script has become."""
    store = tmp_path / "store"
    partition = "launcher.partition=preemptible"
    how = (container.option, "launcher.use_srun=false", partition, RARE_CHECKPOINTS)
    submit(environment, store, "seed=0,1", *how)
    runs = seeds(store)
    for run in runs.values():
        at_step(run, 8)
    block("--partition=debug", "--ntasks=2", seconds=3)
    wait_until_done(store)
    for run in runs.values():
        assert_gone_on_with(run)
        assert "Caught signal SIGUSR2" in output_of(run)
        steps = slurm("sacct", "-n", "-P", "-o", "JobID", "-j", job_of(run)).split()
        assert f"{job_of(run)}.batch" in steps
        assert f"{job_of(run)}.0" not in steps, "srun started something"
    assert [image for image, *_ in container.calls] == ["image"] * 4
    assert_as_undisturbed(store, undisturbed)
