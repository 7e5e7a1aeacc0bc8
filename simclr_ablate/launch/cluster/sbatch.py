"""Submitting through submitit, one job or array at a time, so that it is found again even if the command is killed."""

import re
import shlex
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from simclr_ablate.config import ConfigError
from simclr_ablate.files import storing
from simclr_ablate.launch.cluster.allocation import outside_of_an_allocation
from simclr_ablate.launch.cluster.intent import Intent
from simclr_ablate.launch.cluster.submitted import requeue_signal
from simclr_ablate.plan.launchers import Resources, SlurmOptions
from simclr_ablate.store import Store

ANSWER_SECONDS = 10.0
"""How long to look for jobs if SLURM did not answer their submission."""
_NO_ANSWER = re.compile(
    "timed? ?out|contact|connect|communicat|zero bytes|message (receive|length)|unexpected message",
    re.I,
)
"""Matches sbatch's messages that leave open whether SLURM took the jobs."""
_ENDLESS = 10**6
"""More time-outs than submitit will ever count: our own rule is in `submitted.py`."""

Shape = tuple[Resources, int]
"""The resources of each run of an array, and its number of ranks."""


def hand_in(
    options: SlurmOptions,
    store: Store,
    name: str,
    shape: Shape,
    calls: Sequence[Callable[[], None]],
    records: Sequence[Mapping[str, Any]],
    **more: str,
) -> list[str]:
    """Submits these calls as one job or array and records it; returns SLURM's id of each. Raises ConfigError.

    records: what to write into the store for each job, see `Intent`. more: options of sbatch beyond `options`.
    """
    intent = plan_intent(options, store, name, records)
    # Ctrl-C must not leave jobs without a record. If the command is killed nevertheless, the next one finds the
    # intent.
    with one_line(intent.folder), deaf_to_ctrl_c():
        intent.write()
        first = _submit(options, intent, shape, calls, more)
        intent.settle(store, first)
    return intent.job_ids(first)


def _submit(
    options: SlurmOptions,
    intent: Intent,
    shape: Shape,
    calls: Sequence[Callable[[], None]],
    more: Mapping[str, str],
) -> str:
    """SLURM's id of the job or array. If this raises, the intent stays only if SLURM may have the jobs."""
    try:
        executor = make_executor(options, intent, shape, more)
        with outside_of_an_allocation(), executor.batch():
            handles = [executor.submit(call) for call in calls]
    except (FailedJobError, FailedSubmissionError) as error:
        return _submitted_after_all(intent, error)
    except (ValueError, RuntimeError, OSError):
        if not intent.has_script():  # sbatch was not called
            intent.drop()
            raise
        first = _taken(intent)
        if first is None:
            raise
        return first
    return handles[0].job_id.partition("_")[0]


def plan_intent(
    options: SlurmOptions, store: Store, name: str, records: Sequence[Mapping[str, Any]]
) -> Intent:
    """The intent of one job or array, not yet written. name: the beginning of the job's name. Raises ConfigError."""
    root = store.root.resolve()
    name = options.sbatch.get("job-name", name)
    unique = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{uuid.uuid4().hex[:12]}"
    folder = root / ".jobs" / unique
    literal_logs(str(folder), len(records))  # raises before anything is written
    return Intent(folder, time.time(), records)


def make_executor(
    options: SlurmOptions, intent: Intent, shape: Shape, more: Mapping[str, str]
) -> submitit.AutoExecutor:
    """submitit's executor for the jobs of `intent`. more: see `hand_in`."""
    executor = submitit.AutoExecutor(
        intent.folder,
        cluster=options.cluster,
        slurm_max_num_timeout=_ENDLESS,
        slurm_python=_python(options),
    )
    logs, of_tasks = literal_logs(str(intent.folder), len(intent.records))
    parameters = _parameters(options, intent.name, shape, {**logs, **more})
    parameters["slurm_srun_args"] += of_tasks
    executor.update_parameters(**parameters)
    return executor


def _python(options: SlurmOptions) -> str:
    """The shell command that runs Python in a job."""
    python = options.python or shlex.quote(sys.executable)
    # Without srun, SLURM signals the process of the batch script, and a shell would not pass the signal on.
    return python if options.use_srun else f"exec {python}"


def literal_logs(folder: str, jobs: int) -> tuple[dict[str, str], list[str]]:
    """Options of sbatch and of srun for a folder with `%` in its name, which both would read as a pattern.

    They are empty for other folders, because submitit names the logs there. jobs: how many are submitted at once.
    Raises ConfigError if the folder's name contains one of submitit's own patterns.
    """
    if "%" not in folder:
        return {}, []
    own = [pattern for pattern in ("%j", "%t", "%A", "%a") if pattern in folder]
    if own:
        raise ConfigError(f"store must not contain {own[0]} with launcher=slurm, got {folder!r}")
    pattern = folder.replace("%", "%%") + ("/%j" if jobs == 1 else "/%A_%a")
    of_tasks = [f"--{name}={pattern}_%t_log.{end}" for name, end in _LOGS.items()]
    return {name: f"{pattern}_0_log.{end}" for name, end in _LOGS.items()}, of_tasks


_LOGS = {"output": "out", "error": "err"}
"""Options for log files, and the endings that submitit gives their names."""


def _parameters(
    options: SlurmOptions, name: str, shape: Shape, more: Mapping[str, str]
) -> dict[str, Any]:
    """The parameters of one array, by submitit's names. more: options of sbatch."""
    resources, ranks = shape
    given = {"requeue": True, **_signal(options), **options.sbatch, **more}
    given = {
        name: value
        for name, value in given.items()
        if value is not False and name != "job-name"  # which `name` begins with
    }
    cpus = options.sbatch.get("cpus-per-task", resources.cpus)
    parameters: dict[str, Any] = {
        "name": name,
        "timeout_min": resources.time_minutes,
        "nodes": resources.nodes,
        "tasks_per_node": ranks // resources.nodes,
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus // resources.nodes or None,
        "mem_gb": resources.memory_gb,
        "slurm_partition": options.partition,
        "slurm_account": options.account,
        "slurm_qos": options.qos,
        "slurm_constraint": options.constraint,
        "slurm_signal_delay_s": options.signal_seconds,
        "slurm_array_parallelism": options.max_parallel or _ENDLESS,
        "slurm_setup": list(options.setup) or None,
        "slurm_use_srun": options.use_srun,
        # If one task dies, the others are ended too. Since SLURM 22.05, srun does not take the CPUs over from sbatch:
        # where tasks are bound to cores, each would get one.
        "slurm_srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={cpus}", *options.srun_args],
        "slurm_additional_parameters": given,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def _signal(options: SlurmOptions) -> dict[str, str]:
    """sbatch's option for the signal before the end, or none if submitit's will do."""
    # submitit's reaches only what srun has started; `B:` is for the process of the batch script.
    if options.use_srun:
        return {}
    name = requeue_signal().name.removeprefix("SIG")
    return {"signal": f"B:{name}@{options.signal_seconds}"}


def _submitted_after_all(intent: Intent, error: Exception) -> str:
    """SLURM's id of jobs that it took although sbatch failed, as when its answer was lost. Raises ConfigError."""
    words = _refusal(error)
    unsure = isinstance(error, FailedSubmissionError) or _NO_ANSWER.search(words) is not None
    first = _taken(intent, unsure)
    if first is not None:
        return first
    if intent.is_written():
        words += (
            " (SLURM may have accepted the jobs anyway: run the same command again, and it will find "
            "or submit them)"
        )
    raise ConfigError(words) from error


def _taken(intent: Intent, unsure: bool = False) -> str | None:
    """SLURM's id of the job or array, or None. The intent is dropped if it is certain that SLURM does not have it.

    unsure: whether SLURM may have taken the jobs without showing them yet.
    """
    try:
        first = intent.look_up(ANSWER_SECONDS if unsure else 0.0)
    except ConfigError:  # SLURM does not answer
        return None
    if first is not None:
        intent.complete_pickles(first)
    elif not unsure:
        intent.drop()
    return first


@contextmanager
def one_line(folder: Path) -> Iterator[None]:
    """Turns errors of submitit and of the system into one-line ConfigErrors. folder: submitit's."""
    try:
        with storing(folder, "store"):
            yield
    except ConfigError:
        raise
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"submitit: {error}".splitlines()[0]) from error


def _refusal(error: Exception) -> str:
    """sbatch's own error message."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line.startswith("sbatch:")]
    return "; ".join(said or lines) or "sbatch failed without a message"


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C, which is meant for the command."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
