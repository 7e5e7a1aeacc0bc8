"""Protocols that train, shared by two processes: they come to what one process comes to, however often it changes."""

import dataclasses
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.evaluation.protocol import Result, Subject
from simclr_ablate.launch import worker
from simclr_ablate.plan.plan import make_plan
from simclr_ablate.ranks import SOLO, Ranks
from simclr_ablate.schema import Data, Experiment
from simclr_ablate.store import EvaluationFolder, Run, Store
from tests.commands import only_run
from tests.small_runs import SMALL, SignalledAfter, shades

TRAINING, TEST = 150, 1100
COMMON = (
    *SMALL,
    f"data.name={__name__}:images",
    "data.validation=50",
    # So that scores are kept for all classes.
    "data.metric=map11",
    # Without a pool, whose maximum may be either of two by rounding.
    "encoder.stem=strided",
    # Which two ranks share unevenly.
    "evaluation.batch_size=25",
)
PROTOCOLS = {
    "linear_sgd": ("evaluation.lr=2", "evaluation.epochs=2"),
    "few_labels": ("evaluation.lr=0.5", "evaluation.labels=0.5", "evaluation.epochs=4"),
    # The second learning rate diverges, so that rounding has no say in which is chosen.
    "finetune": (
        *("evaluation.steps=7", "evaluation.decay_count=0", "evaluation.lr_count=2"),
        *("evaluation.lr_min=0.02", "evaluation.lr_max=1.0e30"),
    ),
}
STEPS = 8
"""The steps of linear_sgd and few_labels. The eighth step of finetune is the first of its second loop, still finite."""

TOLERANCE = 2e-5
"""For logits, whose standard deviation is about 0.1: in 75 runs, sums in another order differed by 6e-7 at most."""


def images(data: Data) -> tuple[ImageSet, ImageSet]:
    """Shades with three batches of test images."""
    return shades(data, TRAINING, TEST)


def carry_out(
    ranks: Ranks, jobs: list[worker.Job], steps: list[int | None], whom: int = 0
) -> list[int]:
    """How each job ended for this rank. After so many steps of each, rank `whom` alone is asked to stop.

    ReLU is SiLU: rounding takes a ReLU at its edge to either side, which tells nothing of ranks.
    """
    endings = []
    for job, step in zip(jobs, steps, strict=True):
        asked = step if ranks.index == whom else None
        with mock.patch.object(nn, "ReLU", nn.SiLU), SignalledAfter(asked) as stop:
            endings.append(worker.carry_out_job(job, stop, ranks).status)
    return endings


TO_THE_END: list[int | None] = [None] * len(PROTOCOLS)


@pytest.fixture(scope="module")
def jobs_in(
    make_experiment: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Path, int], list[worker.Job]]:
    """`jobs_in(store, 2)`: an evaluation of each protocol, all of one encoder, by two ranks."""
    cache, seed = str(tmp_path_factory.mktemp("cache")), random.randrange(2**31)

    def build(store: Path, count: int) -> list[worker.Job]:
        more = (*COMMON, f"seed={seed}", f"data.seed={seed}", f"compute.ranks={count}")
        experiments = [
            make_experiment(f"evaluation={protocol}", *more, *keys)
            for protocol, keys in PROTOCOLS.items()
        ]
        plan = make_plan(experiments, Store(store), None, cache)
        return [worker.Job.of(plan, planned, cache, 1, device="cpu") for planned in plan.runs]

    return build


@pytest.fixture(scope="module")
def alone(
    jobs_in: Callable[[Path, int], list[worker.Job]], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """The encoder, and what one process makes of it."""
    store, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    jobs = [dataclasses.replace(job, keeps_log=False) for job in jobs_in(store, 1)]
    assert carry_out(SOLO, jobs, TO_THE_END) == [worker.Status.COMPLETE] * len(jobs)
    torch.set_num_threads(threads)
    return only_run(store)


def pretrained(alone: Run, store: Path) -> Run:
    """The same encoder in another store, without evaluations."""
    shutil.copytree(alone.path.parent, store)
    found = only_run(store)
    shutil.rmtree(found.path / "evaluations")
    return found


def assert_same_up_to_rounding(shared: Run, alone: Run) -> None:
    ours, theirs = shared.evaluations(), alone.evaluations()
    assert list(ours) == list(theirs), "the number of ranks is no part of an evaluation's key"
    for key, metrics in ((key, found["metrics"]) for key, found in theirs.items()):
        one, other = (found.evaluating(key).examples() for found in (shared, alone))
        assert one is not None
        assert other is not None
        assert np.array_equal(one["label"], other["label"])
        for name in ("scores", "score"):
            np.testing.assert_allclose(one[name], other[name], rtol=0, atol=TOLERANCE)
        (predicted,) = np.take_along_axis(other["scores"], one["prediction"][:, None], 1).T
        tied = other["scores"].max(1) - predicted
        assert tied.max() < 2 * TOLERANCE, "only where scores tie another class may be predicted"
        moved = 100 * float((one["prediction"] != other["prediction"]).mean())
        histories = [pd.read_csv(found.evaluating(key).history_path) for found in (shared, alone)]
        losses, accuracies = zip(*((h["loss"], h["accuracy"]) for h in histories), strict=True)
        np.testing.assert_allclose(*losses, rtol=1e-4)
        np.testing.assert_allclose(
            *accuracies, rtol=0, atol=0.05
        )  # an image or two that all but tie
        # An average precision moves where images that all but tie change places.
        slack = {"top1": moved + 1e-9, "map11": 2, "validation_map11": 2}
        assert ours[key]["metrics"].keys() == metrics.keys()
        for name, value in metrics.items():
            assert abs(ours[key]["metrics"][name] - value) <= slack.get(name, 0), (key, name)


def wait_for_the_first(subject: Subject) -> Result:
    """A protocol whose first rank is asked to stop while the others wait for it, where they hear no signal."""
    if subject.ranks.count > 1:
        seconds = 0.5 if subject.ranks.is_first else 0.2
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM)).start()
        if subject.ranks.is_first:
            time.sleep(60)
        subject.ranks.from_first(None)
    return Result({"top1": 0.0}, {})


wait_for_the_first.needs = "network"  # type: ignore[attr-defined]


def test_a_rank_that_waits_for_one_that_stops_stops_too(
    on_ranks: Callable, jobs_in: Callable, alone: Run, tmp_path: Path
) -> None:
    """Each is asked to, the one outside a training loop, where it stops at once."""
    pretrained(alone, tmp_path / "store")
    (job, *_) = jobs_in(tmp_path / "store", 2)
    job.config["evaluation"]["protocol"] = f"{__name__}:{wait_for_the_first.__name__}"
    assert on_ranks(2, carry_out, [job], [None]) == [[worker.Status.INTERRUPTED]] * 2


@pytest.mark.slow
def test_two_ranks_come_to_what_one_process_does(
    on_ranks: Callable, jobs_in: Callable, alone: Run, tmp_path: Path
) -> None:
    shared = pretrained(alone, tmp_path / "store")
    endings = on_ranks(2, carry_out, jobs_in(tmp_path / "store", 2), TO_THE_END)
    assert endings == [[worker.Status.COMPLETE] * len(PROTOCOLS)] * 2
    assert_same_up_to_rounding(shared, alone)


@pytest.mark.slow
def test_evaluations_go_on_with_another_number_of_ranks(
    on_ranks: Callable, jobs_in: Callable, alone: Run, tmp_path: Path
) -> None:
    """Both ranks stop where one is asked to; one process goes on, is stopped, and two go on from there."""
    changed = pretrained(alone, tmp_path / "store")
    stopped = [worker.Status.INTERRUPTED] * len(PROTOCOLS)
    begun = [random.randint(1, STEPS - 1) for _ in PROTOCOLS]
    jobs = jobs_in(tmp_path / "store", 2)
    assert on_ranks(2, carry_out, jobs, begun, random.randrange(2)) == [stopped] * 2
    more = [random.randint(1, STEPS - step) for step in begun]
    assert on_ranks(1, carry_out, jobs_in(tmp_path / "store", 1), more) == [stopped]
    complete = [worker.Status.COMPLETE] * len(PROTOCOLS)
    assert on_ranks(2, carry_out, jobs, TO_THE_END) == [complete] * 2
    assert_same_up_to_rounding(changed, alone)
    for task in changed.tasks():
        if isinstance(task, EvaluationFolder):
            log = task.log_path.read_text()
            assert log.count("evaluating as") == 3
            loops = 3 if "finetune" in task.name else 1
            assert log.count("training from step 0 of") == loops, "it has begun anew"
