"""The run store: one folder a run, whose files are the truth about it.

    runs/<run id>/
      experiment.json      the frozen config
      claim.N              who works on it now
      submission.json      the cluster's job that it was last submitted as, and all that submitting it again takes
      timeouts.json        how often in a row the time limit came without progress
      progress.json        where it is: epoch, step, loss, ... (what the live view and `status` show)
      history.csv          one row per epoch of training
      checkpoint.pt        to go on from; checkpoint.previous.pt the one before
      encoder.pt           pretraining is complete: weights of encoder and head; for a supervised run, its classifier
      pretraining.json     what pretraining came to: last metrics, seconds
      evaluations/KEY.json one evaluation of that encoder: its config, its metrics, and how long it took
      failure.json         how the last attempt failed
      log.txt              what the run's processes printed
    runs/.sweeps/NAME-HASH.json  which runs a sweep that was launched consists of
    runs/.stages/NAME-HASH.json  on a cluster: the job that waits to submit the second stage of such a sweep
    runs/.jobs/              what submitit writes: scripts, pickles, output of jobs before their run begins
    runs/.submitting/        the claim of the command that submits now

Nothing here is ever rewritten by a second process without a claim, and nothing needs torch.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from simclr_ablate import claim as claims
from simclr_ablate.config import ConfigError
from simclr_ablate.files import read_json, write_json
from simclr_ablate.schema import SCHEMA_VERSION

STATES = ("planned", "queued", "running", "interrupted", "failed", "pretrained", "complete")
BUSY = ("queued", "running")
"""States in which somebody is seeing to the run."""


class Run:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name

    def create(self, config: Mapping[str, Any]) -> None:
        """Makes the folder and writes the frozen config, unless they are there."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._file("experiment.json").exists():
            content = {"schema_version": SCHEMA_VERSION, "config": dict(config)}
            write_json(self._file("experiment.json"), content)

    def exists(self) -> bool:
        return self._file("experiment.json").exists()

    def schema_version(self) -> int | None:
        """The version of the schema that the config and the metrics are of; None where it cannot be told."""
        return (read_json(self._file("experiment.json")) or {}).get("schema_version")

    def config(self) -> dict[str, Any]:
        """The frozen config, as nested dictionaries."""
        content = read_json(self._file("experiment.json"))
        if content is None:
            raise FileNotFoundError(f"{self.path} holds no experiment.json")
        return content["config"]

    def claim(self, job: str | None = None) -> claims.Claim | None:
        """The right to work on the run, or None where a living process has it. `job`: see `claim.acquire`."""
        return claims.acquire(self.path, job)

    def holder(self) -> dict[str, Any] | None:
        """The process that works on the run now (host, pid), or None."""
        return claims.holder(self.path)

    def write_submission(self, submission: Mapping[str, Any]) -> None:
        """Records the job that will carry the run out: `job`, and what it takes to submit it again."""
        write_json(self._file("submission.json"), {**submission, "time": time.time()})

    def submission(self) -> dict[str, Any] | None:
        """The last submission, or None where its job has ended or was cancelled."""
        last = self.last_submission()
        return None if last is None or last.get("withdrawn") else last

    def last_submission(self) -> dict[str, Any] | None:
        """The last submission, whatever became of it, or None."""
        return read_json(self._file("submission.json"))

    def withdraw_submission(self) -> None:
        """Notes that the submitted job has ended or was cancelled."""
        last = self.last_submission()
        if last is not None:
            write_json(self._file("submission.json"), {**last, "withdrawn": True})

    def is_queued(self) -> bool:
        """Whether a job was submitted that has not begun, or waits to begin again."""
        submission = self.submission()
        if submission is None:
            return False
        last = claims.last(self.path)
        return last.get("job") != submission["job"] or bool(last.get("requeued"))

    def requeue_job(self, job: str) -> None:
        """Notes that the cluster is to start `job` again."""
        claims.end_claim_of(self.path, job, requeued=True)

    def end_job(self, job: str, reason: str) -> None:
        """The cluster says that `job` has ended. A run that is neither done nor gone on with elsewhere has failed: for
        `reason`, where it left no better one."""
        submission = self.submission() or {}
        claims.end_claim_of(self.path, job)
        self.withdraw_submission()
        done = all(map(self.is_evaluated, submission.get("evaluations", [None])))
        if not done and self.failure() is None and self.holder() is None:
            self.write_failure({"reason": reason})

    def count_timeout(self) -> int:
        """Counts one more time-out; returns how many in a row, with this one, came without progress."""
        place = [self.is_pretrained(), self.progress().get("step", 0)]
        before = read_json(self._file("timeouts.json")) or {"place": [False, 0], "count": 0}
        count = before["count"] + 1 if place <= before["place"] else 0
        content = {"place": max(place, before["place"]), "count": count}
        write_json(self._file("timeouts.json"), content)
        return count

    def forget_timeouts(self) -> None:
        self._file("timeouts.json").unlink(missing_ok=True)

    def is_pretrained(self) -> bool:
        return self.encoder_path.exists()

    @property
    def encoder_path(self) -> Path:
        return self._file("encoder.pt")

    @property
    def history_path(self) -> Path:
        return self._file("history.csv")

    @property
    def log_path(self) -> Path:
        return self._file("log.txt")

    def write_pretraining(self, metrics: Mapping[str, Any]) -> None:
        write_json(self._file("pretraining.json"), dict(metrics))

    def pretraining(self) -> dict[str, Any]:
        """Last metrics of pretraining; empty until it is complete."""
        return read_json(self._file("pretraining.json")) or {}

    def write_evaluation(
        self,
        key: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        seconds: float | None = None,
    ) -> None:
        """Adds one evaluation result under its own key. Accuracies are in percent.

        seconds: how long it took, None where nobody knows. It is no metric: those are the same when a run is repeated.
        """
        folder = self._file("evaluations")
        folder.mkdir(exist_ok=True)
        content: dict[str, Any] = {"config": dict(config), "metrics": dict(metrics)}
        if seconds is not None:
            content["seconds"] = seconds
        write_json(folder / f"{key}.json", content)

    def evaluation(self, key: str) -> dict[str, Any] | None:
        """`{"config": ..., "metrics": ..., "seconds": ...}` of one evaluation, or None.

        Seconds are not there in stores of before they were measured.
        """
        return read_json(self._file("evaluations") / f"{key}.json")

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """Every evaluation by its key."""
        paths = sorted(self._file("evaluations").glob("[!.]*.json"))
        return {path.stem: found for path in paths if (found := read_json(path))}

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        write_json(self._file("progress.json"), {**progress, "time": time.time()})

    def progress(self) -> dict[str, Any]:
        """Where the run is, as last written; empty before it starts."""
        return read_json(self._file("progress.json")) or {}

    def write_failure(self, failure: Mapping[str, Any]) -> None:
        """Records why an attempt ended: `reason` (one line), `traceback`, and what is known of where."""
        write_json(self._file("failure.json"), {**failure, "time": time.time()})

    def clear_failure(self) -> None:
        self._file("failure.json").unlink(missing_ok=True)

    def failure(self) -> dict[str, Any] | None:
        return read_json(self._file("failure.json"))

    def state(self, evaluation_key: str | None = None) -> str:
        """One of STATES. `complete` means that the evaluation asked for (or any, for None) is there."""
        if self.is_evaluated(evaluation_key):
            return "complete"
        if self.holder() is not None:
            return "running"
        if self.is_queued():
            return "queued"
        if self.failure() is not None:
            return "failed"
        if self.is_pretrained():
            return "pretrained"
        return "interrupted" if self._file("progress.json").exists() else "planned"

    def is_evaluated(self, key: str | None = None) -> bool:
        folder = self._file("evaluations")
        if key is None:
            return any(folder.glob("[!.]*.json"))
        return (folder / f"{key}.json").exists()

    def _file(self, name: str) -> Path:
        return self.path / name


@dataclass(frozen=True)
class SweepRecord:
    """A sweep that was launched: its name and the runs it consists of."""

    name: str
    run_ids: tuple[str, ...]
    time: float


class Store:
    """A folder of runs."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def run(self, run_id: str) -> Run:
        return Run(self.root / run_id)

    def runs(self) -> Iterator[Run]:
        """Every run in the store, by id."""
        for path in sorted(self.root.glob("[!.]*/experiment.json")):
            yield Run(path.parent)

    @contextmanager
    def submitting(self, wait_seconds: float = 600.0) -> Iterator[None]:
        """Inside, no other command submits runs of this store. Raises ConfigError where one goes on for too long."""
        folder = self.root / ".submitting"
        folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + wait_seconds
        while (claim := claims.acquire(folder)) is None:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"another command submits to the store {self.root}: {claims.holder(folder)}"
                )
            time.sleep(0.1)
        try:
            yield
        finally:
            claim.release()

    def record_sweep(self, name: str, run_ids: Iterable[str]) -> str:
        """Remembers which runs a sweep consists of, for `status`; returns the record's name."""
        return self._record_sweep(name, run_ids, time.time())

    def extend_sweep(self, record: str, run_ids: Iterable[str]) -> None:
        """Adds runs to a launched sweep, such as those of its second stage, and to what was added to it before.

        record: what `record_sweep` returned.
        """
        launched = read_json(self.root / ".sweeps" / f"{record}.json")
        if launched is None:
            raise FileNotFoundError(f"{self.root}/.sweeps holds no {record}.json")
        name, when = launched["name"], launched["time"]
        so_far = [one.run_ids for one in self.sweeps() if (one.name, one.time) == (name, when)]
        self._record_sweep(
            name, [*launched["run_ids"], *chain.from_iterable(so_far), *run_ids], when
        )

    def _record_sweep(self, name: str, run_ids: Iterable[str], launched: float) -> str:
        members = sorted(set(run_ids))
        digest = hashlib.sha256("\n".join(members).encode()).hexdigest()[:8]
        folder = self.root / ".sweeps"
        folder.mkdir(parents=True, exist_ok=True)
        content = {"name": name, "run_ids": members, "time": launched}
        write_json(folder / f"{name}-{digest}.json", content)
        return f"{name}-{digest}"

    def sweeps(self) -> list[SweepRecord]:
        """Sweeps launched on this store, oldest first; what a second stage was added to comes before the sum."""
        records = [read_json(path) for path in (self.root / ".sweeps").glob("[!.]*.json")]
        known = [SweepRecord(r["name"], tuple(r["run_ids"]), r["time"]) for r in records if r]
        return sorted(known, key=lambda record: (record.time, len(record.run_ids)))

    def write_stage(self, name: str, stage: Mapping[str, Any]) -> None:
        """Records what becomes of a sweep's second stage on a cluster: see `launch/second_stage.py`."""
        folder = self.root / ".stages"
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", dict(stage))

    def close_stage(self, name: str) -> None:
        """Notes that the stage's runs are seen to, by whomever. Does nothing where no job was to do it."""
        stage = self.stage(name)
        if stage is not None:
            self.write_stage(name, {**stage, "state": "submitted", "reason": None})

    def stage(self, name: str) -> dict[str, Any] | None:
        return read_json(self.root / ".stages" / f"{name}.json")

    def stages(self) -> dict[str, dict[str, Any]]:
        """Every second stage that a cluster's job was to submit, by name."""
        paths = sorted((self.root / ".stages").glob("[!.]*.json"))
        return {path.stem: found for path in paths if (found := read_json(path))}
