"""Work on one table of runs shared among processes: most of the time goes into drawing."""

import gc
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from typing import TYPE_CHECKING, Any

from simclr_ablate.cores import available_cores

if TYPE_CHECKING:
    import pandas as pd

Task = Callable[["pd.DataFrame"], Any]

_runs: "pd.DataFrame"


def prepare(tasks: int, modules: Sequence[str]) -> None:
    """Has `modules` loaded for the processes of `tasks` tasks to come, beside what goes on here."""
    if _processes(tasks) > 1:
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))
        forkserver.ensure_running()


def apply(tasks: Mapping[str, Task], runs: "pd.DataFrame") -> Iterator[tuple[str, Any]]:
    """Each task's name and what it makes of `runs`, in order, by as many processes as there are cores.

    Tasks and results travel between processes: they must be picklable.
    """
    processes = _processes(len(tasks))
    if processes < 2:
        yield from ((name, task(runs)) for name, task in tasks.items())
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(processes, context, _share, (runs,)) as executor:
        yield from zip(tasks, executor.map(_call, tasks.values()), strict=True)


def _processes(tasks: int) -> int:
    return min(available_cores(), tasks)


def _share(runs: "pd.DataFrame") -> None:
    global _runs
    _runs = runs
    # What is loaded by now stays: the collector would go through all of it again and again.
    gc.freeze()


def _call(task: Task) -> Any:
    return task(_runs)
