"""What a launcher starts for each run: one process that carries one run out and says how it ended.

The exit status is the message: other launchers than the local one see nothing else.
"""

import ctypes
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simclr_ablate.stopping import Interrupted, StopSignal

if TYPE_CHECKING:
    from simclr_ablate.claim import Claim
    from simclr_ablate.store import Run
    from simclr_ablate.training.distributed import Ranks

log = logging.getLogger(__name__)

COMPLETE, FAILED, INTERRUPTED, HELD, LOST = 0, 1, 75, 76, 77
"""Exit statuses. INTERRUPTED: stopped and checkpointed on request; HELD: another process works on the run; LOST:
another rank of the same run is gone."""

LOST_SECONDS = 1.0
"""How long a rank that lost another leaves it to say why: that is the better reason."""

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True)
class Job:
    """One run to carry out, in plain values that pickle without torch."""

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


def work(job: Job) -> None:
    """Carries `job` out in this process and exits with one of the statuses above."""
    keep_freed_memory()
    with StopSignal() as stop:
        if len(job.devices) > 1:
            from simclr_ablate.launch.ranks import lead

            status = lead(job, stop)
        else:
            status = carry_out_job(job, stop)
    sys.exit(status)


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


def carry_out_job(job: Job, stop: StopSignal, ranks: "Ranks | None" = None) -> int:
    """The run itself: claimed, logged, and its failure recorded. Of several ranks, by the first."""
    from simclr_ablate.identity import evaluation_key
    from simclr_ablate.own import look_in
    from simclr_ablate.schema import Experiment
    from simclr_ablate.training.distributed import SOLO

    if job.folder is not None:
        look_in(job.folder)
    ranks = ranks or SOLO
    experiment = Experiment.from_config(job.config)
    run, key = run_of(job), evaluation_key(experiment)
    claim, status = _claim(run, key, job) if ranks.is_first else (None, None)
    status = ranks.from_first(status)
    if status is not None:
        return status
    with _logged_to(run.log_path, ranks) if job.keeps_log else nullcontext():
        where = f", SLURM job {job.job_id}" if job.job_id else ""
        log.info("%s on %s, process %d%s", run.run_id, socket.gethostname(), os.getpid(), where)
        try:
            from simclr_ablate.experiment import carry_out

            with stop.at_once():
                carry_out(experiment, run, claim, job, stop, ranks)
            return COMPLETE
        except Interrupted:
            return COMPLETE if run.is_evaluated(key) else INTERRUPTED
        except BaseException as error:
            ranks.abandon()
            return record_failure(run, error, stop, ranks.index, ranks.count)
        finally:
            if claim is not None:
                claim.release()


def run_of(job: Job) -> "Run":
    """The job's run in its store."""
    from simclr_ablate.identity import run_id
    from simclr_ablate.schema import Experiment
    from simclr_ablate.store import Store

    return Store(job.store).run(run_id(Experiment.from_config(job.config)))


def _claim(run: "Run", key: str, job: Job) -> "tuple[Claim | None, int | None]":
    """The run's claim, or the status to end with where there is nothing to do here. key: of the evaluation."""
    run.create(job.config)
    claim = run.claim(job.job_id)
    if claim is None:
        return None, HELD
    if run.is_evaluated(key):
        # Another command has finished it since this one looked.
        claim.release()
        return None, COMPLETE
    run.clear_failure()
    return claim, None


def record_failure(
    run: "Run", error: BaseException, stop: StopSignal, index: int = 0, count: int = 1
) -> int:
    """Keeps the reason for which rank `index` of `count` failed; returns the status to end with."""
    from simclr_ablate.training.distributed import RankLostError

    print(traceback.format_exc(), file=sys.stderr, flush=True)
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    if index:
        reason = f"rank {index} of {count}: {reason}"
    lost = isinstance(error, RankLostError)
    if lost:
        time.sleep(LOST_SECONDS)
        if stop():
            return INTERRUPTED  # all of them are asked to; the other was quicker
    if not lost or run.failure() is None:
        run.write_failure({"reason": reason, "traceback": traceback.format_exc()})
    return LOST if lost else FAILED


def killed(number: int) -> str:
    """`killed by SIGKILL (out of memory?)`: how signal `number` ended a process."""
    name = signal.Signals(number).name
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


@contextmanager
def _logged_to(path: Path, ranks: "Ranks") -> Iterator[None]:
    """Sends what this process and its libraries print to the run's log: of ranks but the first, only warnings."""
    streams, kept = (sys.stdout, sys.stderr), (os.dup(1), os.dup(2))
    for stream in streams:
        stream.flush()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
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
        for stream in (sys.stdout, sys.stderr, *streams):
            stream.flush()
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdout, sys.stderr = streams
        logging.basicConfig(stream=sys.stderr, force=True, format="%(asctime)s %(message)s")
