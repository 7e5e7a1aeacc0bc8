"""Results that need a run's weights: computed once, then kept in the cache, beside the decoded images."""

import hashlib
import inspect
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simclr_ablate.files import StorageError, write_atomically
from simclr_ablate.paths import default_cache
from simclr_ablate.store import Run

Arrays = Mapping[str, NDArray[Any]]


def with_weights(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs that still have their encoder and head."""
    there = {path: Run(Path(path)).is_pretrained() for path in set(runs["path"])}
    return runs[runs["path"].map(there).astype(bool)]


def load_weights(run: Run) -> dict[str, Any]:
    """The tensors of a run's encoder and head, by name. Raises ValueError if they are damaged or cannot be read."""
    return run.weights()


def cache_folder() -> Path:
    """The folder for results that take long to compute. It is missing if it cannot be made."""
    folder = Path(default_cache()).expanduser() / "analysis"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def kept(run: Run, name: str, compute: Callable[[Run], Arrays]) -> Arrays:
    """The arrays that `compute` makes of the run's weights, from the cache if it has them.

    They are cached under the size and time of the file of weights, and the source of the module of `compute`.
    """
    file = run.encoder_path.stat()
    code = Path(inspect.getfile(compute)).read_text(encoding="utf-8")
    stamp = f"{run.path.resolve()} {file.st_size} {file.st_mtime_ns} {code}"
    digest = hashlib.sha256(stamp.encode()).hexdigest()[:10]
    path = cache_folder() / f"{name}-{run.run_id}-{digest}.npz"
    with (
        suppress(OSError, ValueError, EOFError, zipfile.BadZipFile),
        np.load(path, allow_pickle=False) as stored,
    ):
        return dict(stored)
    arrays: dict[str, Any] = dict(compute(run))
    with suppress(StorageError):  # computed again next time
        write_atomically(path, lambda stream: np.savez(stream, **arrays))
    return arrays
