"""What submitit pickles and a cluster carries out: an experiment's tasks, requeued when their time is up.

submitit requeues a job in its signal handler, in the middle of whatever the run does. Here the handler only notes the
signal. The loop saves at the end of its step, and then submitit's own handler is called, which requeues the job.
"""

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import submitit

from simclr_ablate.files import StorageError
from simclr_ablate.freed_memory import keep_freed_memory
from simclr_ablate.launch import worker
from simclr_ablate.launch.cluster.queue import ATTEMPT
from simclr_ablate.launch.ranks import carry_out_rank, device_of_rank
from simclr_ablate.lease import STALE_SECONDS
from simclr_ablate.stopping import STOP_SIGNALS, StopSignal

if TYPE_CHECKING:
    from simclr_ablate.store import TaskFolder

log = logging.getLogger(__name__)

TIMEOUTS = 3
"""After this many time-outs in a row without progress, a run has failed."""
_SLACK_SECONDS = 90.0
"""SLURM checks time limits only now and then, and may send its signal a minute early."""
_REQUEUE_TRIES = 6
_HELD_SECONDS = STALE_SECONDS + 30


class RunFailedError(RuntimeError):
    """The run failed. Raising this makes the cluster's own tools show the job as failed."""


@dataclass(frozen=True)
class Submitted:
    """One experiment as a job. Each process of the job calls it, to carry out the experiment.

    cluster: submitit's. time_minutes: the job's time limit. signal_seconds: how long before it the job is signalled.
    """

    job: worker.Job
    cluster: str
    time_minutes: int
    signal_seconds: int

    def __call__(self) -> None:
        """Returns when the run is done, stopped, or another process's. Raises RunFailedError."""
        begin = time.monotonic()
        # submitit's handler, before ours replaces it; the debug cluster has none.
        requeue = signal.getsignal(requeue_signal())
        environment = submitit.JobEnvironment()
        print(f"{ATTEMPT}{_restarts()}", file=sys.stderr, flush=True)
        keep_freed_memory()
        with self._stop_signal() as stop:
            job = _on_this_node(self.job, environment)
            if callable(requeue):
                job = dataclasses.replace(job, requeue_signal=requeue_signal())
            with worker.tracked(job, stop, environment.global_rank == 0):
                ending = self._carry_out(job, stop, environment)
        status = ending.status
        if self.cluster == "debug" and stop.heard is not None:
            raise KeyboardInterrupt  # this process is the command, which stops as at Ctrl-C
        if status in (worker.Status.FAILED, worker.Status.LOST):
            raise RunFailedError(ending.reason)
        if environment.global_rank != 0 or status == worker.Status.TAKEN:
            return
        if status == worker.Status.HELD:
            task = worker.task_of(self.job)
            log.warning("%s is held by %s: left to it", task.name, task.holder())
            with _noting():
                for each in worker.tasks_of(self.job):
                    if (each.submission() or {}).get("job") == environment.job_id:
                        each.withdraw_submission()
        elif (
            status == worker.Status.INTERRUPTED
            and stop.heard == requeue_signal()
            and callable(requeue)
        ):
            self._requeue(environment.job_id, requeue, time.monotonic() - begin)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """The call for after a requeue: the same one, because all state is in the run's folder."""
        # submitit refuses to write if an earlier attempt, killed meanwhile, left its temporary file.
        pickle = submitit.JobEnvironment().paths.submitted_pickle
        pickle.with_name(pickle.name + ".save_tmp").unlink(missing_ok=True)
        return submitit.helpers.DelayedSubmission(self)

    def _stop_signal(self) -> StopSignal:
        if self.cluster == "slurm":
            # SLURM ends jobs with SIGTERM, and a preempted job may get no other signal.
            return StopSignal(stop_on=(requeue_signal(),), save_on=STOP_SIGNALS)
        if self.cluster == "debug":
            # In the command's own process, Ctrl-C is meant for the run.
            return StopSignal(stop_on=(signal.SIGINT, *STOP_SIGNALS))
        return StopSignal(stop_on=(requeue_signal(), *STOP_SIGNALS))

    def _carry_out(
        self, job: worker.Job, stop: StopSignal, environment: submitit.JobEnvironment
    ) -> worker.Ending:
        """Carries out the job; while another process seems to hold it, tries again until a dead lease would expire."""
        deadline = time.monotonic() + _HELD_SECONDS

        def tries_again() -> bool:
            time.sleep(2)
            return time.monotonic() < deadline and not stop()

        rank, count = environment.global_rank, environment.num_tasks
        if count > 1:
            return carry_out_rank(job, stop, rank, count, _meeting(job, environment), tries_again)
        while True:
            ending = worker.carry_out_job(job, stop)
            if ending.status != worker.Status.HELD or not tries_again():
                return ending

    def _requeue(self, job: str, requeue: Callable[..., Any], elapsed: float) -> None:
        task = worker.task_of(self.job)
        if elapsed >= self.time_minutes * 60 - self.signal_seconds - _SLACK_SECONDS:
            fruitless = 0
            with _noting():
                fruitless = task.count_timeout()
            if fruitless >= TIMEOUTS:
                self._fail(
                    task,
                    job,
                    f"it reached its time limit of {self.time_minutes} minutes {fruitless} times in a row "
                    "without progress: give it more with launcher.time_minutes",
                )
        for _ in range(_REQUEUE_TRIES):
            try:
                requeue(requeue_signal(), None)
                return
            except (subprocess.SubprocessError, OSError) as error:
                # The controller may be down for a moment.
                problem = str(error)
                log.warning("requeue: %s", problem)
                time.sleep(5)
        self._fail(task, job, f"interrupted, and could not be requeued: {problem}")

    def _fail(self, task: "TaskFolder", job: str, reason: str) -> None:
        ending = worker.keep_failure(self.job, reason)
        with _noting():  # its lease says that it will start again
            task.end_job(job, reason)
        raise RunFailedError(ending.reason)


@contextmanager
def _noting() -> Iterator[None]:
    """Logs storage errors, as on a full disk, and lets the job continue."""
    try:
        yield
    except StorageError as error:
        log.warning("%s", error)


def _on_this_node(job: worker.Job, environment: submitit.JobEnvironment) -> worker.Job:
    device = device_of_rank(job.device, environment.local_rank)
    return dataclasses.replace(job, device=device, job_id=environment.job_id)


def _restarts() -> int:
    """How often SLURM has restarted this job."""
    return int(os.environ.get("SLURM_RESTART_COUNT", 0))


def _meeting(job: worker.Job, environment: submitit.JobEnvironment) -> str:
    """The address where the job's tasks meet: its first node, and a port that other jobs there are unlikely to use."""
    name = f"{environment.job_id}/{_restarts()}/{job.config['evaluation']}"
    return f"tcp://{environment.hostnames[0]}:{20_000 + zlib.crc32(name.encode()) % 12_000}"


def requeue_signal() -> signal.Signals:
    """The signal that submitit tells SLURM to send before the end of a job."""
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
