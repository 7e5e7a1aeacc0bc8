"""Leases: at most one process works on a task, even if several commands share a store over NFS.

A lease is a numbered file, `lease.1`, `lease.2`, ...; the highest number holds the task. It is created exclusively,
which NFS does atomically with hard links (flock is not available everywhere). The obvious way to take over a dead
holder's lease is to remove the file and create it anew. But then two processes that both saw the dead lease can remove
each other's. Here both try to create the same next number, and one of them fails.

A holder on this host is alive while its process is. A holder elsewhere is alive while it touches its file. "Elsewhere"
means another host name, boot or PID namespace, since two containers may share a host name. A cluster's job that starts
again takes over from itself, wherever it ran before: the cluster has ended it there.

The age of a lease is judged by the file system's clock whenever something is written because of it: a lease, the end of
a lease, a failure. Readers write nothing and use their host's clock. A date in the future ages a lease as much as one
in the past, so a wrong clock cannot block a task for ever. A lease that cannot be read does not count.
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

import psutil

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
"""How long a lease may be unreadable because it is being written, on a file system without hard links."""
_UNKNOWN = "running"
"""The start of a process that exists, but shows nothing more than its number."""


class LeaseLostError(RuntimeError):
    """Another process took over the task because this one seemed dead."""


class Lease:
    """The right to write into a task's folder, held until `release`."""

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
        """Raises LeaseLostError if another process holds the task by now."""
        if not self.is_held():
            raise LeaseLostError(f"{self.folder.name} was taken over by another process")

    def is_held(self) -> bool:
        """Whether no other process has taken over the task."""
        return latest(self.folder) == self.number

    def release(self, requeued: bool = False) -> None:
        """Lets others lease the task, or with `requeued`, the cluster's job that this process runs as: it starts again.

        Does nothing if the task was taken over already; never raises.
        """
        self._stop.set()
        self._heart.join()
        with suppress(OSError, StorageError):
            if not self.is_held():
                return
            try:
                write_json(self.path, {"released": True, "job": self.job, "requeued": requeued})
            except StorageError:
                # Truncating needs no space, and a lease that cannot be read does not count.
                os.truncate(self.path, 0)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # the server may be away for a moment
                os.utime(self.path)


def acquire(folder: Path, job: str | None = None) -> Lease | None:
    """Leases the task in `folder`, or returns None if a live process holds it. Raises StorageError.

    job: the cluster's job that this process runs as; it takes over from its own earlier start.
    """
    number = latest(folder)
    if number and _is_taken(folder / f"lease.{number}", job):
        return None
    return Lease(folder, number + 1, job) if _follow(folder, number, _ourselves(job)) else None


def last(folder: Path) -> dict[str, Any]:
    """The last lease as it was written, with its `job`, whether its holder lives or not; empty if there is none."""
    number = latest(folder)
    return (_read(folder / f"lease.{number}") if number else None) or {}


def end_lease_of(folder: Path, job: str, requeued: bool = False) -> bool:
    """Ends the last lease if it is that of `job`, which has ended, or which the cluster will start again (`requeued`).

    Returns False, and writes nothing, if the job's process is alive. Raises StorageError.
    """
    number = latest(folder)
    path = folder / f"lease.{number}"
    owner = _read(path, writes=True) if number else None
    if owner is None or (owner and owner.get("job") != job):
        return True
    if _is_alive(owner, path, lambda: clock_of(folder)):
        return False
    # With the next number: a process that wakes up after all finds that it has lost the task.
    _follow(folder, number, {"released": True, "job": job, "requeued": requeued})
    return True


def holder(folder: Path, writes: bool = False) -> dict[str, Any] | None:
    """The process that works on the task: `host`, `pid`, `start`, `job` (None outside a cluster); None if none does.

    writes: whether the caller writes something if none does. Then the file system's clock is used, and a young lease
    that cannot be read for the moment counts as held, with an empty holder. Raises StorageError if the clock cannot be
    read.
    """
    number = latest(folder)
    path = folder / f"lease.{number}"
    owner = _read(path, writes) if number else None
    clock = (lambda: clock_of(folder)) if writes else time.time
    return owner if owner is not None and _is_alive(owner, path, clock) else None


def describe(folder: Path) -> str:
    """The holder in words: `process 12 on node3`."""
    owner = holder(folder) or last(folder)
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def latest(folder: Path) -> int:
    """The number of the lease that counts; 0 if there is none. Raises StorageError if the folder cannot be read."""
    try:
        # The dot makes this fail too for a folder that can be listed but not entered.
        names = os.listdir(f"{folder}/.")
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise StorageError(told(error, folder)) from error
    numbers = (name.removeprefix("lease.") for name in names if name.startswith("lease."))
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def is_here(owner: dict[str, Any]) -> bool:
    """Whether the holder is a process on this host that can be seen and signalled from here."""
    return owner.get("place") == _place()


def process(pid: int) -> dict[str, Any]:
    """What others need to tell whether process `pid` lives: `host`, `place`, `pid` and `start`."""
    start = process_start(pid)
    return {"host": socket.gethostname(), "place": _place(), "pid": pid, "start": start}


def lives(owner: object, path: Path) -> bool:
    """Whether the process `owner` may still begin its work. owner: made by `process` and written to the file `path`.

    A process elsewhere cannot be seen from here and counts as alive while the file is young.
    """
    return isinstance(owner, dict) and _is_process(owner) and _is_alive(owner, path, time.time)


def process_start(pid: int) -> str | None:
    """When process `pid` started, as opaque text; None if there is none.

    It distinguishes a process from a later one with the same number.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        # The command in parentheses may contain spaces. After it, the state is the 1st field, the start time the 20th.
        state, *rest = status.rpartition(")")[2].split()
        return None if state == "Z" else rest[18]
    except OSError:
        pass
    if not os.path.isdir("/proc/self"):
        return _start_elsewhere(pid)
    # A /proc that hides other users' processes.
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    return _UNKNOWN


def _start_elsewhere(pid: int) -> str | None:
    """`process_start` on a system without /proc. On Linux, what psutil tells moves with the clock."""
    try:
        found = psutil.Process(pid)
        return None if found.status() == psutil.STATUS_ZOMBIE else repr(found.create_time())
    except psutil.AccessDenied:
        return _UNKNOWN
    except psutil.NoSuchProcess:
        return None


def _follow(folder: Path, number: int, content: dict[str, Any]) -> bool:
    """Creates the lease after `number`; False if another process was faster. Raises StorageError."""
    ours = folder / f"lease.{number + 1}"
    if not create_exclusively(ours, json.dumps(content)):
        return False
    try:
        # Another process may have continued from a later number while we had an old listing.
        is_last = latest(folder) == number + 1
    except StorageError:  # the server is away now: without certainty, the lease is not ours
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
    """Whether the last lease keeps `job` (None outside a cluster) from making the next one."""
    owner = _read(path, writes=True)
    if owner is None:
        return _seconds_since_touched(path, clock_of(path.parent)) < _WRITING_SECONDS
    if job is not None and owner.get("job") == job:
        return False
    return _is_alive(owner, path, lambda: clock_of(path.parent))


def _is_alive(owner: dict[str, Any], path: Path, clock: Callable[[], float]) -> bool:
    """Whether the process that wrote `owner` to `path` still works on the task. clock: gives the present time."""
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
    """Names the place where this process's number means this process: a host since its boot, and a PID namespace."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # on systems other than Linux, the name has to suffice
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _read(path: Path, writes: bool = False) -> dict[str, Any] | None:
    """The lease as it was written; None if it cannot be read or is no lease.

    writes: whether the caller writes something if nobody holds it. Then a young lease that cannot be read counts as
    held, with an empty holder.
    """
    try:
        return _parse(path, path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # A server that is away for a moment says nothing about the lease.
        in_doubt = writes and not isinstance(error, IsADirectoryError)
        if in_doubt and _seconds_since_touched(path, clock_of(path.parent)) < STALE_SECONDS:
            return {}
        report_unreadable(path, error)
        return None


def _parse(path: Path, content: bytes) -> dict[str, Any] | None:
    """The lease in `content`, which was read from `path`; None, and a line in the log, if it is no lease."""
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
    """Seconds between the lease's date and `now`, whichever is earlier."""
    try:
        return abs(now - path.stat().st_mtime)
    except OSError:  # another process has continued from it
        return 0.0
