"""An array of images on disk that is being decoded: a process that is killed leaves what it has done to the next."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from simclr_ablate.data.cache import IMAGES, reserve_array
from simclr_ablate.data.decode import pixel_digest

_ROW, _DIGEST = 8, 16
"""Bytes of a row's number and of its digest in the journal."""


class Partial:
    """Images, uint8 (N, 3, size, size), in a folder with a journal of the rows that are there.

    The journal has the digest of each row. A row counts as done if its pixels match, so that what a crash of the
    machine did not write is decoded again. The caller makes sure that no other process fills the same folder.
    """

    def __init__(self, folder: Path, count: int, size: int) -> None:
        self.folder, self.shape = folder, (count, 3, size, size)
        self.images, self.journal = folder / IMAGES, folder / "done"
        self.offset = 0
        """Where the first image begins in the file."""

    def begin(self) -> list[int]:
        """Makes the file, or goes on with the one that is there; returns the rows that are left. Raises OSError."""
        done = set(self._done()) if self._fits() else None
        if done is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            self.offset = reserve_array(self.images, self.shape)
            return list(range(self.shape[0]))
        return [row for row in range(self.shape[0]) if row not in done]

    def note(self, decoded: Sequence[tuple[int, bytes, str | None]]) -> None:
        """Adds to the journal rows that are in the file, as `decode_rows` returns them."""
        with open(self.journal, "ab") as file:
            file.write(b"".join(row.to_bytes(_ROW) + digest for row, digest, _ in decoded))

    def finish(self, target: Path) -> None:
        """Moves the file of images to `target`, and removes the rest."""
        os.rename(self.images, target)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _fits(self) -> bool:
        """Whether there is a file with room for these images; finds where they begin."""
        try:
            with open(self.images, "rb") as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    return False
                shape, _, _ = np.lib.format.read_array_header_1_0(file)
                self.offset = file.tell()
        except (OSError, ValueError):
            return False
        whole = self.offset + int(np.prod(self.shape, dtype=np.int64))
        return shape == self.shape and self.images.stat().st_size == whole

    def _done(self) -> Iterator[int]:
        """The rows in the journal whose pixels match."""
        try:
            content = self.journal.read_bytes()
        except OSError:
            return
        entry = _ROW + _DIGEST
        with open(self.images, "rb") as file:
            for start in range(0, len(content) - entry + 1, entry):
                row = int.from_bytes(content[start : start + _ROW])
                digest = content[start + _ROW : start + entry]
                if row < self.shape[0] and self._digest(file, row) == digest:
                    yield row

    def _digest(self, file: BinaryIO, row: int) -> bytes:
        length = int(np.prod(self.shape[1:]))
        file.seek(self.offset + row * length)
        return pixel_digest(file.read(length))
