"""The folder of one task: who works on it, the job it was submitted as, how far it is, and why it failed.

The kinds of task say what they yield and what else their folders hold: `run.py` (pretraining), `evaluation.py` and
`choice.py`.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simclr_ablate import lease as leases
from simclr_ablate.files import StorageError, age_of, remove, report_damage, unreadable, write_json
from simclr_ablate.provenance import Attempt
from simclr_ablate.store import leftovers
from simclr_ablate.store.metrics import MetricsFile
from simclr_ablate.store.records import (
    FailureRecord,
    ProgressRecord,
    SubmissionRecord,
    TimeoutRecord,
    read_record,
)

log = logging.getLogger(__name__)

STATES = (
    *("planned", "queued", "running", "interrupted", "failed", "pretrained", "complete"),
    "unreadable",
)
BUSY = ("queued", "running")
"""States in which a process or a job takes care of the task."""


class TaskFolder(ABC):
    """The records of one task. Files are the truth: every method reads them again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def name(self) -> str:
        """What the task is called in messages."""

    @abstractmethod
    def is_done(self) -> bool:
        """Whether the task's product is there."""

    @abstractmethod
    def create(self, config: Mapping[str, Any]) -> None:
        """Makes the folder, and writes the run's frozen config if it is missing. Raises StorageError."""

    @abstractmethod
    def leftovers(self) -> Iterator[Path]:
        """Files that earlier holders left unfinished. For the holder only: others would get files in use."""

    @abstractmethod
    def used_checkpoints(self) -> Iterator[Path]:
        """Checkpoints that nobody needs any more, because the task is certainly done."""

    @property
    def log_path(self) -> Path:
        return self._file("log.txt")

    @property
    def history_path(self) -> Path:
        return self._file("history.csv")

    @property
    def metrics(self) -> MetricsFile:
        """The metrics of single steps of pretraining."""
        return MetricsFile(self._file("metrics.jsonl"))

    def note_attempt(self, attempt: Attempt) -> None:
        """Adds an attempt at the task to those before it. For the holder only. Raises StorageError."""
        write_json(self._file("attempts.json"), [*self.attempts(), attempt])

    def attempts(self) -> list[Attempt]:
        """The attempts at the task, oldest first; those from before they were recorded are missing."""
        return read_record(self._file("attempts.json"), list[Attempt]) or []

    def unreadable(self) -> str | None:
        """Why the folder cannot be read, which is reported too; None if it can be, or does not exist."""
        problem = unreadable(self.path)
        if problem is not None:
            report_damage(self.path, problem)
        return problem

    def lease(self, job: str | None = None, clears: bool = True) -> leases.Lease | None:
        """The lease of the task, or None if a live process holds it.

        job: see `lease.acquire`.
        clears: whether to remove what killed holders left unfinished.
        """
        lease = leases.acquire(self.path, job)
        if lease is not None and clears:
            leftovers.clear(self.leftovers())
        return lease

    def tidy(self) -> tuple[int, int]:
        """Removes what killed holders left unfinished, and used checkpoints, unless a process holds the task.

        Returns the number of files removed, and their bytes. Raises StorageError.
        """
        files = [*self.leftovers(), *self.used_checkpoints()]
        lease = self.lease(clears=False) if files else None
        if lease is None:
            return 0, 0
        try:
            return leftovers.clear(iter(files))
        finally:
            lease.release()

    def holder(self) -> dict[str, Any] | None:
        """The process that works on the task now (host, pid), or None if there is none or the folder is unreadable."""
        try:
            return leases.holder(self.path)
        except StorageError:
            return None

    def is_held(self) -> bool:
        """Whether a process works on the task, for callers that write something if not. Raises StorageError."""
        return leases.holder(self.path, writes=True) is not None

    def write_submission(self, submission: Mapping[str, Any]) -> None:
        """Records the job that will carry out the task: `job`, and what it takes to submit it again."""
        write_json(self._file("submission.json"), {**submission, "time": time.time()})

    def submission(self) -> dict[str, Any] | None:
        """The last submission, or None if its job has ended or was cancelled, even if this is not recorded yet."""
        last = self.last_submission()
        if last is None or last.get("withdrawn"):
            return None
        # Only SLURM accounts for its jobs. Any other job counts as long as its process lives.
        is_left = last["cluster"] == "slurm" or leases.lives(
            last.get("process"), self._file("submission.json")
        )
        return last if is_left else None

    def last_submission(self) -> dict[str, Any] | None:
        """The last submission, whatever has become of it, or None."""
        submission: dict[str, Any] | None = read_record(
            self._file("submission.json"), SubmissionRecord
        )
        return submission

    def withdraw_submission(self, cancelled: str | None = None) -> None:
        """Records that the submitted job has ended, or was cancelled for the reason `cancelled`."""
        last = self.last_submission()
        if last is not None:
            note = {} if cancelled is None else {"cancelled": cancelled}
            write_json(self._file("submission.json"), {**last, "withdrawn": True, **note})

    def is_queued(self) -> bool:
        """Whether a submitted job has not begun yet, or waits to begin again."""
        submission = self.submission()
        if submission is None:
            return False
        last = leases.last(self.path)
        return last.get("job") != submission["job"] or bool(last.get("requeued"))

    def is_abandoned(self) -> bool:
        """Whether the task is not done and has not failed, yet no process or job seems to take care of it."""
        if self.is_done() or self.failure() is not None or self.unreadable() is not None:
            return False
        return self.holder() is None and not self.is_queued()

    def requeue_job(self, job: str) -> None:
        """Records that the cluster will start `job` again, if the store is writable and the job's process is dead."""
        with self._noting():
            leases.end_lease_of(self.path, job, requeued=True)

    def end_job(self, job: str, reason: str) -> None:
        """Records that `job` has ended, as the cluster says.

        A task that is not done and that no other process works on has failed, for `reason` unless it recorded one
        itself. Records nothing if the store is not writable, or the job's process is alive after all.
        """
        last = self.last_submission()
        if last is not None and last["job"] != job:
            return
        with self._noting():
            if leases.end_lease_of(self.path, job):
                self._end_submission(job, reason)

    def lose_job(self, job: str, patience: float, reason: str) -> None:
        """`end_job` for a job that the cluster does not know, once `patience` seconds have passed since submission."""
        with self._noting():
            if abs(age_of(self._file("submission.json"))) > patience:
                self.end_job(job, reason)

    def cancel_job(self, job: str, reason: str) -> None:
        """`end_job` for a cancelled job, whose process may take a while to save its work and end."""
        with self._noting():
            leases.end_lease_of(self.path, job)
            self._end_submission(job, reason, cancelled=True)

    def _end_submission(self, job: str, reason: str, cancelled: bool = False) -> None:
        """Records that the submission as `job` has ended. The process of a cancelled job does not count as working."""
        last = self.last_submission()
        if last is not None and last["job"] != job:
            return  # somebody has submitted the task again
        # The reason comes first, so that whoever sees that no job is left also sees why.
        self._explain_end(job, reason, cancelled)
        self.withdraw_submission(reason if cancelled else None)
        if cancelled:  # a job that began in between has cleared the reason
            self._explain_end(job, reason, cancelled)

    def _explain_end(self, job: str, reason: str, cancelled: bool) -> None:
        if self.is_done() or self.failure() is not None:
            return
        owner = leases.holder(self.path, writes=True)
        if owner is None or (cancelled and owner.get("job") == job):
            self.write_failure({"reason": reason})

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """For records that even readers write if they can: a store that is not writable does not stop them."""
        try:
            yield
        except StorageError as error:
            log.debug("the end of a job could not be recorded: %s", error)

    def count_timeout(self) -> int:
        """Counts a time-out. Returns how many time-outs in a row, including this one, came without progress."""
        reached = [self.is_done(), self.progress().get("step", 0)]
        before = read_record(self._file("timeouts.json"), TimeoutRecord) or {
            "place": [False, 0],
            "count": 0,
        }
        count = before["count"] + 1 if reached <= before["place"] else 0
        content = {"place": max(reached, before["place"]), "count": count}
        write_json(self._file("timeouts.json"), content)
        return count

    def forget_timeouts(self) -> None:
        remove(self._file("timeouts.json"))

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        write_json(self._file("progress.json"), {**progress, "time": time.time()})

    def progress(self) -> dict[str, Any]:
        """How far the task is, as last written; empty before it starts."""
        return read_record(self._file("progress.json"), ProgressRecord) or {}

    def has_begun(self) -> bool:
        """Whether there is something to resume from."""
        return bool(leftovers.checkpoints_in(self.path))

    def write_failure(self, failure: Mapping[str, Any]) -> None:
        """Records why an attempt failed: `reason` (one line), `traceback`, and where, if known."""
        write_json(self._file("failure.json"), {**failure, "time": time.time()})

    def clear_failure(self, job: str | None = None) -> None:
        """Removes the failure of the previous attempt.

        job: the cluster's job that begins now. If it has just been cancelled, the reason for that stays.
        """
        remove(self._file("failure.json"))
        last = self.last_submission() if job is not None else None
        # After the removal, because a cancelling process records the submission as cancelled, then checks the failure.
        if last is not None and last["job"] == job and "cancelled" in last:
            self.write_failure({"reason": last["cancelled"]})

    def failure(self) -> dict[str, Any] | None:
        failure: dict[str, Any] | None = read_record(self._file("failure.json"), FailureRecord)
        return failure

    def _file(self, name: str) -> Path:
        return self.path / name
