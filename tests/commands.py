"""The command, in processes of its own or in this one, on runs of seconds; and what must not depend on its course."""

import contextlib
import io
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from simclr_ablate.__main__ import main
from simclr_ablate.store import Run, Store
from tests.warm import Command

TINY = [
    "data.limit=320",
    "data.validation=50",
    "optimizer.batch_size=32",
    "optimizer.epochs=3",
    "evaluation.l2_count=2",
    "evaluation.knn=5",
    "compute.threads=1",
    "compute.checkpoint_minutes=0",
    "tracker.every=1",
]

SMALL_STEPS = ["optimizer=sgd", "optimizer.lr=0.00002"]
"""With small steps, differences in rounding stay small too."""

T = TypeVar("T")
Results = tuple[dict[str, Any], str, list[Any], list[dict[str, float]]]


def user_environment(cache: Path) -> dict[str, str]:
    """The process environment of a user whose decoded images lie in `cache`."""
    return {**os.environ, "SIMCLR_ABLATE_CACHE": str(cache), "COLUMNS": "200"}


def arguments_of(store: Path, *arguments: str) -> list[str]:
    """TINY, changed by `arguments`; flags first: Python's parser takes no options between the overrides."""
    flags = list(itertools.takewhile(lambda argument: "=" not in argument, arguments))
    return [*flags, f"store={store}", *TINY, *arguments[len(flags) :]]


def start(
    environment: Mapping[str, str], store: Path, *arguments: str, folder: Path | None = None
) -> Command:
    """Starts the command on TINY, changed by `arguments`, in `folder` or here, in a process that has all loaded."""
    return Command(arguments_of(store, *arguments), environment, folder)


def start_python(
    environment: Mapping[str, str], store: Path, *arguments: str, folder: Path | None = None
) -> subprocess.Popen[str]:
    """Starts the same in a new Python: `python -m simclr_ablate`."""
    return subprocess.Popen(
        [sys.executable, "-m", "simclr_ablate", *arguments_of(store, *arguments)],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_process(
    environment: Mapping[str, str],
    store: Path,
    *arguments: str,
    folder: Path | None = None,
    python: bool = False,
    seconds: float = 300,
) -> tuple[int, str]:
    """Exit status and output of either, once it has ended, which may take so many seconds."""
    begin = start_python if python else start
    process = begin(environment, store, *arguments, folder=folder)
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode is not None
    return process.returncode, output


def run(environment: Mapping[str, str], store: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and output of the same in this process, whose fork server has torch loaded after the first time."""
    told = io.StringIO()
    status = _run_here(environment, arguments_of(store, *arguments), told, told)
    return status, told.getvalue()


def run_apart(environment: Mapping[str, str], *words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    return _run_here(environment, words, out, err), out.getvalue(), err.getvalue()


def _run_here(
    environment: Mapping[str, str], words: Sequence[str], out: io.StringIO, err: io.StringIO
) -> int:
    GlobalHydra.instance().clear()
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", ["simclr_ablate", *words]),
        mock.patch.object(sys, "path", sys.path.copy()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


SELECTING = """
name: pick
seeds: [0, 1]
select:
  seed: 9
  over: [loss.temperature]
  metric: validation_top1
  grids:
    - head: [none, linear]
      loss.temperature: [0.1, 0.5]
grids:
  - objective: none
    views: none
"""
"""A sweep of two stages, smallest: four candidates for two winners, and the random encoder beside."""


def own_sweeps(folder: Path, **sweeps: str) -> list[str]:
    """Writes sweeps, as YAML, into `folder`; returns the flags with which the command finds them."""
    (folder / "sweep").mkdir(parents=True, exist_ok=True)
    for name, text in sweeps.items():
        (folder / f"sweep/{name}.yaml").write_text(text)
    return ["-m", "--config-dir", str(folder)]


def only_run(store: Path) -> Run:
    """The one run in the store."""
    (found,) = Store(store).runs()
    return found


def logs(found: Run) -> str:
    """What all tasks of the run have logged."""
    return "".join(task.log_path.read_text() for task in found.tasks())


def eventually(condition: Callable[[], T], what: str, seconds: float = 120) -> T:
    """What `condition()` returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return value


def wait_for_step(store: Path, step: int) -> Run:
    """The first run that has come to `step`."""

    def come_so_far() -> Run | None:
        runs = Store(store).runs()
        return next((run for run in runs if run.progress().get("step", 0) >= step), None)

    found = eventually(come_so_far, f"a run at step {step}")
    assert found is not None
    return found


def results(found: Run) -> Results:
    """All that must not depend on interruptions: weights, history, metrics, and those of steps."""
    weights = found.weights()
    metrics = [evaluation["metrics"] for evaluation in found.evaluations().values()]
    return weights, found.history_path.read_text(), metrics, steps(found)


def steps(found: Run) -> list[dict[str, float]]:
    """The metrics of its steps, without time, speed and memory."""
    machine = ("time", "_per_second", "_gb")
    lines = found.metrics.read()
    return [{n: value for n, value in line.items() if not n.endswith(machine)} for line in lines]


def assert_same(found: Run, expected: Results) -> None:
    """The run's results are `expected`, bit for bit."""
    weights, history, metrics, steps = results(found)
    for part, tensors in expected[0].items():
        for name, tensor in tensors.items():
            assert torch.equal(weights[part][name], tensor), name
    assert history == expected[1]
    assert metrics == expected[2]
    assert steps == expected[3]


def assert_close(shared: Run, alone: Run) -> None:
    """Loss and entropy closely; what is counted, and changes with one image, loosely."""
    ours, theirs = (pd.read_csv(found.history_path) for found in (shared, alone))
    assert list(ours["epoch"]) == list(theirs["epoch"])
    for column in ("loss", "entropy"):
        np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-3)
    (one,), (other,) = shared.evaluations().values(), alone.evaluations().values()
    assert one["metrics"]["test_images"] == other["metrics"]["test_images"]
    for metric in ("top1", "top5", "knn_top1"):
        assert abs(one["metrics"][metric] - other["metrics"][metric]) < 3
