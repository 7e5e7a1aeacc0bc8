"""Jobs that are about to be handed to SLURM, written down first.

A command that is killed, or never hears SLURM's answer, leaves what the next one needs to find its jobs by their name,
instead of submitting the same runs twice.

    runs/.jobs/NAME/intent.json  until what sbatch answered is recorded

`NAME` is the name of the job or array, unlike any other, and of submitit's folder for it. What the jobs of an array are
to do lies there in its order.
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
from simclr_ablate.launch.queue import UNSEEN_SECONDS, ask
from simclr_ablate.store import Store, TaskFolder

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Intent:
    """One job, or one array, of which no record tells yet.

    folder: submitit's. time: when it was written. records: what to write into the store for each job, in the array's
    order, apart from the job's id and output: `submission`, and `run`, `config`, whether it `pretrains` and the
    `evaluation` that it does; or the `choice` that it makes.
    """

    folder: Path
    time: float
    records: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        return self.folder.name

    def write(self) -> None:
        """Raises StorageError."""
        with storing(self.folder, "store"):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "intent.json", {"time": self.time, "records": list(self.records)})

    @classmethod
    def read_all(cls, store: Store) -> list[Self]:
        """Those that commands have left, oldest first."""
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
        report_damage(path, "it tells of no jobs")
        return None

    def age(self) -> float:
        """Seconds since it was written, by the file system's clock; by ours where another user's folder is closed."""
        try:
            return age_of(self.folder / "intent.json")
        except StorageError:
            return time.time() - self.time

    def job_ids(self, first: str) -> list[str]:
        """SLURM's ids of the jobs, where `first` is that of the job or array."""
        if len(self.records) == 1:
            return [first]
        return [f"{first}_{index}" for index in range(len(self.records))]

    def settle(self, store: Store, first: str, process: Mapping[str, Any] | None = None) -> None:
        """Records that SLURM has the jobs, as `first`. What tells of them already stays as it is.

        process: what carries the job out, see `lease.process`, where it is one of this machine and not SLURM's. A run
        that cannot be written keeps no other from being recorded.
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
        """Forgets the intent: its jobs are recorded, or there are none."""
        with suppress(OSError):
            (self.folder / "intent.json").unlink(missing_ok=True)

    def drop(self) -> None:
        """Forgets the intent and removes what its jobs were to be given: there are none."""
        self.withdraw()
        shutil.rmtree(self.folder, ignore_errors=True)

    def is_written(self) -> bool:
        """Whether the next command will look for the jobs."""
        return (self.folder / "intent.json").exists()

    def has_script(self) -> bool:
        """Whether submitit has written what sbatch is called with, so that SLURM may have the jobs."""
        return any(self.folder.glob("*submission*.sh"))

    def look_up(self, patience: float = 0.0) -> str | None:
        """SLURM's id of the job or array, or None where it has none of this name, also after so many seconds.

        Raises ConfigError where SLURM does not answer.
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
                f"jobs named {self.name} may have been submitted, and SLURM does not answer: try again"
            )
        begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(self.time - 86_400))
        account = ["sacct", "--noheader", "--parsable2", "--allocations", "--allusers"]
        more = [f"--name={self.name}", f"--starttime={begin}", "--format=JobID"]
        # Not everywhere is there an accounting database.
        ids = queued or _words([*account, *more]) or []
        return min((job.partition("_")[0] for job in ids), key=int, default=None)

    def complete_pickles(self, first: str) -> None:
        """Gives each job what it is to call, where the command ended before submitit had.

        One that is damaged costs its own job, which fails for want of it.
        """
        jobs = self.job_ids(first)
        for left in map(self.folder.joinpath, names_in(self.folder)):
            if left.suffix != ".pkl" or left.stem.endswith(("_submitted", "_result")):
                continue
            try:
                job = jobs[self._position(DelayedSubmission.load(left).function)]
                JobPaths(self.folder, job_id=job).move_temporary_file(left, "submitted_pickle")
            except Exception as error:  # pickle raises whatever it comes upon
                report_damage(left, f"{type(error).__name__}: {error}")

    def _position(self, call: Any) -> int:
        """Where `call` belongs in the array."""
        if len(self.records) == 1:
            return 0
        config = json.loads(json.dumps(call.job.config))
        return [record["config"] for record in self.records].index(config)


def adopt(store: Store) -> None:
    """Records the jobs that commands have submitted and not come to record; forgets what never reached SLURM.

    To be called inside `Store.submitting`. Raises ConfigError where SLURM does not answer.
    """
    for intent in Intent.read_all(store):
        # SLURM may be slow to show what it has just been given.
        patience = UNSEEN_SECONDS - abs(intent.age())
        if patience > 0:
            log.warning(
                "a command has ended while it submitted jobs named %s: looking for them, %.0f s at most",
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
    """The tasks that a record's job carries out."""
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
    # First, since the job may fail at once.
    task.clear_failure()
    task.forget_timeouts()
    submission = {**record["submission"], "job": job, "output": output}
    task.write_submission(submission | ({"process": process} if process else {}))


def _words(command: list[str]) -> list[str] | None:
    """The words of an answer of SLURM's; None for no answer."""
    done = ask(command)
    return None if done is None or done.returncode else done.stdout.split()
