"""A run killed at any change that it makes to a file comes to the same bits when given again, and leaves no litter."""

import dataclasses
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simclr_ablate.launch import worker
from simclr_ablate.launch.plan import make_plan
from simclr_ablate.status import main
from simclr_ablate.store import Run, Store
from tests.commands import assert_same, results

CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

RUN = [
    "data.limit=128",
    "data.validation=100",
    "optimizer.batch_size=64",
    "optimizer.epochs=1",
    "optimizer.warmup_epochs=0",
    "evaluation.l2_count=2",
    "evaluation.knn=5",
    "compute.checkpoint_minutes=0",
]
"""Two steps, with a checkpoint after each."""


def carry_out(job: worker.Job, killed_at: int | None, counted: Path | None) -> None:
    """The worker's process; SIGKILL ends it before its `killed_at`-th change of a file of the store.

    counted: where to note how many there were.
    """
    changes = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        writes = event in CHANGES or (event == "open" and arguments[2] & WRITING)
        if not writes or not str(arguments[0]).startswith(job.store):
            return
        changes += 1
        if changes == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        worker.work(job)
    finally:
        if counted is not None:
            counted.write_text(str(changes))


@pytest.fixture
def attempt(
    make_experiment: Callable[..., Any], cache: Path, tmp_path: Path, monkeypatch: Any
) -> Callable[..., tuple[Run, int]]:
    """`attempt(store, killed_at)`: the run in `store`, and the status of the process that worked on it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))  # for it to import this module
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["simclr_ablate.experiment"])
    experiment = make_experiment(*RUN)

    def build(
        store: Path, killed_at: int | None = None, counted: Path | None = None
    ) -> tuple[Run, int]:
        plan = make_plan([experiment], Store(store), None, str(cache))
        (planned,) = plan.runs
        job = plan.job(planned, str(cache), 1, device="cpu")
        job = dataclasses.replace(job, store=str(store))
        process = context.Process(target=carry_out, args=(job, killed_at, counted))
        process.start()
        process.join(120)
        assert process.exitcode is not None
        return planned.run, process.exitcode

    return build


@pytest.mark.slow
def test_a_run_killed_at_any_change_of_a_file_comes_to_the_same_bits(
    attempt: Callable[..., tuple[Run, int]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, status = attempt(tmp_path / "whole", counted=tmp_path / "changes")
    assert status == worker.COMPLETE
    expected, files = results(whole), contents(whole)
    changes = int((tmp_path / "changes").read_text())
    assert changes > 30
    for killed_at in range(1, changes + 1):
        store = tmp_path / f"killed{killed_at}"
        _, status = attempt(store, killed_at)
        assert status == -signal.SIGKILL, killed_at
        if store.exists():
            assert main([f"store={store}"]) == 0
        again, status = attempt(store)
        assert status == worker.COMPLETE, killed_at
        assert_same(again, expected)
        assert contents(again) == files, killed_at
    assert not caplog.records  # to no reader a kill is damage


OTHERS = (".experiment.json.", ".claim.")
"""Unfinished files that the next holder leaves alone for an hour: those who do not hold the run write them too."""


def contents(run: Run) -> set[str]:
    """The files of a run, hidden ones too; a claim's number says how many attempts there were."""
    paths = [path for path in run.path.rglob("*") if path.is_file()]
    names = {str(path.relative_to(run.path)) for path in paths if not path.name.startswith(OTHERS)}
    return {"claim" if name.startswith("claim.") else name for name in names}
