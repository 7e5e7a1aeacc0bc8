"""Claims: at most one process works on a run, also when several commands share a store over NFS.

A claim is a numbered file, `claim.1`, `claim.2`, ...; the highest number holds the run. It is created with `os.link`,
which NFS keeps atomic (O_EXCL and flock are not everywhere). The obvious take-over of a dead holder's claim, removing
the file and creating it anew, lets two processes that both saw the dead claim remove each other's; here both
try to create the same next number, and one of them fails.

A holder on this host is alive while its process is. One on another host is alive while it touches its file. A job of a
cluster that starts again takes over from itself, wherever it ran before: the cluster has ended it there.
"""

import json
import os
import socket
import threading
import uuid
from pathlib import Path
from typing import Any

from simclr_ablate.files import read_json, write_json

HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 180.0


class ClaimLostError(RuntimeError):
    """Another process took the run over, because this one seemed dead."""


class Claim:
    """The right to write into a run's folder, held until `release`."""

    def __init__(self, folder: Path, number: int, job: str | None = None) -> None:
        self.folder = folder
        self.number = number
        self.job = job
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="claim-heartbeat", daemon=True)
        self._heart.start()

    @property
    def path(self) -> Path:
        return self.folder / f"claim.{self.number}"

    def check(self) -> None:
        """Raises ClaimLostError where another process holds the run by now."""
        if _latest(self.folder) != self.number:
            raise ClaimLostError(f"{self.folder.name} was taken over by another process")

    def release(self) -> None:
        """Lets others claim the run. Does nothing where it was taken over already."""
        self._stop.set()
        self._heart.join()
        if _latest(self.folder) == self.number:
            write_json(self.path, {"released": True, "job": self.job})

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self.path)
            except OSError:
                return


def acquire(folder: Path, job: str | None = None) -> Claim | None:
    """Claims the run in `folder`, or returns None where a living process holds it.

    job: the cluster's job that this process is, which takes over from its own earlier start.
    """
    number = _latest(folder)
    owner = holder(folder) if number else None
    if owner is not None and (job is None or owner["job"] != job):
        return None
    ours = folder / f"claim.{number + 1}"
    if not _create(ours, job):
        return None
    if _latest(folder) != number + 1:
        # Somebody went on from a later number while we looked at an old listing.
        ours.unlink(missing_ok=True)
        return None
    for old in range(max(1, number - 2), number + 1):
        (folder / f"claim.{old}").unlink(missing_ok=True)
    return Claim(folder, number + 1, job)


def last(folder: Path) -> dict[str, Any]:
    """The last claim as it was written, alive or not, with its `job`; empty where there was none."""
    number = _latest(folder)
    return (read_json(folder / f"claim.{number}") if number else None) or {}


def end_claim_of(folder: Path, job: str, requeued: bool = False) -> None:
    """Releases the claim of a job that has ended, or that the cluster is to start again, where it is the last one."""
    number = _latest(folder)
    if number and last(folder).get("job") == job:
        owner = {"released": True, "job": job, "requeued": requeued}
        write_json(folder / f"claim.{number}", owner)


def holder(folder: Path) -> dict[str, Any] | None:
    """Who works on the run now: `host`, `pid`, `start`, `job` (None outside a cluster); None where nobody does."""
    number = _latest(folder)
    if not number:
        return None
    path = folder / f"claim.{number}"
    owner: dict[str, Any] | None = read_json(path)
    if owner is None or owner.get("released"):
        return None
    if owner["host"] == socket.gethostname():
        alive = process_start(owner["pid"]) == owner["start"]
    else:
        alive = _seconds_since_touched(path) < STALE_SECONDS
    return owner if alive else None


def process_start(pid: int) -> str | None:
    """When process `pid` started, as an opaque text; None where there is none. Tells a process from a later one
    with the same number."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
        # The command in parentheses may hold spaces; state is the 1st field after it, start time the 20th.
        state, *rest = status.rpartition(")")[2].split()
        return None if state == "Z" else rest[18]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"


def _create(path: Path, job: str | None) -> bool:
    pid = os.getpid()
    owner = {"host": socket.gethostname(), "pid": pid, "start": process_start(pid), "job": job}
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_text(json.dumps(owner))
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _latest(folder: Path) -> int:
    names = (path.name.removeprefix("claim.") for path in folder.glob("claim.*"))
    return max((int(name) for name in names if name.isdigit()), default=0)


def _seconds_since_touched(path: Path) -> float:
    """Age by the file system's own clock, since hosts' clocks differ."""
    probe = path.with_name(f".clock.{uuid.uuid4().hex}.tmp")
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink()
