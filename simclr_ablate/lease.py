"""Leases: at most one process works on a run, also when several commands share a store over NFS.

A lease is a numbered file, `lease.1`, `lease.2`, ...; the highest number holds the run. It is created exclusively,
which NFS keeps atomic for hard links (flock is not everywhere). The obvious take-over of a dead holder's lease,
removing the file and creating it anew, lets two processes that both saw the dead lease remove each other's; here both
try to create the same next number, and one of them fails.

A holder on this host is alive while its process is. One elsewhere is alive while it touches its file, and elsewhere is
whatever has another name, boot or PID namespace: two containers may share a host name. A job of a cluster that starts
again takes over from itself, wherever it ran before: the cluster has ended it there.

How long ago a lease was touched is judged by the file system's clock wherever something is written because of that:
a lease, the end of one, a failure. Readers write nothing and go by their host's clock. A date in the future counts as
much as one in the past, so that no wrong clock blocks a run for ever. A lease that cannot be read is no lease.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from simclr_ablate.files import (
    StorageError,
    clock_of,
    create_exclusively,
    report_damage,
    report_unreadable,
    told,
    write_json,
)

HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 180.0
_WRITING_SECONDS = 5.0
"""How long a lease may be empty because it is just being written, where the file system has no hard links."""
_UNKNOWN = "running"
"""The start of a process of which only its number can be seen."""


class LeaseLostError(RuntimeError):
    """Another process took the run over, because this one seemed dead."""


class Lease:
    """The right to write into a run's folder, held until `release`."""

    def __init__(self, folder: Path, number: int, job: str | None = None) -> None:
        self.folder = folder
        self.number = number
        self.job = job
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)
        self._heart.start()

    @property
    def path(self) -> Path:
        return self.folder / f"lease.{self.number}"

    def check(self) -> None:
        """Raises LeaseLostError where another process holds the run by now."""
        if not self.is_held():
            raise LeaseLostError(f"{self.folder.name} was taken over by another process")

    def is_held(self) -> bool:
        """Whether no other process has taken the run over."""
        return latest(self.folder) == self.number

    def release(self) -> None:
        """Lets others lease the run. Does nothing where it was taken over already; never raises."""
        self._stop.set()
        self._heart.join()
        with suppress(OSError, StorageError):
            if not self.is_held():
                return
            try:
                write_json(self.path, {"released": True, "job": self.job})
            except StorageError:
                # Takes no room, and a lease that cannot be read is none.
                os.truncate(self.path, 0)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # a server that is away for a moment comes back
                os.utime(self.path)


def acquire(folder: Path, job: str | None = None) -> Lease | None:
    """Leases the run in `folder`, or returns None where a living process holds it. Raises StorageError.

    job: the cluster's job that this process is, which takes over from its own earlier start.
    """
    number = latest(folder)
    if number and _is_taken(folder / f"lease.{number}", job):
        return None
    return Lease(folder, number + 1, job) if _follow(folder, number, _ourselves(job)) else None


def last(folder: Path) -> dict[str, Any]:
    """The last lease as it was written, alive or not, with its `job`; empty where there was none."""
    number = latest(folder)
    return (_read(folder / f"lease.{number}") if number else None) or {}


def end_lease_of(folder: Path, job: str, requeued: bool = False) -> bool:
    """Writes off the lease of a job that has ended, or that the cluster is to start again, where it is the last one.

    False where its process lives: then nothing is written. Raises StorageError.
    """
    number = latest(folder)
    path = folder / f"lease.{number}"
    owner = _read(path, writes=True) if number else None
    if owner is None or (owner and owner.get("job") != job):
        return True
    if _is_alive(owner, path, lambda: clock_of(folder)):
        return False
    # By the next number, so that a process which wakes up after all finds that it has lost the run.
    _follow(folder, number, {"released": True, "job": job, "requeued": requeued})
    return True


def holder(folder: Path, writes: bool = False) -> dict[str, Any] | None:
    """Who works on the run now: `host`, `pid`, `start`, `job` (None outside a cluster); None where nobody does.

    writes: whether something is to be written if nobody does: then the file system's clock counts, and a young lease
    that cannot be read for the moment is somebody's, empty. Raises StorageError where the clock cannot be had.
    """
    number = latest(folder)
    path = folder / f"lease.{number}"
    owner = _read(path, writes) if number else None
    clock = (lambda: clock_of(folder)) if writes else time.time
    return owner if owner is not None and _is_alive(owner, path, clock) else None


def describe(folder: Path) -> str:
    """The holder for a person: `process 12 on node3`."""
    owner = holder(folder) or last(folder)
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def latest(folder: Path) -> int:
    """The number of the lease that counts; 0 where there is none. Raises StorageError where nobody can tell."""
    try:
        # Where the folder can be listed and not be looked into, as the dot does, nobody can tell either.
        names = os.listdir(f"{folder}/.")
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise StorageError(told(error, folder)) from error
    numbers = (name.removeprefix("lease.") for name in names if name.startswith("lease."))
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def is_here(owner: dict[str, Any]) -> bool:
    """Whether the holder is a process of this host that can be seen, and sent signals, from here."""
    return owner.get("place") == _place()


def process(pid: int) -> dict[str, Any]:
    """Process `pid` as others can tell whether it lives: `host`, `place`, `pid` and `start`."""
    start = process_start(pid)
    return {"host": socket.gethostname(), "place": _place(), "pid": pid, "start": start}


def lives(owner: object, path: Path) -> bool:
    """Whether the process described by `owner`, as `process` writes it into the file `path`, may still begin its work.

    Elsewhere nobody can see it, and it is taken for alive as long as the file is young.
    """
    return isinstance(owner, dict) and _is_process(owner) and _is_alive(owner, path, time.time)


def process_start(pid: int) -> str | None:
    """When process `pid` started, as an opaque text; None where there is none. Tells a process from a later one
    with the same number."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        # The command in parentheses may hold spaces; state is the 1st field after it, start time the 20th.
        state, *rest = status.rpartition(")")[2].split()
        return None if state == "Z" else rest[18]
    except OSError:
        pass
    # No /proc, or one that hides other users' processes.
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    return _UNKNOWN


def _follow(folder: Path, number: int, content: dict[str, Any]) -> bool:
    """Makes the lease after `number`; False where another process has been quicker. Raises StorageError."""
    ours = folder / f"lease.{number + 1}"
    if not create_exclusively(ours, json.dumps(content)):
        return False
    try:
        # Somebody may have gone on from a later number while we looked at an old listing.
        is_last = latest(folder) == number + 1
    except StorageError:  # a server that is away since: what nobody can tell is not ours
        is_last = False
    if not is_last:
        with suppress(OSError):
            ours.unlink(missing_ok=True)
        return False
    for old in range(max(1, number - 2), number + 1):
        with suppress(OSError):
            (folder / f"lease.{old}").unlink(missing_ok=True)
    return True


def _is_taken(path: Path, job: str | None) -> bool:
    """Whether the last lease keeps `job`, or None, from making the next one."""
    owner = _read(path, writes=True)
    if owner is None:
        return _seconds_since_touched(path, clock_of(path.parent)) < _WRITING_SECONDS
    if job is not None and owner.get("job") == job:
        return False
    return _is_alive(owner, path, lambda: clock_of(path.parent))


def _is_alive(owner: dict[str, Any], path: Path, clock: Callable[[], float]) -> bool:
    """Whether the process that wrote `owner` to `path` still works on the run. clock: see `_seconds_since_touched`."""
    if owner.get("released"):
        return False
    if is_here(owner):
        start = process_start(owner["pid"])
        if start != _UNKNOWN:
            return start is not None and start == owner["start"]
    return _seconds_since_touched(path, clock()) < STALE_SECONDS


def _ourselves(job: str | None) -> dict[str, Any]:
    return {**process(os.getpid()), "job": job}


@cache
def _place() -> str:
    """Names the one place where this process's number means this process: a host since its boot, a PID namespace."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # elsewhere than on Linux, the name has to do
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _read(path: Path, writes: bool = False) -> dict[str, Any] | None:
    """The lease as it was written; None where it cannot be read or is none.

    writes: whether something is to be written if nobody holds it: then a lease that is young and cannot be read is
    somebody's, empty.
    """
    try:
        return _parse(path, path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # A server that is away for a moment says nothing of the lease.
        in_doubt = writes and not isinstance(error, IsADirectoryError)
        if in_doubt and _seconds_since_touched(path, clock_of(path.parent)) < STALE_SECONDS:
            return {}
        report_unreadable(path, error)
        return None


def _parse(path: Path, content: bytes) -> dict[str, Any] | None:
    """The lease in `content`, which was read from `path`; None, and a line in the log, where it holds no lease."""
    try:
        owner = json.loads(content)
    except (ValueError, RecursionError) as error:
        report_damage(path, str(error))
        return None
    if isinstance(owner, dict) and (owner.get("released") or _is_process(owner)):
        return owner
    report_damage(path, "it holds no lease")
    return None


def _is_process(owner: dict[str, Any]) -> bool:
    return isinstance(owner.get("pid"), int) and "start" in owner


def _seconds_since_touched(path: Path, now: float) -> float:
    """How far the lease's date is from `now`, before or after."""
    try:
        return abs(now - path.stat().st_mtime)
    except OSError:  # somebody has gone on from it
        return 0.0
