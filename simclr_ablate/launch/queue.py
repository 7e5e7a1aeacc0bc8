"""What SLURM says of jobs, and what follows from it for the tasks of a store."""

import logging
import math
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simclr_ablate.config import ConfigError
from simclr_ablate.files import StorageError
from simclr_ablate.launch.allocation import for_questions
from simclr_ablate.store import ChoiceFolder, TaskFolder

log = logging.getLogger(__name__)

QUEUE_SECONDS = 30.0
"""How long a query may take; a controller that is down or busy does not stop whoever asks."""
SETTLE_SECONDS = 10.0
UNSEEN_SECONDS = 60.0
"""How long after its submission a job may be unknown to SLURM without being taken for lost."""

ATTEMPT = "simclr_ablate: attempt "
"""What a job prints first each time it starts, since SLURM adds to the output of a job that it starts again."""

_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_RUNNING = {
    *("RUNNING", "CONFIGURING", "COMPLETING", "SIGNALING", "STAGE_OUT", "SUSPENDED"),
    *("STOPPED", "RESIZING"),
}
_PAUSED = {"SUSPENDED", "STOPPED"}
"""The job's processes are there, and beat no more until SLURM lets them go on."""


@dataclass(frozen=True)
class JobInfo:
    """One job, or one element of an array."""

    job: str
    state: str
    """SLURM's: PENDING, RUNNING, OUT_OF_MEMORY, ..."""
    why: str
    """Why it waits (Priority, Resources, ...), or its exit code once it has ended."""
    node: str
    elapsed: str

    @property
    def is_waiting(self) -> bool:
        return self.state in _WAITING

    @property
    def has_ended(self) -> bool:
        return self.state not in _WAITING and self.state not in _RUNNING

    def ending(self) -> str:
        """How it ended, for a person."""
        node = f" on {self.node}" if self.node and not self.node.startswith("None") else ""
        code = f", exit code {self.why}" if ":" in self.why else ""
        return f"SLURM job {self.job} ended as {self.state}{node} after {self.elapsed}{code}"


def require_slurm() -> None:
    """Raises ConfigError where there is no SLURM to submit to."""
    missing = [program for program in ("sbatch", "srun") if shutil.which(program) is None]
    if missing:
        raise ConfigError(
            f"launcher=slurm needs SLURM, and here is no {' and no '.join(missing)}: use launcher=local, or "
            "launcher=slurm launcher.cluster=local, which takes the way of jobs on this machine"
        )


def look_up(jobs: Iterable[str]) -> dict[str, JobInfo] | None:
    """What SLURM knows of `jobs` (`17_3`); those that it does not know are missing. None: it does not answer."""
    wanted = set(jobs)
    if not wanted:
        return {}
    queued = _query(
        ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r|%N|%M"], wanted
    )
    if queued is None:
        return None
    missing = {job for job in wanted if job not in queued or queued[job].has_ended}
    if missing:
        columns = "--format=JobID,State,ExitCode,NodeList,Elapsed"
        # Not everywhere is there an accounting database.
        ended = _query(["sacct", "--noheader", "--parsable2", "--allocations", columns], missing)
        queued.update({job: info for job, info in (ended or {}).items() if info.has_ended})
    return {job: info for job, info in queued.items() if job in wanted}


def settle(tasks: Iterable[TaskFolder]) -> dict[str, JobInfo]:
    """Brings the store up to date with SLURM: a task whose job has ended, and that is not done, has failed; one that
    nobody works on while its job has not ended, such as after a requeue from outside, is queued. A job that still
    works on its task has not ended, whatever SLURM says or has forgotten.

    Returns what SLURM says of the jobs of `tasks`, by the task's name.
    """
    submitted = [(task, task.submission()) for task in tasks]
    submissions = [(task, each) for task, each in submitted if each and each["cluster"] == "slurm"]
    known = look_up(submission["job"] for _, submission in submissions)
    if known is None:
        return {}
    infos = {}
    for task, submission in submissions:
        info = known.get(submission["job"])
        if info is not None:
            infos[task.name] = info
        try:
            _settle(task, submission, info)
        except StorageError as error:  # a store that one may read only, or that is full
            log.warning("%s", error)
    return infos


def _settle(task: TaskFolder, submission: dict[str, Any], info: JobInfo | None) -> None:
    job = submission["job"]
    if info is not None and not info.has_ended:
        if task.is_abandoned() and info.state not in _PAUSED:
            task.requeue_job(job)
    elif info is not None:
        task.end_job(job, info.ending() + _last_words(Path(submission["output"])))
    else:
        task.lose_job(job, UNSEEN_SECONDS, f"SLURM does not know job {job} any more")


class Settler:
    """`settle` for those who look at tasks again and again: SLURM is asked every SETTLE_SECONDS at most."""

    def __init__(self) -> None:
        self._infos: dict[str, JobInfo] = {}
        self._asked = -math.inf

    def __call__(self, tasks: Iterable[TaskFolder]) -> dict[str, JobInfo]:
        """What SLURM said of the jobs of `tasks` when it was last asked, by the task's name."""
        if time.monotonic() - self._asked > SETTLE_SECONDS:
            self._infos = settle(tasks)
            self._asked = time.monotonic()
        return self._infos


def ask(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    """What one of SLURM's programs answers, whatever filters the user has set; None where it does not."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=QUEUE_SECONDS,
            check=False,
            env=for_questions(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _query(command: list[str], jobs: set[str]) -> dict[str, JobInfo] | None:
    """The answer's lines by job; empty where SLURM knows none of the jobs, None where it does not answer."""
    arrays = sorted({job.partition("_")[0] for job in jobs})
    done = ask([*command, f"--jobs={','.join(arrays)}"])
    if done is None:
        return None
    if done.returncode:
        return {} if "Invalid job id" in done.stderr else None
    infos = {}
    for line in done.stdout.splitlines():
        job, state, why, node, elapsed = line.split("|")[:5]
        # "CANCELLED by 0" in sacct
        infos[job] = JobInfo(job, state.partition(" ")[0], why, node, elapsed)
    return infos


def _last_words(output: Path) -> str:
    """What SLURM itself said last of the job's last attempt, such as that it was over its memory limit."""
    try:
        text = output.read_text(errors="replace")
    except OSError:
        return ""
    lines = text.rpartition(ATTEMPT)[2].splitlines()
    said = [line for line in lines if line.startswith("slurmstepd") and "error:" in line]
    return f": {said[-1].partition('error:')[2].strip()}" if said else ""


def describe_choice(folder: ChoiceFolder, info: JobInfo | None = None) -> str:
    """One line for a person on a choice that is not made. info: what SLURM says of its job."""
    begin, last = f"second stage of {folder.sweep}", folder.last_submission() or {}
    if folder.is_queued():
        what = f"job {last.get('job')}" if info is None else describe(info)
        return f"{begin}: {what} submits it once the first has ended"
    unknown = {"reason": f"job {last.get('job')} ended before it had submitted it"}
    reason = (folder.failure() or unknown)["reason"]
    return f"{begin}: {reason} (log: {last.get('output')})"


def scancel(jobs: list[str]) -> None:
    """Cancels jobs of the cluster. Raises ConfigError with SLURM's own words where it refuses."""
    try:
        done = subprocess.run(
            ["scancel", *jobs],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=for_questions(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"scancel: {error}") from error
    # A job that has ended meanwhile is as good as cancelled.
    problems = [line for line in done.stderr.splitlines() if "Invalid job id" not in line]
    if done.returncode and problems:
        raise ConfigError("; ".join(problems))


def describe(info: JobInfo) -> str:
    """One job for a table: `RUNNING on node7 for 3:05`, `PENDING (Priority)`."""
    if info.is_waiting:
        return f"job {info.job} {info.state} ({info.why})"
    if info.has_ended:
        return f"job {info.job} {info.state}"
    return f"job {info.job} {info.state} on {info.node} for {info.elapsed}"
