"""Work on one table of runs, shared among processes, since drawing takes most of the time."""

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
    """Starts loading `modules` in the background, for the processes that will work on `tasks` tasks."""
    if _processes(tasks) > 1:
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))
        forkserver.ensure_running()


def apply(tasks: Mapping[str, Task], runs: "pd.DataFrame") -> Iterator[tuple[str, Any]]:
    """Yields each task's name and its result on `runs`, in order, with as many processes as there are cores.

    Tasks and results must be picklable, since they travel between processes.
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
    # What is loaded by now stays. Otherwise, the collector would go through all of it again and again.
    gc.freeze()


def _call(task: Task) -> Any:
    return task(_runs)
