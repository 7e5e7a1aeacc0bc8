"""Files of tensors that carry their own digest: torch's format, with a SHA-256 of all that comes before at the end.

Whose a file is stands in it, so that one which was copied from another run is not taken for this one's.

torch's reader loads a file without complaint where the damage lies within a tensor; it does not mind the digest. Since
the digest is part of the file, one rename decides about both. Files written before digests were introduced end as
torch ends them, those written before owners name none, and both are read as they are.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from simclr_ablate.files import StorageError, storing, write_atomically
from simclr_ablate.store.records import BELONGS_TO

_DIGEST_BYTES = hashlib.sha256().digest_size
_CHUNK_BYTES = 2**20
# A zip archive begins with a local header, and ends with a record of 22 bytes where it has no comment.
_ZIP_BEGIN, _ZIP_END, _ZIP_END_BYTES = b"PK\x03\x04", b"PK\x05\x06", 22
_NO_TENSORS = "it holds something else than tensors and is not loaded"


class DamagedError(StorageError):
    """A file is not what was once written there: the message names it and says what is wrong."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} is damaged: {problem}")
        self.problem = problem


def save(path: Path, content: Mapping[str, Any], owner: str) -> None:
    """Writes `content` (tensors, plain containers) with its owner and its digest, atomically. Raises StorageError."""
    # Here, so that nothing else waits for torch.
    import torch

    def write(file: BinaryIO) -> None:
        hashing = _Hashing(file)
        torch.save({**content, BELONGS_TO: owner}, hashing)
        file.write(hashing.digest())

    write_atomically(path, write)


def load(path: Path, owner: str, needs_digest: bool = False) -> dict[str, Any]:
    """What `save` wrote for `owner`, on the CPU. Raises DamagedError, and StorageError where the system cannot read it.

    No code that a file may hold is run. needs_digest: whether a file without one is damaged.
    """
    has_digest = check(path)
    if needs_digest and not has_digest:
        raise DamagedError(path, "it has no digest")
    content = _load(path, has_digest)
    if not isinstance(content, dict):
        raise DamagedError(path, "it holds no names of what is in it")
    belongs_to = content.pop(BELONGS_TO, owner)
    if belongs_to != owner:
        raise DamagedError(path, f"it belongs to {belongs_to}")
    return content


def _load(path: Path, has_digest: bool) -> Any:
    import pickle

    import torch

    try:
        with storing(path):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DamagedError(path, _NO_TENSORS) from error
    except (StorageError, MemoryError):
        raise
    except Exception as error:
        if has_digest:
            check(path)  # torch hides what the system says: was it readable a moment ago alone?
        # Without a digest, only torch can say what is damaged; but not being able to have memory is no damage.
        if has_digest or "memory" in str(error):
            raise
        raise DamagedError(path, "it is cut short or changed") from error


def check(path: Path) -> bool:
    """Whether the file has a digest. Raises DamagedError where it does not match, and StorageError."""
    with storing(path):
        is_folder = path.is_dir()
    if is_folder:
        raise DamagedError(path, "it is a folder")
    digest = hashlib.sha256()
    with storing(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise DamagedError(path, "it is empty")
        if file.read(len(_ZIP_BEGIN)) != _ZIP_BEGIN:
            raise DamagedError(path, _NO_TENSORS)
        file.seek(max(0, size - _ZIP_END_BYTES))
        if file.read(len(_ZIP_END)) == _ZIP_END:
            return False
        file.seek(0)
        left = max(0, size - _DIGEST_BYTES)
        while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
        if file.read() != digest.digest():
            raise DamagedError(path, "its content does not match its digest")
    return True


class _Hashing:
    """A file that hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, content: Any) -> int:
        self._digest.update(content)
        return self._file.write(content)

    def digest(self) -> bytes:
        return self._digest.digest()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
