"""Results that take long to compute: computed once, then kept in the cache, beside the decoded images."""

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simclr_ablate.files import StorageError, write_atomically
from simclr_ablate.store import derived

Arrays = Mapping[str, NDArray[Any]]


def cache_folder() -> Path:
    """The folder for results that take long to compute. It is missing if it cannot be made."""
    folder = derived.cache_folder()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def kept_under(name: str, stamp: str, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays that `compute` makes, from the cache if it has them.

    name: the beginning of the file's name. stamp: all that the arrays depend on.
    """
    digest = hashlib.sha256(stamp.encode("utf-8", "surrogateescape")).hexdigest()[:10]
    path = cache_folder() / f"{name}-{digest}.npz"
    with (
        suppress(OSError, ValueError, EOFError, zipfile.BadZipFile),
        np.load(path, allow_pickle=False) as stored,
    ):
        return dict(stored)
    arrays: dict[str, Any] = dict(compute())
    with suppress(StorageError):  # computed again next time
        write_atomically(path, lambda stream: np.savez(stream, **arrays))
    return arrays
