"""One task's folder: who works on it, the job it was submitted as, how far it is, and why it failed.

What a task yields, and what else its folder holds, is its kind's: `run.py` has pretraining, `evaluation.py` evaluation.
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
from simclr_ablate.store import leftovers
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
"""States in which somebody is seeing to the task."""


class TaskFolder(ABC):
    """The ledger of one task. Files are the truth: every method looks at them anew."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def name(self) -> str:
        """What the task is called in messages."""

    @abstractmethod
    def is_done(self) -> bool:
        """Whether what the task yields is there."""

    @abstractmethod
    def create(self, config: Mapping[str, Any]) -> None:
        """Makes the folder, and writes the frozen config of its run where that is missing. Raises StorageError."""

    @abstractmethod
    def leftovers(self) -> Iterator[Path]:
        """What earlier holders left unfinished; for anybody but the holder, files that are being written."""

    @abstractmethod
    def used_checkpoints(self) -> Iterator[Path]:
        """Checkpoints of a task that is done without a doubt, for which nobody has any use."""

    @property
    def log_path(self) -> Path:
        return self._file("log.txt")

    @property
    def history_path(self) -> Path:
        return self._file("history.csv")

    def unreadable(self) -> str | None:
        """Why the folder cannot be read, which is reported then; None where it can be, or is not there."""
        problem = unreadable(self.path)
        if problem is not None:
            report_damage(self.path, problem)
        return problem

    def lease(self, job: str | None = None, clears: bool = True) -> leases.Lease | None:
        """The right to work on the task, or None where a living process has it. `job`: see `lease.acquire`.

        clears: removes what holders that were killed left unfinished.
        """
        lease = leases.acquire(self.path, job)
        if lease is not None and clears:
            leftovers.clear(self.leftovers())
        return lease

    def tidy(self) -> tuple[int, int]:
        """Removes what holders that were killed left unfinished, and used checkpoints, where nobody holds the task.

        Returns how many files, and their bytes. Raises StorageError.
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
        """The process that works on the task now (host, pid), or None, also where the folder cannot be read."""
        try:
            return leases.holder(self.path)
        except StorageError:
            return None

    def is_held(self) -> bool:
        """Whether a process works on the task, for who is to write something if none does. Raises StorageError."""
        return leases.holder(self.path, writes=True) is not None

    def write_submission(self, submission: Mapping[str, Any]) -> None:
        """Records the job that will carry the task out: `job`, and what it takes to submit it again."""
        write_json(self._file("submission.json"), {**submission, "time": time.time()})

    def submission(self) -> dict[str, Any] | None:
        """The last submission, or None where its job has ended or was cancelled, also where nobody has noted it."""
        last = self.last_submission()
        if last is None or last.get("withdrawn"):
            return None
        # Others than SLURM's have nobody who accounts for them: they are their process.
        is_left = last["cluster"] == "slurm" or leases.lives(
            last.get("process"), self._file("submission.json")
        )
        return last if is_left else None

    def last_submission(self) -> dict[str, Any] | None:
        """The last submission, whatever became of it, or None."""
        submission: dict[str, Any] | None = read_record(
            self._file("submission.json"), SubmissionRecord
        )
        return submission

    def withdraw_submission(self, cancelled: str | None = None) -> None:
        """Notes that the submitted job has ended or was cancelled. cancelled: the reason to give for the latter."""
        last = self.last_submission()
        if last is not None:
            note = {} if cancelled is None else {"cancelled": cancelled}
            write_json(self._file("submission.json"), {**last, "withdrawn": True, **note})

    def is_queued(self) -> bool:
        """Whether a job was submitted that has not begun, or waits to begin again."""
        submission = self.submission()
        if submission is None:
            return False
        last = leases.last(self.path)
        return last.get("job") != submission["job"] or bool(last.get("requeued"))

    def is_abandoned(self) -> bool:
        """Whether it is not done, and looks as if nobody saw to it."""
        if self.is_done() or self.failure() is not None or self.unreadable() is not None:
            return False
        return self.holder() is None and not self.is_queued()

    def requeue_job(self, job: str) -> None:
        """Notes that the cluster is to start `job` again, where the store can be written and its process is dead."""
        with self._noting():
            leases.end_lease_of(self.path, job, requeued=True)

    def end_job(self, job: str, reason: str) -> None:
        """The cluster says that `job` has ended. A task that is neither done nor gone on with elsewhere has failed: for
        `reason`, where it left no better one. Nothing is noted where the store cannot be written, or where the job's
        process lives all the same."""
        last = self.last_submission()
        if last is not None and last["job"] != job:
            return
        with self._noting():
            if leases.end_lease_of(self.path, job):
                self._end_submission(job, reason)

    def lose_job(self, job: str, patience: float, reason: str) -> None:
        """`end_job` for one that the cluster does not know, `patience` seconds or more after its submission."""
        with self._noting():
            if abs(age_of(self._file("submission.json"))) > patience:
                self.end_job(job, reason)

    def cancel_job(self, job: str, reason: str) -> None:
        """`end_job` for one that was called off: its process may take a while to keep what it has, and to end."""
        with self._noting():
            leases.end_lease_of(self.path, job)
            self._end_submission(job, reason, cancelled=True)

    def _end_submission(self, job: str, reason: str, cancelled: bool = False) -> None:
        """Nothing more comes of the submission as `job`. The process of one that was cancelled does not count as going
        on."""
        last = self.last_submission()
        if last is not None and last["job"] != job:
            return  # somebody has submitted the task again
        # The reason comes first: whoever finds that no job is left finds out why.
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
        """For what readers note where they can: a store that they cannot write to does not stop them."""
        try:
            yield
        except StorageError as error:
            log.debug("what has become of a job is not noted: %s", error)

    def count_timeout(self) -> int:
        """Counts one more time-out; returns how many in a row, with this one, came without progress."""
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
        """Where the task is, as last written; empty before it starts."""
        return read_record(self._file("progress.json"), ProgressRecord) or {}

    def has_begun(self) -> bool:
        """Whether somebody has come so far with it that there is something to go on from."""
        return bool(leftovers.checkpoints_in(self.path))

    def write_failure(self, failure: Mapping[str, Any]) -> None:
        """Records why an attempt ended: `reason` (one line), `traceback`, and what is known of where."""
        write_json(self._file("failure.json"), {**failure, "time": time.time()})

    def clear_failure(self, job: str | None = None) -> None:
        """Forgets why the attempt before failed. job: the cluster's job that begins now. Where it has just been called
        off, and is about to end, the task keeps that reason."""
        remove(self._file("failure.json"))
        last = self.last_submission() if job is not None else None
        # After the removal: whoever calls the job off looks for the reason once more after noting it in the submission.
        if last is not None and last["job"] == job and "cancelled" in last:
            self.write_failure({"reason": last["cancelled"]})

    def failure(self) -> dict[str, Any] | None:
        failure: dict[str, Any] | None = read_record(self._file("failure.json"), FailureRecord)
        return failure

    def _file(self, name: str) -> Path:
        return self.path / name
