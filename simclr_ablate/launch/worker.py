"""What a launcher starts for each run: one process that carries one run out and says how it ended.

The exit status is the message: other launchers than the local one see nothing else.
"""

import ctypes
import logging
import os
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

COMPLETE, FAILED, INTERRUPTED, HELD = 0, 1, 75, 76
"""Exit statuses. INTERRUPTED: stopped and checkpointed on request; HELD: another process works on the run."""

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


def work(job: Job) -> None:
    """Carries `job` out in this process and exits with one of the statuses above."""
    keep_freed_memory()
    stop = StopSignal()
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


def carry_out_job(job: Job, stop: StopSignal) -> int:
    """The run itself: claimed, logged, and its failure recorded."""
    from simclr_ablate.identity import evaluation_key, run_id
    from simclr_ablate.schema import Experiment
    from simclr_ablate.store import Store

    experiment = Experiment.from_config(job.config)
    run = Store(job.store).run(run_id(experiment))
    run.create(job.config)
    claim = run.claim()
    if claim is None:
        return HELD
    if run.is_evaluated(evaluation_key(experiment)):
        # Another command has finished it since this one looked.
        claim.release()
        return COMPLETE
    _log_to(run.log_path)
    log.info("%s on %s, process %d", run.run_id, socket.gethostname(), os.getpid())
    try:
        from simclr_ablate.experiment import Interrupted, carry_out

        run.clear_failure()
        carry_out(experiment, run, claim, job, stop)
        return COMPLETE
    except Interrupted:
        return INTERRUPTED
    except BaseException as error:
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        run.write_failure({"reason": reason, "traceback": traceback.format_exc()})
        return FAILED
    finally:
        claim.release()


def _log_to(path: Path) -> None:
    """Sends what this process and its libraries print to the run's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, force=True, format="%(asctime)s %(message)s"
    )
