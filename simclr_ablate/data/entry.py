"""What the cache keeps about a folder of the user's, and may use for as long as that folder is the same."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simclr_ablate.data.listing import tell_once
from simclr_ablate.data.stamps import Moment, Stamp, moment_of, unchanged
from simclr_ablate.files import StorageError, report_damage, storing, write_atomically

_DIGEST = hashlib.sha256().digest_size


class Kept(NamedTuple):
    """What an entry holds: a JSON object and arrays."""

    about: dict[str, Any]
    arrays: list[NDArray[Any]]


@dataclass(frozen=True)
class Entry:
    """A file of the cache that is about the folder `root`."""

    path: Path
    root: Path

    def read(self) -> Kept | None:
        """What was kept, unless it is missing or damaged, or one of its stamps has changed."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return None
        kept = _parse(content)
        if kept is None:
            report_damage(self.path, "its digest does not match")
            return None
        return kept if unchanged(self.root, kept.about["stamps"]) else None

    def begin(self) -> Moment | None:
        """The moment from which stamps must show any change. Call it before the first stamp is taken.

        None, which is logged, if the cache cannot be written.
        """
        folder = self.path.parent
        try:
            with storing(folder, "cache"):
                folder.mkdir(parents=True, exist_ok=True)
            return moment_of(folder)
        except StorageError as error:
            self._tell(error)
            return None

    def write(
        self,
        begun: Moment | None,
        stamps: Mapping[str, Stamp] | None,
        about: Mapping[str, Any],
        arrays: Sequence[NDArray[Any]] = (),
    ) -> bool:
        """Keeps `about` and `arrays`, unless the stamps would not show a change; returns whether it did.

        begun: what `begin` returned. stamps: by path relative to the root; None: they do not cover everything.
        """
        if begun is None or stamps is None or not begun.follows(stamps.values()):
            return False
        kept = {name: stamp.kept() for name, stamp in stamps.items()}
        content = _content({**about, "stamps": kept}, arrays)
        try:
            write_atomically(self.path, lambda file: file.write(content))
        except StorageError as error:
            self._tell(error)
            return False
        return True

    def _tell(self, error: StorageError) -> None:
        tell_once(self.root, f"its files are listed again by the next command: {error}")


def _content(about: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> bytes:
    """The content of a file: the SHA-256 of the rest, which any damage changes; then JSON; then the arrays."""
    stream = io.BytesIO()
    for array in (np.frombuffer(json.dumps(about).encode(), np.uint8), *arrays):
        np.save(stream, array, allow_pickle=False)
    content = stream.getvalue()
    return hashlib.sha256(content).digest() + content


def _parse(content: bytes) -> Kept | None:
    """What `_content` made a file of; None if it is damaged."""
    rest = memoryview(content)[_DIGEST:]
    if hashlib.sha256(rest).digest() != content[:_DIGEST]:
        return None
    stream, arrays = io.BytesIO(rest), []
    while stream.tell() < len(rest):
        arrays.append(np.load(stream, allow_pickle=False))
    return Kept(json.loads(arrays[0].tobytes()), arrays[1:])
