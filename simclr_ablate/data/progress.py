"""Progress of long work: sent to a report function if there is one, else a bar on a terminal, else plain log lines."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from simclr_ablate.manner import is_quiet

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.5

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is in total."""

_reports: list[Report] = []


@contextlib.contextmanager
def reporting(report: Report) -> Iterator[None]:
    """Sends progress inside to `report`: a run's process has no terminal, but a place in the store."""
    _reports.append(report)
    try:
        yield
    finally:
        _reports.remove(report)


@contextlib.contextmanager
def show_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`, to be called when `n` more of `total` are done."""
    if _reports:
        yield _report_often(_reports[-1], what, total)
        return
    console = Console(stderr=True, quiet=is_quiet())
    if not console.is_terminal:
        yield _tell_tenths(what, total, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.advance(task, n)


def _report_often(report: Report, what: str, total: int) -> Callable[[int], None]:
    done, reported = 0, time.monotonic()
    report(what, done, total)

    def advance(n: int) -> None:
        nonlocal done, reported
        done += n
        if done >= total or time.monotonic() - reported >= REPORT_SECONDS:
            report(what, done, total)
            reported = time.monotonic()

    return advance


def _tell_tenths(what: str, total: int, console: Console) -> Callable[[int], None]:
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        before, done = done, done + n
        if done * 10 // max(total, 1) > before * 10 // max(total, 1):
            line = f"{what}: {done} of {total}"
            if log.isEnabledFor(logging.INFO):
                log.info("%s", line)
            else:  # there is no log while a run is being planned
                console.print(line, highlight=False, markup=False)

    return advance
