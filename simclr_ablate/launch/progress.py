"""The progress of runs, for people: live on a terminal, plain lines elsewhere.

It reads what runs write into the store, so it works for every launcher.
"""

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from simclr_ablate.plan.plan import PlannedRun
from simclr_ablate.schema import METRIC_NAMES, main_metric
from simclr_ablate.terminal import count

LIVE_SECONDS = 0.5
PLAIN_SECONDS = 30.0


class ProgressView:
    """One line per running experiment, and counts of those that are done, failed or left."""

    def __init__(self, console: Console, total: int, done: int) -> None:
        self._console = console
        self._total = total
        self._done_before = done
        self._completed: list[PlannedRun] = []
        self._failed: list[PlannedRun] = []
        self._start = time.monotonic()
        self._starts: dict[PlannedRun, float] = {}
        self._durations: list[float] = []
        self._shown = 0.0
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.update(Text(""), refresh=True)
            self._live.stop()

    def say(self, text: str) -> None:
        """Prints a line above the live part."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def expect(self, more: int, done: int) -> None:
        """Adds `more` runs to the total, of which `done` are done."""
        self._total += more
        self._done_before += done

    def started(self, planned: PlannedRun) -> None:
        self._starts[planned] = time.monotonic()
        if not self._live:
            self.say(f"started   {planned.label}")

    def completed(self, planned: PlannedRun) -> None:
        self._completed.append(planned)
        parts = [f"done      {planned.label}", headline(planned)]
        start = self._starts.pop(planned, None)
        if start is not None:  # None: another command's run
            self._durations.append(time.monotonic() - start)
            parts.append(duration(self._durations[-1]))
        parts.append(f"[{self._finished()}/{self._total}]")
        self.say("  ".join(parts))

    def failed(self, planned: PlannedRun, reason: str) -> None:
        self._failed.append(planned)
        self._starts.pop(planned, None)
        self.say(f"failed    {planned.label}  {reason}")

    def held(self, planned: PlannedRun) -> None:
        self._starts.pop(planned, None)
        owner, submission = planned.task.holder(), planned.task.submission()
        if owner is None and submission is not None:
            self.say(f"waiting   {planned.label}  queued as job {submission['job']}")
            return
        where = f" (process {owner['pid']} on {owner['host']})" if owner else ""
        self.say(f"waiting   {planned.label}  another command is running it{where}")

    def stopping(self, running: int) -> None:
        if running:
            self.say(f"stopping: waiting for {count(running, 'running experiment')} to save ...")

    def update(self, active: list[PlannedRun], waiting: int, elsewhere: int) -> None:
        """Shows how far the active runs are. It is rate-limited, so call it as often as you like."""
        now = time.monotonic()
        if now - self._shown < (LIVE_SECONDS if self._live else PLAIN_SECONDS):
            return
        self._shown = now
        progress = {planned: planned.task.progress() for planned in active}
        if self._live:
            self._live.update(self._picture(progress, waiting, elsewhere), refresh=True)
        else:
            for planned, current in progress.items():
                if current and now - self._starts.get(planned, now) > 1:
                    self.say(f"running   {planned.label}  {' '.join(columns(current))}")
            left = self._seconds_left(progress, waiting)
            if left is not None:
                self.say(
                    f"left      {count(waiting + len(active), 'experiment')}, about {duration(left)}"
                )

    def _picture(
        self, progress: dict[PlannedRun, dict[str, Any]], waiting: int, elsewhere: int
    ) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for planned, current in progress.items():
            bar = ProgressBar(total=1.0, completed=current.get("fraction", 0.0), width=20)
            table.add_row(Text(planned.label, style="bold"), bar, *columns(current))
        counts = Text.assemble(
            (f"{self._finished()} done", "green"),
            ", ",
            (f"{len(self._failed)} failed", "red" if self._failed else ""),
            f", {len(progress)} running, {waiting} left",
            f", {elsewhere} run by another command" if elsewhere else "",
            f"   {duration(time.monotonic() - self._start)} so far",
        )
        left = self._seconds_left(progress, waiting)
        if left is not None:
            counts.append(f", about {duration(left)} left")
        whole = ProgressBar(
            total=max(1, self._total), completed=self._finished() + len(self._failed), width=40
        )
        overall = Table.grid(padding=(0, 2))
        overall.add_row(whole, counts)
        return Group(table, overall)

    def _finished(self) -> int:
        return self._done_before + len(self._completed)

    def _seconds_left(
        self, progress: dict[PlannedRun, dict[str, Any]], waiting: int
    ) -> float | None:
        """Estimated from the durations of finished runs; without any, from the active runs' own estimates."""
        if self._durations and progress:
            each = sum(self._durations) / len(self._durations)
            done_part = sum(map(_done_part, progress.values()))
            return max(0.0, each * (waiting + len(progress) - done_part) / len(progress))
        if waiting == 0 and progress:
            estimates = [current.get("seconds_left") for current in progress.values()]
            known = [estimate for estimate in estimates if estimate is not None]
            return max(known) if len(known) == len(estimates) else None
        return None


def _done_part(progress: dict[str, Any]) -> float:
    """Roughly how much of a run is done; reading data and evaluating take little of it."""
    if "step" in progress:
        return float(progress.get("fraction", 0.0))
    return float(progress.get("phase") in _LATE)


_LATE = ("evaluating", "complete")


def columns(progress: dict[str, Any]) -> list[str]:
    """A run's progress as the cells of its line, as far as it was written."""
    if not progress:
        return ["starting"]
    if "step" not in progress:
        return [progress["phase"]]
    cells = [] if progress["phase"] == "pretraining" else [progress["phase"]]
    cells += [
        f"{name} {progress[name]}/{progress[f'{name}s']}"
        for name in ("epoch", "step")
        if name in progress and f"{name}s" in progress
    ]
    if "loss" in progress:
        cells.append("loss -" if progress["loss"] is None else f"loss {progress['loss']:.3f}")
    if "lr" in progress:
        cells.append(f"lr {progress['lr']:.2g}")
    for seen in ("pairs", "images"):
        if f"{seen}_per_second" in progress:
            cells.append(f"{progress[f'{seen}_per_second']:,.0f} {seen}/s")
    if progress.get("seconds_left") is not None:
        cells.append(f"{duration(progress['seconds_left'])} left")
    return cells


def headline(planned: PlannedRun) -> str:
    """The main metric of a finished run, as text."""
    evaluation = planned.run.evaluation(planned.evaluation_key)
    if evaluation is None:
        return ""
    spec, metrics = planned.experiment.evaluation, evaluation["metrics"]
    of_data = {"data.metric": planned.experiment.evaluated_data.metric}
    main = main_metric({"protocol": spec.protocol}, of_data) or next(iter(metrics))
    named = METRIC_NAMES.get(main, main)
    if spec.protocol == "probe":
        named = f"probe for {spec.probe}"
    elif spec.protocol != "linear":
        named = f"{spec.protocol} {named}"
    return f"{named} {metrics[main]:.1f} %"


def duration(seconds: float) -> str:
    """`42 s`, `3:05 min`, `2:07 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
