"""The metrics of single steps, on their way from a loop to the run's `metrics.jsonl`."""

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from simclr_ablate.device import memory_in_use
from simclr_ablate.store.metrics import Metrics, MetricsFile

if TYPE_CHECKING:
    from simclr_ablate.training.loop import Loop

_DIGITS = 6


class StepMetrics:
    """Collects the metrics of a loop's steps and writes those of every `every`-th, and of the last.

    The loop hands them over whenever it fetches them from the device, which it does about once a second anyway. Time,
    speed and memory are measured then, for all steps since the time before.
    """

    def __init__(self, file: MetricsFile, every: int, loop: "Loop") -> None:
        """Removes the lines of steps that the loop will do again. Raises StorageError."""
        self.file, self.every, self.loop = file, every, loop
        self._lines: list[Metrics] = []
        self._since = time.perf_counter()
        file.cut(loop.step)

    def add(self, first: int, rows: Sequence[Sequence[float]]) -> None:
        """Takes the metrics of the steps after step `first`, in order."""
        now = time.perf_counter()
        elapsed, self._since = now - self._since, now
        due = [
            (step, row)
            for step, row in enumerate(rows, first + 1)
            if (step % self.every == 0 or step == self.loop.total_steps) and math.isfinite(row[0])
        ]
        if not due:
            return
        loop = self.loop
        speed = len(rows) * loop.training.optimizer.batch_size / max(elapsed, 1e-9)
        clock = round(time.time(), 3)
        beside = {f"{loop.SEEN}_per_second": speed, **_gigabytes(loop.training.device)}
        for step, row in due:
            named = zip(loop.step_metrics, row, strict=True)
            measured = {name: value for name, value in named if math.isfinite(value)}
            line = {**measured, "lr": loop.lr_of(step), **beside}
            epoch = (step - 1) // loop.steps_per_epoch + 1
            place = {"step": step, "epoch": epoch, "time": clock}
            self._lines.append({**place, **{name: _rounded(v) for name, v in line.items()}})

    def write(self, durably: bool = False) -> None:
        """Writes what was collected. durably: see `MetricsFile.append`. Raises StorageError."""
        self.file.append(self._lines, durably)
        self._lines.clear()


def _gigabytes(device: torch.device) -> dict[str, float]:
    return {f"{name}_gb": size / 1e9 for name, size in memory_in_use(device).items()}


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
