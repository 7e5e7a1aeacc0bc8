"""Decodes many files into an array on disk, in several processes."""

import concurrent.futures
import itertools
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from simclr_ablate.config import ConfigError
from simclr_ablate.data.decode import decode_rows
from simclr_ablate.data.processes import naming_shared_memory, serve_parent, starting_processes

_FILES_PER_TASK = 64

_Task = tuple[Path, list[str], int, Path, int, list[int]]


def decode_files(
    root: Path,
    names: Sequence[str],
    rows: Sequence[int],
    size: int,
    target: Path,
    begin: int,
    workers: int,
) -> Iterator[list[tuple[int, bytes, str | None]]]:
    """Decodes the files `names[row]` under `root` into these rows of the array in `target`.

    Yields what `decode_rows` returns for some of them, in the order in which they are done; the array does not depend
    on the number of workers. Raises ConfigError if a worker is killed, and OSError.

    target, begin: see `decode_rows`. workers: number of processes that decode; below 2: this process decodes.
    """
    tasks: list[_Task] = []
    for start in range(0, len(rows), _FILES_PER_TASK):
        chunk = list(rows[start : start + _FILES_PER_TASK])
        tasks.append((root, [names[row] for row in chunk], size, target, begin, chunk))
    return _carry_out(tasks, workers)


def _carry_out(tasks: list[_Task], workers: int) -> Iterator[list[tuple[int, bytes, str | None]]]:
    """The results of `decode_rows` for every task, in the order in which they end."""
    if workers < 2 or len(tasks) < 2:
        yield from itertools.starmap(decode_rows, tasks)
        return
    with naming_shared_memory("run the command on one core (taskset -c 0)"):
        # Spawned: a fork would copy this process's locks in whatever state its threads have them.
        pool = concurrent.futures.ProcessPoolExecutor(
            min(workers, len(tasks)), multiprocessing.get_context("spawn"), serve_parent
        )
    try:
        with starting_processes():
            futures = [pool.submit(decode_rows, *task) for task in tasks]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise ConfigError(
            f"a process that decodes the images of {tasks[0][0]} was killed, perhaps because memory ran out: run the "
            f"command again, on fewer than {workers} cores (taskset) if there is too little memory for so many"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
