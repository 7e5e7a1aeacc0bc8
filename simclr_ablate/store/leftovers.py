"""What killed processes leave in a store: files that were being written, and checkpoints of what is complete."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from simclr_ablate.files import StorageError, age_of, names_in, target_of, temporary_files
from simclr_ablate.store.records import owner_of
from simclr_ablate.store.tensors import load

OLD_SECONDS = 3600.0
"""An unfinished file of this age is nobody's any more: writing one takes seconds, of large weights minutes."""

_HOLDERS = (
    *("progress.json", "history.csv", "pretraining.json", "encoder.pt", "timeouts.json"),
    "examples.npz",
    "checkpoint.incoming.pt",
)
"""What only a run's holder writes into its folder; leases, submissions and failures are others' too."""


def of_run(folder: Path) -> Iterator[Path]:
    """What earlier holders of the run left unfinished. Only for its holder: for anybody else, files being written."""
    for path in temporary_files(folder):
        if target_of(path) in _HOLDERS or _is_old(path):
            yield path
    yield from filter(_is_old, temporary_files(folder / "evaluations"))


def of_evaluation(folder: Path) -> Iterator[Path]:
    """The same of one evaluation, whose result is written beside its folder."""
    yield from of_run(folder)
    for path in temporary_files(folder.parent):
        if target_of(path) == f"{folder.name}.json":
            yield path


def checkpoints_of(folder: Path) -> Iterator[Path]:
    """Checkpoints of a run whose pretraining is complete: without a doubt, for the encoder is whole and its own."""
    files = checkpoints_in(folder)
    with suppress(StorageError):
        if files and load(folder / "encoder.pt", owner_of(folder, "encoder"), needs_digest=True):
            yield from files


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints in a task's folder."""
    names = (name for name in names_in(folder) if re.fullmatch(r"checkpoint.*\.pt", name))
    return [folder / name for name in names]


def of_store(root: Path) -> Iterator[Path]:
    """The same of a store, outside of its runs' folders: what is old."""
    for name in (".", ".sweeps", ".choices", ".submitting"):
        yield from filter(_is_old, temporary_files(root / name))
    # submitit's, while it writes what a requeued job is to call.
    for folder in map((root / ".jobs").joinpath, names_in(root / ".jobs")):
        saved = (folder / name for name in names_in(folder) if name.endswith(".save_tmp"))
        yield from filter(_is_old, saved)


def clear(paths: Iterator[Path]) -> tuple[int, int]:
    """Removes files that are there; returns how many, and their bytes."""
    count = size = 0
    for path in paths:
        with suppress(OSError):
            bytes_ = path.stat().st_size
            path.unlink()
            count, size = count + 1, size + bytes_
    return count, size


def _is_old(path: Path) -> bool:
    """By the file system's clock, since it is removed if it is."""
    try:
        return age_of(path) > OLD_SECONDS
    except StorageError:
        return False
