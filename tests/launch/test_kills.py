"""A run killed at any change that it makes to a file comes to the same bits the next time, and leaves no litter."""

import importlib
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from simclr_ablate.launch import worker
from simclr_ablate.plan.plan import make_plan
from simclr_ablate.status import main
from simclr_ablate.store import Run, Store
from tests.commands import assert_same, results
from tests.small_runs import SMALL

pytestmark = pytest.mark.slow

CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.utime"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


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


def serve(requests: Connection) -> None:
    """Forks a process for each request, with all that it needs imported; answers how it ended."""
    importlib.import_module("simclr_ablate.tasks.evaluate")
    torch.set_num_threads(1)
    with suppress(EOFError):
        while True:
            arguments = requests.recv()
            child = os.fork()
            if not child:
                _exit_after(*arguments)
            requests.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _exit_after(job: worker.Job, killed_at: int | None, counted: Path | None) -> NoReturn:
    status: Any = 1
    try:
        carry_out(job, killed_at, counted)
    except SystemExit as ending:
        status = ending.code
    finally:
        os._exit(status)


@pytest.fixture(scope="module")
def server() -> Iterator[Connection]:
    """Forks processes that have all imported: see `serve`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2]))  # for it to import this module
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,))
        process.start()
    theirs.close()
    yield ours
    ours.close()
    process.join(30)


@pytest.fixture
def attempt(
    server: Connection, make_experiment: Callable[..., Any], cache: Path, tmp_path: Path
) -> Callable[..., tuple[Run, int]]:
    """`attempt(store, killed_at, overrides=...)`: the run, and the status of the process that worked on it."""

    def build(
        store: Path,
        killed_at: int | None = None,
        counted: Path | None = None,
        overrides: Sequence[str] = (),
    ) -> tuple[Run, int]:
        plan = make_plan([make_experiment(*SMALL, *overrides)], Store(store), None, str(cache))
        (planned,) = plan.runs
        server.send((worker.Job.of(plan, planned, str(cache), 1, device="cpu"), killed_at, counted))
        assert server.poll(120)
        return planned.run, server.recv()

    return build


def test_a_run_killed_at_any_change_of_a_file_comes_to_the_same_bits(
    attempt: Callable[..., tuple[Run, int]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, status = attempt(tmp_path / "whole", counted=tmp_path / "changes")
    assert status == worker.Status.COMPLETE
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
        assert status == worker.Status.COMPLETE, killed_at
        assert_same(again, expected)
        assert contents(again) == files, killed_at
    assert not caplog.records  # to no reader a kill is damage


OTHERS = (".experiment.json.", ".lease.", ".clock.")
"""Unfinished files that the next holder leaves alone for an hour: those who do not hold the run write them too."""


def contents(run: Run) -> set[str]:
    """The files of a run, hidden ones too; a lease's number says how many attempts there were."""
    paths = [path for path in run.path.rglob("*") if path.is_file()]
    names = {str(path.relative_to(run.path)) for path in paths if not path.name.startswith(OTHERS)}
    return {re.sub(r"lease\.\d+$", "lease", name) for name in names}


PROTOCOLS = {
    "linear_sgd": ("evaluation.epochs=2", "evaluation.batch_size=16"),
    "few_labels": ("evaluation.labels=0.5", "evaluation.epochs=4", "evaluation.batch_size=8"),
    "finetune": (
        *("evaluation.steps=3", "evaluation.batch_size=16", "evaluation.decay_count=0"),
        *("evaluation.lr_count=2", "evaluation.lr_min=0.01"),
    ),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_evaluation_killed_ten_times_comes_to_the_same_bits(
    protocol: str, attempt: Callable[..., tuple[Run, int]], tmp_path: Path
) -> None:
    """At random changes of files, between any two of which there is a step at most."""
    overrides = (f"evaluation={protocol}", *PROTOCOLS[protocol])
    pretrained = tmp_path / "pretrained"
    run, _ = attempt(pretrained)
    for store in ("whole", "killed"):
        shutil.copytree(pretrained, tmp_path / store)
    whole, status = attempt(tmp_path / "whole", None, tmp_path / "changes", overrides)
    assert status == worker.Status.COMPLETE
    changes = int((tmp_path / "changes").read_text())
    kills = 0
    while kills < 10:
        killed, status = attempt(
            tmp_path / "killed", random.randint(1, max(2, changes // 4)), None, overrides
        )
        kills += status == -signal.SIGKILL
        if status == worker.Status.COMPLETE:  # it has come to the end: once more from the start
            assert_same_evaluation(killed, whole, protocol)
            shutil.rmtree(tmp_path / "killed")
            shutil.copytree(pretrained, tmp_path / "killed")
    killed, status = attempt(tmp_path / "killed", None, None, overrides)
    assert status == worker.Status.COMPLETE
    assert_same_evaluation(killed, whole, protocol)
    assert contents(killed) == contents(whole)
    assert killed.encoder_path.read_bytes() == run.encoder_path.read_bytes()


def assert_same_evaluation(killed: Run, whole: Run, protocol: str) -> None:
    (key,) = [key for key in whole.evaluations() if key.startswith(protocol.replace("_", "-"))]
    one, other = killed.evaluation(key), whole.evaluation(key)
    assert one is not None
    assert other is not None
    assert one["metrics"] == other["metrics"]
    examples, expected = killed.evaluating(key).examples(), whole.evaluating(key).examples()
    assert examples is not None
    assert expected is not None
    assert examples.keys() == expected.keys()
    for name, rows in examples.items():
        assert np.array_equal(rows, expected[name]), name
