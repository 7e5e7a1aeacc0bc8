"""Files of tensors with a digest: torch's format, followed by the SHA-256 of all that comes before.

A file names its owner, so a file that was copied from another run is not mistaken for this run's.

torch's reader does not notice damage inside a tensor, and ignores the digest. Since the digest is part of the file, one
rename decides about both. Files from before digests were introduced end as torch ends them, and those from before
owners name none; both are read as they are.
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
# A zip archive begins with a local header and, without a comment, ends with a record of 22 bytes.
_ZIP_BEGIN, _ZIP_END, _ZIP_END_BYTES = b"PK\x03\x04", b"PK\x05\x06", 22
_STAMP_DIGITS = 16
_NO_TENSORS = "it holds something other than tensors and is not loaded"


class DamagedError(StorageError):
    """A file is not what was written there. The message names it and says what is wrong."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} is damaged: {problem}")
        self.problem = problem


def save(path: Path, content: Mapping[str, Any], owner: str) -> None:
    """Writes `content` (tensors, plain containers) with its owner and its digest, atomically. Raises StorageError.

    Tensors are written as the CPU's, so that machines without the device that they are on can read them.
    """
    # Imported here because torch is slow to load.
    import torch

    from simclr_ablate.device import mapped

    def write(file: BinaryIO) -> None:
        hashing = _Hashing(file)
        torch.save({**mapped({**content}, torch.Tensor.cpu), BELONGS_TO: owner}, hashing)
        file.write(hashing.digest())

    write_atomically(path, write)


def load(path: Path, owner: str, needs_digest: bool = False) -> dict[str, Any]:
    """The content that `save` wrote for `owner`, on the CPU. Runs no code from the file.

    needs_digest: whether a file without a digest counts as damaged.

    Raises DamagedError, and StorageError if the system cannot read the file.
    """
    has_digest = check(path)
    if needs_digest and not has_digest:
        raise DamagedError(path, "it has no digest")
    content = _load(path, has_digest)
    if not isinstance(content, dict):
        raise DamagedError(path, "its content is not a mapping from names")
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
            check(path)  # torch hides system errors: this raises if the file has become unreadable
        # Without a digest, only torch can tell that a file is damaged. But a lack of memory is no damage.
        if has_digest or "memory" in str(error):
            raise
        raise DamagedError(path, "it is cut short or changed") from error


def check(path: Path) -> bool:
    """Whether the file has a digest. Raises DamagedError if it does not match, and StorageError."""
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


def stamp(path: Path) -> str:
    """What tells this file from others: its digest; of a file from before digests, its place, size and date.

    A copy of a file with a digest has the same stamp. Nothing is checked. Raises StorageError.
    """
    with storing(path), open(path, "rb") as file:
        about = os.fstat(file.fileno())
        file.seek(max(0, about.st_size - _DIGEST_BYTES))
        end = file.read()
    if len(end) == _DIGEST_BYTES and end[-_ZIP_END_BYTES:][: len(_ZIP_END)] != _ZIP_END:
        return end.hex()[:_STAMP_DIGITS]
    known = f"{path.resolve()} {about.st_size} {about.st_mtime_ns}"
    return hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()[:_STAMP_DIGITS]


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
