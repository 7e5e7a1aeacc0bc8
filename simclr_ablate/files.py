"""Files that are either whole or absent, even if a process is killed or the power fails."""

import errno
import functools
import itertools
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from simclr_ablate.config import ConfigError

log = logging.getLogger(__name__)

_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of `os.link` on a file system without hard links."""

_FORBIDDEN = (errno.EACCES, errno.EPERM)

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{32}\.tmp")


class StorageError(ConfigError):
    """A file or folder cannot be read or written. The message names it and says why and what to do."""


@contextmanager
def storing(path: str | Path, key: str = "") -> Iterator[None]:
    """Turns errors of the file system raised inside into StorageErrors about `path`.

    key: the key that lets a user choose another place, such as `store`, if there is one.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(told(error, path, key)) from error


def told(error: OSError, path: str | Path, key: str = "") -> str:
    """One line for the user: what is wrong with `path`, and what to do about it. key: see `storing`."""
    path = Path(path)
    choose = f"choose another place with {key}=DIR" if key else ""
    elsewhere, instead = f", or {choose}" * bool(choose), f"; {choose}" * bool(choose)
    if error.errno == errno.ENOSPC:
        return f"cannot write {path}: the disk is full ({_free(path)} free): make room{elsewhere}"
    if error.errno == errno.EDQUOT:
        return f"cannot write {path}: your disk quota is used up: make room{elsewhere}"
    if error.errno == errno.EROFS:
        return f"cannot write {path}: its file system is read-only{instead}"
    if error.errno in _FORBIDDEN:
        return f"cannot use {path}: no permission; ask its owner{elsewhere}"
    blocking = next((parent for parent in (path, *path.parents) if os.path.isfile(parent)), None)
    if error.errno in (errno.ENOTDIR, errno.EEXIST) and blocking is not None:
        return f"cannot use {path}: {blocking} is a file, not a folder{instead}"
    return f"cannot use {path}: {error.strerror or error}{instead}"


def write_atomically(
    path: Path, write: Callable[[BinaryIO], object], replaces: bool = True
) -> None:
    """Calls `write` with a temporary file in the same folder, then renames the file to `path`. Raises StorageError.

    The content reaches the disk before the name does. Without the fsync, a power cut could leave an empty file of that
    name.

    replaces: whether a file of that name may exist. Otherwise that is an error, even if it appears meanwhile.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with storing(path):
            with open(temporary, "wb") as file:
                _write(file, write)
                file.flush()
                os.fsync(file.fileno())
            if replaces:
                clear_way(path)
                os.replace(temporary, path)
            else:
                _rename_to_new(temporary, path)
            flush_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Renames a file. Raises StorageError if there is one of its new name already, and OSError."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if os.path.lexists(path):
            raise StorageError(f"{path} exists already, and is not written over") from error
        if error.errno not in _NO_LINKS:
            raise
        os.rename(temporary, path)
    else:
        temporary.unlink()


def create_exclusively(path: Path, content: str) -> bool:
    """Creates the file `path` with `content`; False if it exists already, or another process is faster.

    Uses a hard link, which is atomic on NFS too and only ever shows a whole file, or O_EXCL on file systems without
    hard links. Raises StorageError.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with storing(path):
            _write_new(temporary, content)
            try:
                os.link(temporary, path)
            except FileExistsError:
                # It is ours if the server's answer was lost and the request repeated.
                return _same(temporary, path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                try:
                    _write_new(path, content)
                except FileExistsError:
                    return False
            flush_folder(path.parent)
            return True
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _same(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def clear_way(path: Path) -> None:
    """Renames `path` if it is a folder where a file should be."""
    if path.is_dir():
        set_aside(path)


def set_aside(path: Path) -> Path:
    """Renames a damaged file or folder to `NAME.damaged`, `NAME.damaged.2` and so on. Returns the new path."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged" + (f".{number}" if number > 1 else ""))
        if not os.path.lexists(aside):
            break
    with storing(path):
        os.rename(path, aside)
    return aside


def remove(path: Path) -> None:
    """Removes the file `path` if it exists; renames a folder in its place. Raises StorageError."""
    with storing(path):
        clear_way(path)
        path.unlink(missing_ok=True)


def temporary_files(folder: Path) -> Iterator[Path]:
    """The unfinished files of `write_atomically` in `folder`, of killed processes and of live ones."""
    with suppress(OSError):
        for entry in os.scandir(folder):
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def target_of(temporary: Path) -> str:
    """The name of the file that a temporary file was meant to become."""
    match = _TEMPORARY.fullmatch(temporary.name)
    assert match is not None
    return match[1]


def clock_of(folder: Path) -> float:
    """The time on the file system's clock, which dates its files. Raises StorageError.

    Whoever writes something because of a file's age must use this clock: the host's own may be wrong.
    """
    probe = folder / f".clock.{uuid.uuid4().hex}.tmp"
    with storing(folder):
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink()


def age_of(path: Path) -> float:
    """Seconds since `path` was written, by the file system's clock. Raises StorageError."""
    now = clock_of(path.parent)
    with storing(path):
        return now - path.stat().st_mtime


def flush_folder(folder: Path) -> None:
    """Flushes the names in `folder` to the disk, if the system can."""
    with suppress(OSError):  # some file systems do not let a folder be opened or flushed
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, atomically. Raises StorageError."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as JSON, atomically. Raises StorageError."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> Any | None:
    """The content of a JSON file, or None if there is no such file.

    A file that cannot be read counts as absent and is reported once in the log: damage to a file costs what is in it,
    and nothing else.
    """
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        report_unreadable(path, error)
        return None
    except (ValueError, RecursionError) as error:
        report_damage(path, str(error))
        return None
    if content is None:
        report_damage(path, "it is null")
    return content


def names_in(folder: Path) -> list[str]:
    """The names in `folder`, sorted; none if there is no such folder, or it cannot be read, which is reported."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        report_unreadable(folder, error)
        return []


def records_in(folder: Path) -> list[Path]:
    """The JSON files in `folder`, sorted by name, without unfinished ones. See `names_in`."""
    names = (name for name in names_in(folder) if name.endswith(".json"))
    return [folder / name for name in names if not name.startswith(".")]


def unreadable(folder: Path) -> str | None:
    """Why the content of `folder` cannot be read; None if it can be, or there is no such folder."""
    try:
        # Listing a folder takes one permission; entering it, as the dot does, takes another.
        with os.scandir(f"{folder}/.") as entries:
            next(entries, None)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return "no permission" if error.errno in _FORBIDDEN else error.strerror or str(error)
    return None


def report_unreadable(path: Path, error: OSError) -> None:
    """Reports what cannot be read: the outermost closed folder, instead of each file in it."""
    blamed, reason = path, str(error)
    for folder in (path, *path.parents):
        problem = unreadable(folder)
        if problem is not None:
            blamed, reason = folder, problem
        elif folder != path:
            break
    report_damage(blamed, reason)


@functools.cache
def report_damage(path: Path, reason: str) -> None:
    """Reports once that `path` counts as absent, and why."""
    log.warning("%s cannot be read and counts as absent: %s", path, reason)


def _write(file: BinaryIO, write: Callable[[BinaryIO], object]) -> None:
    """Calls `write(file)`. A system error comes out as it was raised, whatever a library turns it into."""
    watched = _Watched(file)
    try:
        write(watched)  # type: ignore[arg-type]
    except Exception:
        if watched.error is not None:
            raise watched.error from None
        raise


class _Watched:
    """A file that remembers the first system error: torch.save reports a full disk as "unexpected pos"."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = self.error or error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _write_new(path: Path, content: str) -> None:
    with open(path, "x", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _free(path: Path) -> str:
    """The free space on the disk of `path`, in words."""
    existing = next(
        (parent for parent in path.absolute().parents if os.path.exists(parent)), Path("/")
    )
    try:
        free = shutil.disk_usage(existing).free
    except OSError:
        return "nothing"
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if free >= size:
            return f"{free / size:.1f} {unit}"
    return f"{free} bytes"
