"""The command in processes of its own, on runs of seconds, and what must not depend on how a run got to its end."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from simclr_ablate.store import Run, Store

TINY = [
    "data.limit=640",
    "data.validation=100",
    "optimizer.batch_size=64",
    "optimizer.epochs=3",
    "evaluation.l2_count=2",
    "evaluation.knn=5",
    "compute.threads=1",
    "compute.checkpoint_minutes=0",
]

SMALL_STEPS = ["optimizer=sgd", "optimizer.lr=0.00002"]
"""With small steps, differences in rounding stay small too."""

Results = tuple[dict[str, Any], str, list[Any]]


def user_environment(cache: Path) -> dict[str, str]:
    """The process environment of a user whose decoded images lie in `cache`."""
    return {**os.environ, "SIMCLR_ABLATE_CACHE": str(cache), "COLUMNS": "200"}


def start(
    environment: Mapping[str, str], store: Path, *arguments: str, folder: Path | None = None
) -> subprocess.Popen[str]:
    """Starts `python -m simclr_ablate` on TINY, changed by `arguments`, in `folder` or here."""
    # Flags come first: Python's argument parser takes no options between the overrides.
    flags = list(itertools.takewhile(lambda argument: "=" not in argument, arguments))
    overrides = [f"store={store}", *TINY, *arguments[len(flags) :]]
    command = [sys.executable, "-m", "simclr_ablate", *flags, *overrides]
    return subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(
    environment: Mapping[str, str],
    store: Path,
    *arguments: str,
    seconds: float = 300,
    folder: Path | None = None,
) -> tuple[int, str]:
    """Exit status and output of the same, once it has ended, which may take so many seconds."""
    process = start(environment, store, *arguments, folder=folder)
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


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
"""A sweep of two stages, smallest: four trials for two winners, and the random encoder beside."""


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


def wait_for_step(store: Path, step: int) -> Run:
    """The first run that has come to `step`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for found in Store(store).runs():
            if found.progress().get("step", 0) >= step:
                return found
        time.sleep(0.02)
    raise AssertionError("the run never got there")


def results(found: Run) -> Results:
    """All that must not depend on interruptions: weights, history, metrics."""
    weights = found.weights()
    metrics = [evaluation["metrics"] for evaluation in found.evaluations().values()]
    return weights, found.history_path.read_text(), metrics


def assert_same(found: Run, expected: Results) -> None:
    """The run's results are `expected`, bit for bit."""
    weights, history, metrics = results(found)
    for part, tensors in expected[0].items():
        for name, tensor in tensors.items():
            assert torch.equal(weights[part][name], tensor), name
    assert history == expected[1]
    assert metrics == expected[2]


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
