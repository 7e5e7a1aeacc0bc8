"""Packs in the place of a store: unpacked into a temporary folder, which knows the file that it came from."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simclr_ablate.files import storing
from simclr_ablate.store.pack import Pack, is_pack

_ORIGIN = ".pack"
"""The file in a temporary folder that names the pack, as the user did."""


@contextmanager
def opened(store: Path) -> Iterator[Path]:
    """The folder of a store inside: `store` itself or, for a pack, a temporary folder.

    Raises PackError, StorageError.
    """
    if not is_pack(store):
        yield store
        return
    with storing(tempfile.gettempdir(), "TMPDIR"):
        folder = tempfile.TemporaryDirectory(prefix="simclr_ablate-")
    with folder:
        root = Path(folder.name) / "runs"
        with Pack(store) as pack:
            pack.check()
            pack.extract(root)
        (root / _ORIGIN).write_bytes(os.fsencode(store))
        yield root


def origin(store: Path) -> str | None:
    """The pack that the folder `store` was made of, as the user named it; None for any other store."""
    try:
        return os.fsdecode((store / _ORIGIN).read_bytes())
    except OSError:
        return None
