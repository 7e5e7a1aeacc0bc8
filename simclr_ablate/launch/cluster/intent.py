"""Intents: jobs are written down before they are handed to SLURM.

If a command is killed, or SLURM's answer never arrives, the next command finds the jobs by their name instead of
submitting the same runs twice.

    runs/.jobs/NAME/intent.json  exists until sbatch's answer is recorded

`NAME` is the unique name of the job or array, and of submitit's folder for it. The file describes the jobs of an array
in the array's order.
"""

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from submitit.core.utils import DelayedSubmission, JobPaths

from simclr_ablate.config import ConfigError
from simclr_ablate.files import (
    StorageError,
    age_of,
    names_in,
    read_json,
    report_damage,
    storing,
    write_json,
)
from simclr_ablate.launch.cluster.queue import UNSEEN_SECONDS, ask
from simclr_ablate.store import Store, TaskFolder

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Intent:
    """One job or array that the store has no record of yet.

    folder: submitit's. time: when the intent was written. records: what to write into the store for each job, in the
    array's order, apart from the job's id and output. Each has the `submission`, and either `run`, `config`, whether
    the job `pretrains`, and its `evaluation`; or the `choice` that the job makes.
    """

    folder: Path
    time: float
    records: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        return self.folder.name

    def write(self) -> None:
        """Writes `intent.json`. Raises StorageError."""
        with storing(self.folder, "store"):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "intent.json", {"time": self.time, "records": list(self.records)})

    @classmethod
    def read_all(cls, store: Store) -> list[Self]:
        """The intents that commands have left in the store, oldest first."""
        folder = store.root / ".jobs"
        intents = (cls._read(folder / name / "intent.json") for name in names_in(folder))
        return sorted((one for one in intents if one is not None), key=lambda intent: intent.time)

    @classmethod
    def _read(cls, path: Path) -> Self | None:
        content = read_json(path)
        if content is None:
            return None
        try:
            intent = cls(path.parent.resolve(), float(content["time"]), content["records"])
            if all(
                record["submission"]
                and ("choice" in record or (record["run"] and record["config"]))
                for record in intent.records
            ):
                return intent
        except (TypeError, KeyError, ValueError):
            pass
        report_damage(path, "it describes no jobs")
        return None

    def age(self) -> float:
        """Seconds since it was written, by the file system's clock; by ours if another user's folder is closed."""
        try:
            return age_of(self.folder / "intent.json")
        except StorageError:
            return time.time() - self.time

    def job_ids(self, first: str) -> list[str]:
        """SLURM's ids of the jobs. first: the id of the job or array."""
        if len(self.records) == 1:
            return [first]
        return [f"{first}_{index}" for index in range(len(self.records))]

    def settle(self, store: Store, first: str, process: Mapping[str, Any] | None = None) -> None:
        """Records that SLURM has the jobs, as `first`. A record that exists already stays as it is.

        If one run's record cannot be written, the others are still recorded. process: the process on this machine that
        carries out the job (`lease.process`), if the job is not SLURM's.
        """
        for job, record in zip(self.job_ids(first), self.records, strict=True):
            output = str(JobPaths(self.folder, job_id=job).stderr)
            try:
                for task in _tasks(store, record):
                    _settle_task(task, record, job, output, process)
            except StorageError as error:
                log.warning("job %s could not be recorded: %s", job, error)
        self.withdraw()

    def withdraw(self) -> None:
        """Deletes the intent, because its jobs are recorded or do not exist."""
        with suppress(OSError):
            (self.folder / "intent.json").unlink(missing_ok=True)

    def drop(self) -> None:
        """Deletes the intent and submitit's folder, because its jobs do not exist."""
        self.withdraw()
        shutil.rmtree(self.folder, ignore_errors=True)

    def is_written(self) -> bool:
        """Whether the next command will look for the jobs."""
        return (self.folder / "intent.json").exists()

    def has_script(self) -> bool:
        """Whether submitit has written the script for sbatch; if so, SLURM may have the jobs."""
        return any(self.folder.glob("*submission*.sh"))

    def look_up(self, patience: float = 0.0) -> str | None:
        """SLURM's id of the job or array, or None if SLURM has none of this name after `patience` seconds.

        Raises ConfigError if SLURM does not answer.
        """
        deadline = time.monotonic() + patience
        while (job := self._ask()) is None and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        return job

    def _ask(self) -> str | None:
        queued = _words(
            ["squeue", "--noheader", "--states=all", f"--name={self.name}", "--format=%F"]
        )
        if queued is None:
            raise ConfigError(
                f"jobs named {self.name} may have been submitted, but SLURM does not answer: try again"
            )
        begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self.time - 86_400))
        account = ["sacct", "--noheader", "--parsable2", "--allocations", "--allusers"]
        more = [f"--name={self.name}", f"--starttime={begin}", "--format=JobID"]
        # Not every cluster has an accounting database.
        ids = queued or _words([*account, *more]) or []
        return min((job.partition("_")[0] for job in ids), key=int, default=None)

    def complete_pickles(self, first: str) -> None:
        """Gives each job the pickle of its call, if the command ended before submitit did so.

        A damaged pickle is left where it is, and its job fails without it.
        """
        jobs = self.job_ids(first)
        for left in map(self.folder.joinpath, names_in(self.folder)):
            if left.suffix != ".pkl" or left.stem.endswith(("_submitted", "_result")):
                continue
            try:
                job = jobs[self._position(DelayedSubmission.load(left).function)]
                JobPaths(self.folder, job_id=job).move_temporary_file(left, "submitted_pickle")
            except Exception as error:  # unpickling can raise anything
                report_damage(left, f"{type(error).__name__}: {error}")

    def _position(self, call: Any) -> int:
        """The position of `call` in the array."""
        if len(self.records) == 1:
            return 0
        config = json.loads(json.dumps(call.job.config))
        return [record["config"] for record in self.records].index(config)


def adopt(store: Store) -> None:
    """Records jobs that commands submitted but could not record; forgets those that never reached SLURM.

    Call it inside `Store.submitting`. Raises ConfigError if SLURM does not answer.
    """
    for intent in Intent.read_all(store):
        # SLURM may be slow to show a job that it has just received.
        patience = UNSEEN_SECONDS - abs(intent.age())
        if patience > 0:
            log.warning(
                "a command ended while submitting jobs named %s: looking for them for at most %.0f s",
                intent.name,
                patience,
            )
        first = intent.look_up(patience)
        if first is None:
            intent.withdraw()
            continue
        intent.complete_pickles(first)
        intent.settle(store, first)
        log.warning("job %s was submitted by a command that could not record it", first)


def _tasks(store: Store, record: Mapping[str, Any]) -> Iterator[TaskFolder]:
    """The tasks of the job that `record` describes."""
    if "choice" in record:
        yield store.choice(record["choice"])
        return
    run = store.run(record["run"])
    run.create(record["config"])
    if record.get("pretrains"):
        yield run
    if record.get("evaluation") is not None:
        yield run.evaluating(record["evaluation"])


def _settle_task(
    task: TaskFolder,
    record: Mapping[str, Any],
    job: str,
    output: str,
    process: Mapping[str, Any] | None,
) -> None:
    last = task.last_submission() or {}
    if (last.get("job"), last.get("process")) == (job, process):
        return
    task.create(record.get("config", {}))
    # Before the submission is written, because the job may fail at once.
    task.clear_failure()
    task.forget_timeouts()
    submission = {**record["submission"], "job": job, "output": output}
    task.write_submission(submission | ({"process": process} if process else {}))


def _words(command: list[str]) -> list[str] | None:
    """The words of SLURM's answer, or None if it does not answer."""
    done = ask(command)
    return None if done is None or done.returncode else done.stdout.split()
