"""The process that a launcher starts: it pretrains an experiment's encoder, evaluates it, and reports how that ended.

It reports by its exit status; launchers other than the local one see nothing else.
"""

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
from simclr_ablate.freed_memory import keep_freed_memory
from simclr_ablate.provenance import attempt, launch
from simclr_ablate.stopping import Interrupted, RankLostError, StopSignal, end_with_parent

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from simclr_ablate.lease import Lease
    from simclr_ablate.plan.plan import Plan, PlannedRun
    from simclr_ablate.provenance import Launch
    from simclr_ablate.ranks import Ranks
    from simclr_ablate.schema import Experiment
    from simclr_ablate.store import Run, TaskFolder

log = logging.getLogger(__name__)


class Status(enum.IntEnum):
    """How a process's part in a run ended: its exit status."""

    COMPLETE = 0
    FAILED = 1
    INTERRUPTED = 75
    """Stopped and checkpointed on request."""
    HELD = 76
    """Another process works on the run."""
    LOST = 77
    """Another rank of the same run is gone."""
    TAKEN = 78
    """Another process took over the run, and this one has stopped writing."""
    DAMAGED = 79
    """The encoder to evaluate is damaged and must be made again. No process exits with this."""


LOST_SECONDS = 1.0
"""How long a rank that lost another waits for that one's reason, which is better than its own."""

HURRIED_SECONDS = 2.0
"""How long a job that was asked to stop waits for trackers."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that the disk causes, whichever code runs into them."""


@dataclass(frozen=True)
class Job:
    """One experiment to carry out, in plain values that pickle without torch: its pretraining unless that is done,
    then its evaluation."""

    config: dict[str, Any]
    store: str
    cache: str
    threads: int
    device: str
    devices: tuple[str, ...] = ()
    """The devices of the ranks, one process each, if several ranks share the run."""
    job_id: str | None = None
    """The cluster's id of the job, if a cluster carries it out."""
    requeue_signal: int | None = None
    """The signal after which the cluster starts the job again."""
    keeps_log: bool = True
    """Whether printed output goes to the run's log."""
    folder: str | None = None
    """The folder in which the command was given, which may hold modules of the user's own."""
    evaluates: bool = True
    """Whether this job also does the evaluation."""
    evaluations: tuple[tuple[str, dict[str, Any]], ...] = ()
    """The keys and experiments of all evaluations that the command wants of the encoder."""
    evaluation_threads: int | None = None
    """The threads of the jobs that carry them out."""
    launch: "Launch | None" = None
    """The command that the job belongs to."""

    @classmethod
    def of(
        cls, plan: "Plan", planned: "PlannedRun", cache: str, threads: int, **more: Any
    ) -> "Job":
        """The job for the `planned` run of `plan`. threads: the number if `compute.threads` is null."""
        return cls(
            config=planned.experiment.to_config(),
            store=str(plan.store.root.resolve()),
            cache=cache,
            threads=planned.experiment.compute.threads or threads,
            folder=os.getcwd(),
            launch=launch(),
            **more,
        )


@dataclass(frozen=True)
class Ending:
    """How a process's part in a run ended: one of the statuses above, and a one-line reason if it is not done."""

    status: int
    reason: str | None = None


def work(job: Job, sender: "Connection | None" = None) -> None:
    """Carries out `job` in this process and exits with one of the statuses above.

    sender: receives the reason if the run is not done, because its folder may not be writable.
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
    """Sends the reason of `ending` to the launcher, if there is one, and exits with its status."""
    if sender is not None and ending.reason is not None:
        with suppress(OSError):
            sender.send(ending.reason)
    sys.exit(ending.status)


@contextmanager
def tracked(job: Job, stop: StopSignal, is_first: bool = True) -> Iterator[None]:
    """Has the job's trackers follow its run inside, where no command does that. is_first: whether this rank writes."""
    if not (is_first and job.config.get("tracker", {}).get("names")):
        yield
        return
    from simclr_ablate.schema import Experiment
    from simclr_ablate.trackers.followers import Followers

    with Followers(Path(job.store)) as followers:
        with suppress(ConfigError):  # which the run itself reports
            followers.begin(run_of(job).run_id, Experiment.from_config(job.config).tracker)
        yield
        if stop.heard is not None:
            followers.patience = HURRIED_SECONDS


def carry_out_job(job: Job, stop: StopSignal, ranks: "Ranks | None" = None) -> Ending:
    """Carries out the job's tasks in turn, each under its own lease and log; records failures. Never raises.

    ranks: the processes that share the tasks. Each of them calls this, and the first holds the leases.
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
    """One process's attempt at one of a job's tasks."""

    run: "Run"
    folder: "TaskFolder"
    experiment: "Experiment"
    ranks: "Ranks"

    def __init__(
        self, job: Job, stop: StopSignal, ranks: "Ranks | None", pretrains: bool, again: bool
    ) -> None:
        """again: whether the task is done again, because its encoder was found to be damaged."""
        self.job, self.stop, self.pretrains, self.again = job, stop, pretrains, again
        self.lease: Lease | None = None
        """The lease, which only the first rank holds."""
        self.number: int | None = None
        """The lease's number, which all ranks know."""
        self.given_ranks = ranks
        self.index, self.count = (ranks.index, ranks.count) if ranks is not None else (0, 1)

    def carry_out(self) -> Ending:
        """Carries out the task, and releases its lease. Never raises."""
        ending = None
        try:
            ending = self._carry_out()
            return ending
        finally:
            self.release(ending)

    def _carry_out(self) -> Ending:
        try:
            status = self.begin()
        except BaseException as error:
            return self.fail(error)
        return Ending(status) if status is not None else self.go_on()

    def begin(self) -> int | None:
        """Takes the task's lease; returns the status to end with if there is nothing to do."""
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
        # Before pretraining, so that `status retry` knows of them if it fails.
        for key, config in self.job.evaluations if self.pretrains else ():
            evaluation = self.run.evaluating(key)
            with storing(evaluation.path):
                evaluation.create(config, self.job.evaluation_threads)
        if self.folder.is_done() and not self.again:
            self._tidy()
            return Status.COMPLETE
        with storing(self.folder.path):
            self.folder.create(self.job.config)
        self.lease = self.folder.lease(self.job.job_id)
        if self.lease is None:
            return Status.HELD
        # Set at once: a failure before the other ranks know the number is still one under this lease.
        self.number = self.lease.number
        if self.folder.is_done() and not self.again:
            return Status.COMPLETE  # another command finished it meanwhile
        self.folder.clear_failure(self.job.job_id)
        if self.run.is_pretrained() and self.run.failure() is not None:
            self.run.clear_failure()  # an earlier attempt at pretraining failed, but a later one did it
        return None

    def _tidy(self) -> None:
        """Does what remains if the holder was killed just after it completed the task."""
        with suppress(StorageError):
            if self.pretrains:
                self.run.restore_pretraining()
            self.folder.tidy()

    def go_on(self) -> Ending:
        """Carries out the task under the lease."""
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

    def _work(self) -> None:
        import torch

        from simclr_ablate.device import name_of
        from simclr_ablate.store import EvaluationFolder
        from simclr_ablate.tasks.evaluate import evaluate
        from simclr_ablate.tasks.pretrain import pretrain

        experiment, run = self.experiment, self.run
        how = (self.lease, self.job, self.stop, self.ranks)
        if self.lease is not None:
            self.folder.note_attempt(
                attempt(
                    self.job.launch or launch(),
                    name_of(torch.device(self.job.device)),
                    self.job.threads,
                    self.ranks.count,
                    self.job.job_id,
                )
            )
        if isinstance(self.folder, EvaluationFolder):
            evaluate(experiment, run, self.folder, *how)
        else:
            pretrain(experiment, run, *how)

    def _is_encoders_damage(self, error: BaseException) -> bool:
        """Whether this is an evaluation that found its encoder damaged, for the first time."""
        from simclr_ablate.store.tensors import DamagedError

        return isinstance(error, DamagedError) and not self.pretrains and not self.again

    def _interrupted(self) -> Ending:
        if self.folder.is_done():
            return Ending(Status.COMPLETE)
        return Ending(Status.INTERRUPTED, f"{self.stop.reason()}; its checkpoint is kept")

    def release(self, ending: Ending | None) -> None:
        """Releases the lease, so that others can take the task, or only the job itself if it is to start again."""
        if self.lease is None:
            return
        interrupted = ending is not None and ending.status == Status.INTERRUPTED
        signal_heard = self.stop.heard if interrupted else None
        self.lease.release(
            requeued=signal_heard is not None and signal_heard == self.job.requeue_signal
        )

    def fail(self, error: BaseException) -> Ending:
        # Without a folder yet, the failure is recorded for the task that the job is at.
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
    """The task that the job is at: pretraining until that is done, then the evaluation."""
    pretraining, evaluation = tasks_of(job)
    return evaluation if pretraining.is_done() else pretraining


def tasks_of(job: Job) -> "tuple[TaskFolder, TaskFolder]":
    """The pretraining and the evaluation of the job's experiment."""
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
    """Records why rank `index` of `count` failed, as `keep_failure` does."""
    shown = traceback.format_exc()
    with suppress(OSError):
        print(shown, file=sys.stderr, flush=True)
    reason = _described(error, job.store)
    if index:
        reason = f"rank {index} of {count}: {reason}"
    lost = isinstance(error, RankLostError)
    if lost:
        time.sleep(LOST_SECONDS)
        if stop():
            return Ending(Status.INTERRUPTED)  # all were asked to stop; that one was quicker
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
    """Records why a task failed, if the store can be written; the ending has the reason in any case. Never raises.

    No failure is recorded if another process has taken over the task or works on it. If the task failed because a rank
    was lost, a reason that is recorded already is better and stays.

    lease: the number of the lease under which this process worked; None if it had none. shared: whether the process
    that works on the task may be another rank of the same run. folder: the task's; None: that of the task that the job
    is at.
    """
    try:
        folder = folder or task_of(job)
        if _is_taken(folder, lease, job, shared):
            return Ending(Status.TAKEN)
        if status != Status.LOST or folder.failure() is None:
            run = run_of(job)
            for each in (run, folder):
                with storing(each.path):
                    each.create(job.config)
            folder.write_failure({"reason": reason, "traceback": trace})
    except Exception as problem:
        obstacle = _described(problem, job.store)
        if obstacle not in reason:
            reason = f"{reason} (not recorded: {obstacle})"
    return Ending(status, reason)


def _is_taken(folder: "TaskFolder", lease: int | None, job: Job, shared: bool) -> bool:
    """Whether another process holds the task. The other parameters: see `keep_failure`."""
    from simclr_ablate.lease import holder, latest

    if lease is not None:
        return latest(folder.path) != lease
    if not shared:
        return folder.is_held()
    # A rank that does not know its lease's number can tell its own first rank only by the cluster's job.
    owner = holder(folder.path)
    return owner is not None and job.job_id is not None and owner.get("job") != job.job_id


def _described(error: BaseException, folder: str) -> str:
    """One line for people. folder: the assumed place of a file if the error does not name one."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return told(error, error.filename if isinstance(error.filename, str) else folder)
    text = f"{error}".strip().partition("\n")[0]
    if isinstance(error, ConfigError):
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def killed(number: int) -> str:
    """Describes a process that signal `number` ended: `killed by SIGKILL (out of memory?)`."""
    name = signal.Signals(number).name
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


@contextmanager
def _logged_to(path: Path, ranks: "Ranks") -> Iterator[None]:
    """Sends everything that this process and its libraries print to the run's log.

    Ranks other than the first log only warnings. If the log cannot be opened, output goes where it went before.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        file = None
        log.warning("%s", _described(error, str(path)))
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
        with suppress(OSError):  # a full disk, which is reported elsewhere
            stream.flush()
