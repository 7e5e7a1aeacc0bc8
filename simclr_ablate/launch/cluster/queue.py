"""What SLURM says about jobs, and what that means for the tasks of a store."""

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
from simclr_ablate.launch.cluster.allocation import for_questions
from simclr_ablate.store import ChoiceFolder, TaskFolder

log = logging.getLogger(__name__)

QUEUE_SECONDS = 30.0
"""How long a query may take, so that a controller that is down or busy does not block the caller."""
SETTLE_SECONDS = 10.0
UNSEEN_SECONDS = 60.0
"""How long after its submission a job may be unknown to SLURM before it counts as lost."""

ATTEMPT = "simclr_ablate: attempt "
"""A job prints this first whenever it starts, because SLURM appends to the output of a job that it starts again."""

_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_RUNNING = {
    *("RUNNING", "CONFIGURING", "COMPLETING", "SIGNALING", "STAGE_OUT", "SUSPENDED"),
    *("STOPPED", "RESIZING"),
}
_PAUSED = {"SUSPENDED", "STOPPED"}
"""The job's processes exist, but their leases do not beat until SLURM lets them continue."""


@dataclass(frozen=True)
class JobInfo:
    """One job, or one element of an array."""

    job: str
    state: str
    """In SLURM's words: PENDING, RUNNING, OUT_OF_MEMORY, ..."""
    why: str
    """Why it is waiting (Priority, Resources, ...), or its exit code once it has ended."""
    node: str
    elapsed: str

    @property
    def is_waiting(self) -> bool:
        return self.state in _WAITING

    @property
    def has_ended(self) -> bool:
        return self.state not in _WAITING and self.state not in _RUNNING

    def ending(self) -> str:
        """How it ended, for people."""
        node = f" on {self.node}" if self.node and not self.node.startswith("None") else ""
        code = f", exit code {self.why}" if ":" in self.why else ""
        return f"SLURM job {self.job} ended as {self.state}{node} after {self.elapsed}{code}"


def require_slurm() -> None:
    """Raises ConfigError if SLURM's programs are not installed here."""
    missing = [program for program in ("sbatch", "srun") if shutil.which(program) is None]
    if missing:
        raise ConfigError(
            f"launcher=slurm needs SLURM, but this machine has no {' and no '.join(missing)}: use launcher=local, "
            "or launcher=slurm launcher.cluster=local, which runs the jobs as processes on this machine"
        )


def look_up(jobs: Iterable[str]) -> dict[str, JobInfo] | None:
    """What SLURM knows about `jobs` (such as `17_3`), without unknown ones; None if it does not answer."""
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
        # Not every cluster has an accounting database.
        ended = _query(["sacct", "--noheader", "--parsable2", "--allocations", columns], missing)
        queued.update({job: info for job, info in (ended or {}).items() if info.has_ended})
    return {job: info for job, info in queued.items() if job in wanted}


def settle(tasks: Iterable[TaskFolder]) -> dict[str, JobInfo]:
    """Updates the store from SLURM's answer, and returns that answer for the jobs of `tasks`, by the task's name.

    An unfinished task has failed if its job has ended. It is queued again if its job has not ended but nobody works on
    it, as after a requeue from outside. A job that still works on its task has not ended, whatever SLURM says.
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
        except StorageError as error:  # a store that is read-only or full
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
        task.lose_job(job, UNSEEN_SECONDS, f"SLURM no longer knows job {job}")


class Settler:
    """`settle` for repeated use: it asks SLURM at most every SETTLE_SECONDS."""

    def __init__(self) -> None:
        self._infos: dict[str, JobInfo] = {}
        self._asked = -math.inf

    def __call__(self, tasks: Iterable[TaskFolder]) -> dict[str, JobInfo]:
        """What SLURM last said about the jobs of `tasks`, by the task's name."""
        if time.monotonic() - self._asked > SETTLE_SECONDS:
            self._infos = settle(tasks)
            self._asked = time.monotonic()
        return self._infos


def ask(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    """The answer of one of SLURM's programs, without the user's filters; None if there is none."""
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
    """The answer's lines by job: empty if SLURM knows none of the jobs, None if it does not answer."""
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
    """SLURM's own last message about the job's last attempt, such as that it exceeded its memory limit."""
    try:
        text = output.read_text(errors="replace")
    except OSError:
        return ""
    lines = text.rpartition(ATTEMPT)[2].splitlines()
    said = [line for line in lines if line.startswith("slurmstepd") and "error:" in line]
    return f": {said[-1].partition('error:')[2].strip()}" if said else ""


def describe_choice(folder: ChoiceFolder, info: JobInfo | None = None) -> str:
    """One line for people about a choice that has not been made. info: what SLURM says about its job."""
    begin, last = f"second stage of {folder.sweep}", folder.last_submission() or {}
    if folder.is_queued():
        what = f"job {last.get('job')}" if info is None else describe(info)
        return f"{begin}: {what} submits it once the first has ended"
    unknown = {"reason": f"job {last.get('job')} ended before submitting it"}
    reason = (folder.failure() or unknown)["reason"]
    return f"{begin}: {reason} (log: {last.get('output')})"


def scancel(jobs: list[str]) -> None:
    """Cancels jobs of the cluster. Raises ConfigError with SLURM's own message if it refuses."""
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
    # A job that has ended meanwhile needs no cancelling.
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
