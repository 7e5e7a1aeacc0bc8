"""What a launcher starts: one process that pretrains an experiment's encoder, evaluates it, and says how that ended.

The exit status is the message: other launchers than the local one see nothing else.
"""

import ctypes
import enum
import errno
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from simclr_ablate.config import ConfigError
from simclr_ablate.files import StorageError, storing, told
from simclr_ablate.stopping import Interrupted, RankLostError, StopSignal, end_with_parent

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from simclr_ablate.lease import Lease
    from simclr_ablate.ranks import Ranks
    from simclr_ablate.schema import Experiment
    from simclr_ablate.store import Run, TaskFolder

log = logging.getLogger(__name__)


class Status(enum.IntEnum):
    """How a process's part in a run ended, and its exit status."""

    COMPLETE = 0
    FAILED = 1
    INTERRUPTED = 75
    """Stopped and checkpointed on request."""
    HELD = 76
    """Another process works on the run."""
    LOST = 77
    """Another rank of the same run is gone."""
    TAKEN = 78
    """Another process took the run over, and this one has written no more."""
    DAMAGED = 79
    """The encoder to be evaluated is damaged, so that it has to be made again. No process exits with it."""


LOST_SECONDS = 1.0
"""How long a rank that lost another leaves it to say why: that is the better reason."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors whose reason is the disk, whoever meets them."""

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class Job:
    """One experiment to carry out, in plain values that pickle without torch: its pretraining, where that is not done
    yet, and then its evaluation."""

    config: dict[str, Any]
    store: str
    cache: str
    threads: int
    device: str
    devices: tuple[str, ...] = ()
    """Those of several ranks, where the run has them: one process each."""
    job_id: str | None = None
    """The cluster's job that carries it out, where one does."""
    keeps_log: bool = True
    """Whether what is printed goes to the run's log."""
    folder: str | None = None
    """Where the command was given, and modules of the user's own may lie."""
    evaluates: bool = True
    """Whether the evaluation is this job's too."""


@dataclass(frozen=True)
class Ending:
    """How a process's part in a run ended: one of the statuses above, and in one line why it is not done."""

    status: int
    reason: str | None = None


def work(job: Job, sender: "Connection | None" = None) -> None:
    """Carries `job` out in this process and exits with one of the statuses above.

    sender: gets the reason where the run is not done, since its folder may not be able to keep it.
    """
    end_with_parent()
    keep_freed_memory()
    with StopSignal() as stop:
        if len(job.devices) > 1:
            from simclr_ablate.launch.ranks import lead

            ending = lead(job, stop)
        else:
            ending = carry_out_job(job, stop)
    leave(ending, sender)


def leave(ending: Ending, sender: "Connection | None") -> None:
    """Exits with the status of `ending`, its reason sent to whoever waits for it."""
    if sender is not None and ending.reason is not None:
        with suppress(OSError):
            sender.send(ending.reason)
    sys.exit(ending.status)


def keep_freed_memory() -> None:
    """Stops glibc from giving large freed tensors back to the system.

    Every step allocates the same sizes again, and faulting their pages in anew took up to half of a step.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # not glibc
    mallopt(_M_MMAP_THRESHOLD, 2**30)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def carry_out_job(job: Job, stop: StopSignal, ranks: "Ranks | None" = None) -> Ending:
    """The job's tasks, one after the other: each under its lease, logged, and its failure recorded. Never raises.

    ranks: processes that share them, each calling this; the first has the leases.
    """
    is_damaged = False
    while True:
        ending = _Attempt(job, stop, ranks, pretrains=True, again=is_damaged).carry_out()
        if ending.status != Status.COMPLETE or not job.evaluates:
            return ending
        ending = _Attempt(job, stop, ranks, pretrains=False, again=is_damaged).carry_out()
        if ending.status != Status.DAMAGED:
            return ending
        is_damaged = True


class _Attempt:
    """One process's go at one of a job's tasks."""

    run: "Run"
    folder: "TaskFolder"
    experiment: "Experiment"
    ranks: "Ranks"

    def __init__(
        self, job: Job, stop: StopSignal, ranks: "Ranks | None", pretrains: bool, again: bool
    ) -> None:
        """again: whether an encoder that is there was found to be damaged."""
        self.job, self.stop, self.pretrains, self.again = job, stop, pretrains, again
        self.lease: Lease | None = None
        """The first rank's."""
        self.number: int | None = None
        """That of the lease, which all ranks know."""
        self.given_ranks = ranks
        self.index, self.count = (ranks.index, ranks.count) if ranks is not None else (0, 1)

    def carry_out(self) -> Ending:
        """Never raises."""
        try:
            status = self.begin()
        except BaseException as error:
            try:
                return self.fail(error)
            finally:
                self.release()
        return Ending(status) if status is not None else self.go_on()

    def begin(self) -> int | None:
        """Takes the task's lease; returns the status to end with where there is nothing to do here."""
        from simclr_ablate.identity import evaluation_key
        from simclr_ablate.own import look_in
        from simclr_ablate.schema import Experiment

        if self.job.folder is not None:
            look_in(self.job.folder)
        self.experiment = Experiment.from_config(self.job.config)
        self.run = self.folder = run_of(self.job)
        if not self.pretrains:
            self.folder = self.run.evaluating(evaluation_key(self.experiment))

        from simclr_ablate.ranks import SOLO

        self.ranks = self.given_ranks or SOLO
        status = self._take_lease() if self.ranks.is_first else None
        number = self.lease.number if self.lease is not None else None
        status, self.number = self.ranks.from_first((status, number))
        return status

    def _take_lease(self) -> int | None:
        with storing(self.run.path):
            self.run.create(self.job.config)
        if self.folder.is_done() and not self.again:
            self._tidy()
            return Status.COMPLETE
        with storing(self.folder.path):
            self.folder.create(self.job.config)
        self.lease = self.folder.lease(self.job.job_id)
        if self.lease is None:
            return Status.HELD
        # At once: what fails before the other ranks know it has failed under this lease.
        self.number = self.lease.number
        if self.folder.is_done() and not self.again:
            # Another command has finished it since this one looked.
            self.lease.release()
            return Status.COMPLETE
        self.folder.clear_failure(self.job.job_id)
        if self.run.is_pretrained() and self.run.failure() is not None:
            self.run.clear_failure()  # that of an attempt which has been made up for since
        return None

    def _tidy(self) -> None:
        """Makes up for what a holder that was killed once the task was done had still to do."""
        with suppress(StorageError):
            if self.pretrains:
                self.run.restore_pretraining()
            self.folder.tidy()

    def go_on(self) -> Ending:
        """Carries out what the lease is for."""
        job, folder = self.job, self.folder
        with _logged_to(folder.log_path, self.ranks) if job.keeps_log else nullcontext():
            where = f", SLURM job {job.job_id}" if job.job_id else ""
            host = socket.gethostname()
            log.info("%s on %s, process %d%s", folder.name, host, os.getpid(), where)
            try:
                with self.stop.at_once():
                    self._work()
                return Ending(Status.COMPLETE)
            except Interrupted as stopped:
                if not stopped.together:
                    self.ranks.abandon()  # another may wait for this one in the middle of its work
                return self._interrupted()
            except BaseException as error:
                if self._is_encoders_damage(error):
                    log.warning("%s", error)
                    return Ending(Status.DAMAGED)
                self.ranks.abandon()
                return self.fail(error)
            finally:
                self.release()

    def _work(self) -> None:
        from simclr_ablate.store import EvaluationFolder
        from simclr_ablate.tasks.evaluate import evaluate
        from simclr_ablate.tasks.pretrain import pretrain

        experiment, run = self.experiment, self.run
        how = (self.lease, self.job, self.stop, self.ranks)
        if isinstance(self.folder, EvaluationFolder):
            evaluate(experiment, run, self.folder, *how)
        else:
            pretrain(experiment, run, *how)

    def _is_encoders_damage(self, error: BaseException) -> bool:
        """Whether an evaluation found its encoder damaged, for the first time."""
        from simclr_ablate.store.tensors import DamagedError

        return isinstance(error, DamagedError) and not self.pretrains and not self.again

    def _interrupted(self) -> Ending:
        if self.folder.is_done():
            return Ending(Status.COMPLETE)
        return Ending(Status.INTERRUPTED, f"{self.stop.reason()}; its checkpoint is kept")

    def release(self) -> None:
        """Lets others take the task."""
        if self.lease is not None:
            self.lease.release()

    def fail(self, error: BaseException) -> Ending:
        # Before it knows its folder, an attempt has failed as the job does.
        folder = getattr(self, "folder", None)
        return record_failure(
            self.job, error, self.stop, self.index, self.count, self.number, folder
        )


def run_of(job: Job) -> "Run":
    """The job's run in its store."""
    from simclr_ablate.identity import run_id
    from simclr_ablate.schema import Experiment
    from simclr_ablate.store import Store

    return Store(job.store).run(run_id(Experiment.from_config(job.config)))


def task_of(job: Job) -> "TaskFolder":
    """The task that the job is at: its pretraining, as long as that is not done, and then its evaluation."""
    pretraining, evaluation = tasks_of(job)
    return evaluation if pretraining.is_done() else pretraining


def tasks_of(job: Job) -> "tuple[TaskFolder, TaskFolder]":
    """Pretraining and evaluation of the job's experiment."""
    from simclr_ablate.identity import evaluation_key
    from simclr_ablate.schema import Experiment

    run = run_of(job)
    return run, run.evaluating(evaluation_key(Experiment.from_config(job.config)))


def record_failure(
    job: Job,
    error: BaseException,
    stop: StopSignal,
    index: int = 0,
    count: int = 1,
    lease: int | None = None,
    folder: "TaskFolder | None" = None,
) -> Ending:
    """Keeps the reason for which rank `index` of `count` failed, as `keep_failure` does."""
    shown = traceback.format_exc()
    with suppress(OSError):
        print(shown, file=sys.stderr, flush=True)
    reason = _told(error, job.store)
    if index:
        reason = f"rank {index} of {count}: {reason}"
    lost = isinstance(error, RankLostError)
    if lost:
        time.sleep(LOST_SECONDS)
        if stop():
            return Ending(Status.INTERRUPTED)  # all of them are asked to; the other was quicker
    # That somebody holds the run says nothing to a rank that does not know its lease: it is the first rank's.
    return keep_failure(
        job,
        reason,
        Status.LOST if lost else Status.FAILED,
        shown,
        lease,
        shared=index > 0,
        folder=folder,
    )


def keep_failure(
    job: Job,
    reason: str,
    status: int = Status.FAILED,
    trace: str | None = None,
    lease: int | None = None,
    shared: bool = False,
    folder: "TaskFolder | None" = None,
) -> Ending:
    """Records why a task failed, where the store can be written: the ending has the reason all the same. Never raises.

    lease: the number of the lease under which this process worked; None where it had none. A task that another process
    has taken over, or works on, gets no failure, and one that lost a rank keeps the better reason that it has.
    shared: whether who works on it may be another rank of this process's own. folder: the task's; None: the one that
    the job is at.
    """
    try:
        folder = folder or task_of(job)
        if not (shared and lease is None) and _is_taken(folder, lease):
            return Ending(Status.TAKEN)
        if status != Status.LOST or folder.failure() is None:
            run = run_of(job)
            for each in (run, folder):
                with storing(each.path):
                    each.create(job.config)
            folder.write_failure({"reason": reason, "traceback": trace})
    except Exception as problem:
        problem_told = _told(problem, job.store)
        if problem_told not in reason:
            reason = f"{reason} (not recorded: {problem_told})"
    return Ending(status, reason)


def _is_taken(folder: "TaskFolder", lease: int | None) -> bool:
    from simclr_ablate.lease import latest

    return latest(folder.path) != lease if lease is not None else folder.is_held()


def _told(error: BaseException, folder: str) -> str:
    """One line for a person. folder: where a file without a name is taken to lie."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return told(error, error.filename if isinstance(error.filename, str) else folder)
    text = f"{error}".strip().partition("\n")[0]
    if isinstance(error, ConfigError):
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def killed(number: int) -> str:
    """`killed by SIGKILL (out of memory?)`: how signal `number` ended a process."""
    name = signal.Signals(number).name
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


@contextmanager
def _logged_to(path: Path, ranks: "Ranks") -> Iterator[None]:
    """Sends what this process and its libraries print to the run's log: of ranks but the first, only warnings.

    Where the log cannot be opened, it goes where it went before.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        file = None
        log.warning("%s", _told(error, str(path)))
    if file is None:
        yield
        return
    streams, kept = (sys.stdout, sys.stderr), (os.dup(1), os.dup(2))
    _flush(*streams)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    level, who = (
        (logging.INFO, "") if ranks.is_first else (logging.WARNING, f"rank {ranks.index}: ")
    )
    logging.basicConfig(
        level=level, stream=sys.stderr, force=True, format=f"%(asctime)s {who}%(message)s"
    )
    try:
        yield
    finally:
        _flush(sys.stdout, sys.stderr, *streams)
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdout, sys.stderr = streams
        logging.basicConfig(stream=sys.stderr, force=True, format="%(asctime)s %(message)s")


def _flush(*streams: TextIO) -> None:
    for stream in streams:
        with suppress(OSError):  # a full disk, which has a better place to be told
            stream.flush()
