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
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simclr_ablate.claim import Claim
    from simclr_ablate.schema import Experiment
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


def work(job: Job) -> None:
    """Carries `job` out in this process and exits with one of the statuses above."""
    keep_freed_memory()
    stop = StopSignal()
    if len(job.devices) > 1:
        from simclr_ablate.launch.ranks import lead

        sys.exit(lead(job, stop))
    sys.exit(carry_out_job(job, stop))


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


class StopSignal:
    """True once somebody wants the run to stop: SIGTERM came, or the launcher is gone.

    The handler only sets a flag, which the training loop looks at after each step.
    """

    def __init__(self) -> None:
        self._asked = False
        self._pid = os.getpid()
        # Ctrl-C reaches the whole process group; the launcher decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._ask)

    def __call__(self) -> bool:
        launcher = parent_process()
        return self._asked or (launcher is not None and not launcher.is_alive())

    def _ask(self, *_: object) -> None:
        if os.getpid() != self._pid:
            # A child that inherited the handler, such as a data loader's worker, just ends.
            os._exit(1)
        self._asked = True


def carry_out_job(job: Job, stop: Callable[[], bool], ranks: "Ranks | None" = None) -> int:
    """The run itself: claimed, logged, and its failure recorded. Of several ranks, by the first."""
    from simclr_ablate.schema import Experiment
    from simclr_ablate.training.distributed import SOLO

    ranks = ranks or SOLO
    experiment = Experiment.from_config(job.config)
    run = run_of(job)
    claim, status = _claim(run, experiment, job) if ranks.is_first else (None, None)
    status = ranks.from_first(status)
    if status is not None:
        return status
    _log_to(run.log_path, ranks)
    log.info("%s on %s, process %d", run.run_id, socket.gethostname(), os.getpid())
    try:
        from simclr_ablate.experiment import Interrupted, carry_out

        carry_out(experiment, run, claim, job, stop, ranks)
        return COMPLETE
    except Interrupted:
        return INTERRUPTED
    except BaseException as error:
        ranks.abandon()
        return record_failure(run, error, ranks.index, ranks.count)
    finally:
        if claim is not None:
            claim.release()


def run_of(job: Job) -> "Run":
    """The job's run in its store."""
    from simclr_ablate.identity import run_id
    from simclr_ablate.schema import Experiment
    from simclr_ablate.store import Store

    return Store(job.store).run(run_id(Experiment.from_config(job.config)))


def _claim(run: "Run", experiment: "Experiment", job: Job) -> "tuple[Claim | None, int | None]":
    """The run's claim, or the status to end with where there is nothing to do here."""
    from simclr_ablate.identity import evaluation_key

    run.create(job.config)
    claim = run.claim()
    if claim is None:
        return None, HELD
    if run.is_evaluated(evaluation_key(experiment)):
        # Another command has finished it since this one looked.
        claim.release()
        return None, COMPLETE
    run.clear_failure()
    return claim, None


def record_failure(run: "Run", error: BaseException, index: int = 0, count: int = 1) -> int:
    """Keeps the reason for which rank `index` of `count` failed; returns the status to end with."""
    from simclr_ablate.training.distributed import RankLostError

    print(traceback.format_exc(), file=sys.stderr, flush=True)
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    if index:
        reason = f"rank {index} of {count}: {reason}"
    lost = isinstance(error, RankLostError)
    if lost:
        time.sleep(LOST_SECONDS)
    if not lost or run.failure() is None:
        run.write_failure({"reason": reason, "traceback": traceback.format_exc()})
    return LOST if lost else FAILED


def killed(number: int) -> str:
    """`killed by SIGKILL (out of memory?)`: how signal `number` ended a process."""
    name = signal.Signals(number).name
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


def _log_to(path: Path, ranks: "Ranks") -> None:
    """Sends what this process and its libraries print to the run's log: of ranks but the first, only warnings."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    level, who = (
        (logging.INFO, "") if ranks.is_first else (logging.WARNING, f"rank {ranks.index}: ")
    )
    logging.basicConfig(
        level=level, stream=sys.stderr, force=True, format=f"%(asctime)s {who}%(message)s"
    )
