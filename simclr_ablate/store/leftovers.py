"""What killed processes leave in a store: unfinished files, and checkpoints of complete tasks."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from simclr_ablate.files import StorageError, age_of, names_in, target_of, temporary_files
from simclr_ablate.store.records import owner_of
from simclr_ablate.store.tensors import load

OLD_SECONDS = 3600.0
"""Nobody is writing an unfinished file of this age any more: writing takes seconds, or minutes for large weights."""

_HOLDERS = (
    *("progress.json", "history.csv", "pretraining.json", "encoder.pt", "timeouts.json"),
    *("attempts.json", "metrics.jsonl", "examples.npz"),
    "checkpoint.incoming.pt",
)
"""Files that only the holder of a task writes. Others too write leases, submissions and failures."""


def of_run(folder: Path) -> Iterator[Path]:
    """Files that earlier holders of the run left unfinished. For the holder only: others would get files in use."""
    for path in temporary_files(folder):
        if target_of(path) in _HOLDERS or _is_old(path):
            yield path
    yield from filter(_is_old, temporary_files(folder / "evaluations"))


def of_evaluation(folder: Path) -> Iterator[Path]:
    """`of_run` for the folder of an evaluation, including its result, which is written beside the folder."""
    yield from of_run(folder)
    for path in temporary_files(folder.parent):
        if target_of(path) == f"{folder.name}.json":
            yield path


def checkpoints_of(folder: Path) -> Iterator[Path]:
    """Checkpoints of a run if its pretraining is certainly complete: its encoder is whole, and is its own."""
    files = checkpoints_in(folder)
    with suppress(StorageError):
        if files and load(folder / "encoder.pt", owner_of(folder, "encoder"), needs_digest=True):
            yield from files


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints in a task's folder."""
    names = (name for name in names_in(folder) if re.fullmatch(r"checkpoint.*\.pt", name))
    return [folder / name for name in names]


def of_store(root: Path) -> Iterator[Path]:
    """Old unfinished files of a store outside its runs' folders."""
    for name in (".", ".sweeps", ".choices", ".submitting"):
        yield from filter(_is_old, temporary_files(root / name))
    # submitit leaves these while it writes what a requeued job will call.
    for folder in map((root / ".jobs").joinpath, names_in(root / ".jobs")):
        saved = (folder / name for name in names_in(folder) if name.endswith(".save_tmp"))
        yield from filter(_is_old, saved)


def clear(paths: Iterator[Path]) -> tuple[int, int]:
    """Removes those of the files that exist; returns how many, and their bytes."""
    count = size = 0
    for path in paths:
        with suppress(OSError):
            bytes_ = path.stat().st_size
            path.unlink()
            count, size = count + 1, size + bytes_
    return count, size


def _is_old(path: Path) -> bool:
    """Whether `path` is older than OLD_SECONDS, by the file system's clock, since old files are removed."""
    try:
        return age_of(path) > OLD_SECONDS
    except StorageError:
        return False
