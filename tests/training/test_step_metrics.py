"""The metrics of single steps: those that the step itself gives, at the steps that were asked for."""

import dataclasses
import json
import mmap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simclr_ablate.device import memory_in_use
from simclr_ablate.schema import Experiment
from simclr_ablate.store.metrics import MetricsFile
from simclr_ablate.training.loop import Loop, NonFiniteLossError
from simclr_ablate.training.step_metrics import StepMetrics
from tests.small_runs import SMALL, loop_of

IMAGES, BATCH, EPOCHS = 64, 16, 3
STEPS = IMAGES // BATCH * EPOCHS
KEYS = (*SMALL, f"optimizer.epochs={EPOCHS}", "optimizer.warmup_epochs=1")


def recorded(
    experiment: Experiment,
    path: Path,
    every: int,
    after_step: Callable[[Loop], object] = lambda loop: None,
) -> tuple[Loop, list[dict[str, float]]]:
    loop = loop_of(experiment, IMAGES, torch.device("cpu"))
    loop.recorder = StepMetrics(MetricsFile(path / "metrics.jsonl"), every, loop)
    try:
        loop.run(after_step)
    finally:
        loop.recorder.write()
    return loop, loop.recorder.file.read()


@pytest.mark.parametrize("every", [1, 3, 5, 100])
def test_lines_are_what_their_steps_measured(make_experiment, tmp_path, every) -> None:
    experiment = make_experiment(*KEYS)
    noted: list[tuple[float, ...]] = []

    def note(loop: Loop) -> None:
        # The learning rate that the optimiser has used.
        (rate,) = {group["lr"] for group in loop.optimizer.param_groups}
        row = loop._unseen[-1].tolist() if loop._unseen else None
        noted.append((row, rate))

    loop, lines = recorded(experiment, tmp_path, every, note)
    due = [step for step in range(1, STEPS + 1) if step % every == 0 or step == STEPS]
    assert [line["step"] for line in lines] == due
    for line in lines:
        step = int(line["step"])
        row, rate = noted[step - 1]
        assert line["epoch"] == (step - 1) // (IMAGES // BATCH) + 1
        assert line["lr"] == pytest.approx(rate, rel=1e-5)
        if row is not None:  # else the epoch's end has fetched it
            assert [line[n] for n in ("loss", "accuracy", "entropy")] == pytest.approx(
                row, rel=1e-5
            )
    if every == 1:
        for epoch in loop.history:
            of_epoch = [line for line in lines if line["epoch"] == epoch["epoch"]]
            for name in ("loss", "accuracy", "entropy"):
                mean = sum(line[name] for line in of_epoch) / len(of_epoch)
                assert mean == pytest.approx(epoch[name], rel=1e-5)


def test_supervised_steps_have_no_entropy(make_experiment, tmp_path) -> None:
    _, lines = recorded(make_experiment(*KEYS, "objective=supervised"), tmp_path, 1)
    measured = {"step", "epoch", "time", "loss", "accuracy", "lr", "images_per_second", "memory_gb"}
    assert {frozenset(line) for line in lines} == {frozenset(measured)}


def test_the_speed_is_that_since_the_last_look(make_experiment, tmp_path) -> None:
    """Steps that are slowed down to a tenth of a second each."""
    begin = time.perf_counter()
    _, lines = recorded(make_experiment(*KEYS), tmp_path, 1, lambda loop: time.sleep(0.1))
    seconds = time.perf_counter() - begin
    of_epochs = [
        line["pairs_per_second"] for line in lines if line["step"] % (IMAGES // BATCH) == 0
    ]
    assert sum(IMAGES / speed for speed in of_epochs) == pytest.approx(seconds, rel=0.2)
    assert max(of_epochs) < BATCH / 0.1 * 4 / 3  # the first epoch's last step is not slowed yet


def test_memory_is_what_the_system_says() -> None:
    """Pages of the system's own: those of an array may be ones that the process freed before."""
    before = memory_in_use(torch.device("cpu"))["memory"]
    with mmap.mmap(-1, 2**26) as block:
        for page in range(0, 2**26, mmap.PAGESIZE):
            block[page] = 1
        grown = memory_in_use(torch.device("cpu"))["memory"] - before
    assert 0.8 < grown / 2**26 < 1.5


def test_a_loop_that_diverges_leaves_the_steps_before(make_experiment, tmp_path) -> None:
    experiment = make_experiment(*KEYS)
    wild = dataclasses.replace(experiment.optimizer, name="sgd", lr=1e30, warmup_epochs=0.0)
    with pytest.raises(NonFiniteLossError, match=r"at step \d of"):
        recorded(dataclasses.replace(experiment, optimizer=wild), tmp_path, 1)
    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert 0 < len(lines) < STEPS
    assert "NaN" not in text


def test_it_takes_next_to_nothing_of_a_step(make_experiment, tmp_path) -> None:
    """The CPU time of a line is below 2% of that of a step at scale=laptop, which takes a fifth of a second."""
    loop = loop_of(make_experiment(*KEYS), IMAGES, torch.device("cpu"))
    recorder = StepMetrics(MetricsFile(tmp_path / "metrics.jsonl"), 1, loop)
    begin = time.process_time()
    for step in range(200):
        recorder.add(step % STEPS, [[1.0, 0.5, 2.0]])
        recorder.write()
    assert (time.process_time() - begin) / 200 < 0.02 * 0.2
