"""One run's folder in the store: what lies in it says how the run is. `store.py` lists the files."""

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from simclr_ablate import claim as claims
from simclr_ablate import leftovers, old_schemas, tensors
from simclr_ablate.files import (
    StorageError,
    age_of,
    records_in,
    remove,
    report_damage,
    set_aside,
    storing,
    unreadable,
    write_json,
)
from simclr_ablate.identity import evaluation_key_of, run_id_of
from simclr_ablate.records import (
    EvaluationRecord,
    ExperimentRecord,
    FailureRecord,
    PretrainingRecord,
    ProgressRecord,
    SubmissionRecord,
    TimeoutRecord,
    owner_of,
    read_record,
    read_sealed,
    write_sealed,
)
from simclr_ablate.schema import SCHEMA_VERSION

log = logging.getLogger(__name__)

STATES = (
    *("planned", "queued", "running", "interrupted", "failed", "pretrained", "complete"),
    "unreadable",
)
BUSY = ("queued", "running")
"""States in which somebody is seeing to the run."""

_PRETRAINING = "pretraining"


class Run:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name
        self._is_of_this_schema = False
        """Whether that is known. It stays so: the schema's version is part of the id."""

    def create(self, config: Mapping[str, Any]) -> None:
        """Makes the folder and writes the frozen config, unless they are there and whole. Raises StorageError."""
        claims.latest(self.path)  # raises for a folder that cannot be read: its config may be whole
        with storing(self.path, "store"):
            self.path.mkdir(parents=True, exist_ok=True)
        if not self.exists():
            content = {"schema_version": SCHEMA_VERSION, "config": dict(config)}
            write_json(self._file("experiment.json"), content)

    def unreadable(self) -> str | None:
        """Why the folder cannot be read, which is named then; None where it can be, or is not there."""
        problem = unreadable(self.path)
        if problem is not None:
            report_damage(self.path, problem)
        return problem

    def exists(self) -> bool:
        """Whether the run is there, of any schema, and its config is whole."""
        return self.experiment() is not None

    def experiment(self) -> ExperimentRecord | None:
        """The frozen config and the version of its schema, or None where there is none, or a damaged one.

        A config that is not the one that the run is named by is damaged. One of an earlier schema comes in this one's
        keys, with `upgraded_from`, where it can be said in them; else, and of other schemas, as it is.
        """
        path = self._file("experiment.json")
        record: ExperimentRecord | None = read_record(path, ExperimentRecord)
        if record is None:
            return None
        try:
            return self._in_this_schema(record["schema_version"], record["config"])
        except ValueError as error:
            report_damage(path, str(error))
            return None

    def _in_this_schema(self, version: int, config: dict[str, Any]) -> ExperimentRecord:
        """Raises ValueError for a config that is not this run's."""
        if version in old_schemas.VERSIONS:
            new = old_schemas.upgraded(version, config)
            if not old_schemas.is_id(self.run_id, version, config):
                raise ValueError("its config is not this run's")
            if new is None:
                return {"schema_version": version, "config": config}
            return {"schema_version": SCHEMA_VERSION, "config": new, "upgraded_from": version}
        if version == SCHEMA_VERSION:
            of_config = run_id_of(config)
            if of_config != self.run_id:
                raise ValueError(f"its config is not this run's, but that of {of_config}")
            self._is_of_this_schema = True
        elif self._is_named_by(config):
            raise ValueError(f"its schema_version is {version}, its config's {SCHEMA_VERSION}")
        return {"schema_version": version, "config": config}

    def _is_named_by(self, config: Mapping[str, Any]) -> bool:
        try:
            return run_id_of(config) == self.run_id
        except ValueError:
            return False

    def config(self) -> dict[str, Any]:
        """The frozen config, as nested dictionaries. Raises StorageError where there is none, or a damaged one."""
        record = self.experiment()
        if record is None:
            raise StorageError(f"{self._file('experiment.json')} is missing or damaged")
        return record["config"]

    def claim(self, job: str | None = None, clears: bool = True) -> claims.Claim | None:
        """The right to work on the run, or None where a living process has it. `job`: see `claim.acquire`.

        clears: removes what holders that were killed left unfinished.
        """
        claim = claims.acquire(self.path, job)
        if claim is not None and clears:
            leftovers.clear(leftovers.of_run(self.path))
        return claim

    def holder(self) -> dict[str, Any] | None:
        """The process that works on the run now (host, pid), or None, also where the folder cannot be read."""
        try:
            return claims.holder(self.path)
        except StorageError:
            return None

    def is_held(self) -> bool:
        """Whether a process works on the run, for who is to write something if none does. Raises StorageError."""
        return claims.holder(self.path, writes=True) is not None

    def write_submission(self, submission: Mapping[str, Any]) -> None:
        """Records the job that will carry the run out: `job`, and what it takes to submit it again."""
        write_json(self._file("submission.json"), {**submission, "time": time.time()})

    def submission(self) -> dict[str, Any] | None:
        """The last submission, or None where its job has ended or was cancelled, also where nobody has noted it."""
        last = self.last_submission()
        if last is None or last.get("withdrawn"):
            return None
        # Others than SLURM's have nobody who accounts for them: they are their process.
        is_left = last["cluster"] == "slurm" or claims.lives(
            last.get("process"), self._file("submission.json")
        )
        return last if is_left else None

    def last_submission(self) -> dict[str, Any] | None:
        """The last submission, whatever became of it, or None."""
        found: dict[str, Any] | None = read_record(self._file("submission.json"), SubmissionRecord)
        return found

    def withdraw_submission(self, cancelled: str | None = None) -> None:
        """Notes that the submitted job has ended or was cancelled. cancelled: the reason to give for the latter."""
        last = self.last_submission()
        if last is not None:
            note = {} if cancelled is None else {"cancelled": cancelled}
            write_json(self._file("submission.json"), {**last, "withdrawn": True, **note})

    def is_queued(self) -> bool:
        """Whether a job was submitted that has not begun, or waits to begin again."""
        submission = self.submission()
        if submission is None:
            return False
        last = claims.last(self.path)
        return last.get("job") != submission["job"] or bool(last.get("requeued"))

    def requeue_job(self, job: str) -> None:
        """Notes that the cluster is to start `job` again, where the store can be written and its process is dead."""
        with self._noting():
            claims.end_claim_of(self.path, job, requeued=True)

    def end_job(self, job: str, reason: str) -> None:
        """The cluster says that `job` has ended. A run that is neither done nor gone on with elsewhere has failed: for
        `reason`, where it left no better one. Nothing is noted where the store cannot be written, or where the job's
        process lives all the same."""
        last = self.last_submission()
        if last is not None and last["job"] != job:
            return
        with self._noting():
            if claims.end_claim_of(self.path, job):
                self._end_submission(job, reason)

    def lose_job(self, job: str, patience: float, reason: str) -> None:
        """`end_job` for one that the cluster does not know, `patience` seconds or more after its submission."""
        with self._noting():
            if abs(age_of(self._file("submission.json"))) > patience:
                self.end_job(job, reason)

    def cancel_job(self, job: str, reason: str) -> None:
        """`end_job` for one that was called off: its process may take a while to keep what it has, and to end."""
        with self._noting():
            claims.end_claim_of(self.path, job)
            self._end_submission(job, reason, cancelled=True)

    def _end_submission(self, job: str, reason: str, cancelled: bool = False) -> None:
        """Nothing more comes of the submission as `job`. The process of one that was cancelled does not count as going
        on."""
        last = self.last_submission()
        if last is not None and last["job"] != job:
            return  # somebody has submitted the run again
        evaluations: Iterable[str | None] = last["evaluations"] if last else [None]
        self.withdraw_submission(reason if cancelled else None)
        if all(map(self.is_evaluated, evaluations)) or self.failure() is not None:
            return
        owner = claims.holder(self.path, writes=True)
        if owner is None or (cancelled and owner.get("job") == job):
            self.write_failure({"reason": reason})

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """For what readers note where they can: a store that they cannot write to does not stop them."""
        try:
            yield
        except StorageError as error:
            log.debug("what has become of a job is not noted: %s", error)

    def count_timeout(self) -> int:
        """Counts one more time-out; returns how many in a row, with this one, came without progress."""
        place = [self.is_pretrained(), self.progress().get("step", 0)]
        before = read_record(self._file("timeouts.json"), TimeoutRecord) or {
            "place": [False, 0],
            "count": 0,
        }
        count = before["count"] + 1 if place <= before["place"] else 0
        content = {"place": max(place, before["place"]), "count": count}
        write_json(self._file("timeouts.json"), content)
        return count

    def forget_timeouts(self) -> None:
        remove(self._file("timeouts.json"))

    def is_pretrained(self) -> bool:
        """Whether an encoder was kept; whether it is whole shows when it is read."""
        return os.path.exists(self.encoder_path)

    def write_encoder(self, weights: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Keeps the `encoder`'s tensors and the `head`'s, if it has one, each by name, and what pretraining came to.

        Raises StorageError.
        """
        content = {**weights, _PRETRAINING: dict(metrics)}
        tensors.save(self.encoder_path, content, owner_of(self.path, "encoder"))

    def weights(self) -> dict[str, dict[str, Any]]:
        """The `encoder`'s tensors and the `head`'s, if it has one, each by name, on the CPU.

        Raises DamagedError, StorageError.
        """
        found = self._encoder()
        if "encoder" not in found:
            raise tensors.DamagedError(self.encoder_path, "it holds no weights of an encoder")
        return {name: found[name] for name in ("encoder", "head") if name in found}

    def _encoder(self) -> dict[str, Any]:
        return tensors.load(self.encoder_path, owner_of(self.path, "encoder"))

    def set_encoder_aside(self) -> Path:
        """Renames a damaged encoder, so that pretraining is not complete any more; returns its new path."""
        return set_aside(self.encoder_path)

    @property
    def encoder_path(self) -> Path:
        return self._file("encoder.pt")

    @property
    def history_path(self) -> Path:
        return self._file("history.csv")

    @property
    def log_path(self) -> Path:
        return self._file("log.txt")

    def write_pretraining(self, metrics: Mapping[str, float]) -> None:
        write_sealed(self._file("pretraining.json"), metrics, owner_of(self.path, _PRETRAINING))

    def pretraining(self) -> dict[str, Any]:
        """Last metrics of pretraining, that mean what they do now; empty until it is complete."""
        path, owner = self._file("pretraining.json"), owner_of(self.path, _PRETRAINING)
        metrics = read_sealed(path, PretrainingRecord, owner) or {}
        version = self._upgraded_from() if metrics else None
        return metrics if version is None else old_schemas.metrics_of_pretraining(version, metrics)

    def restore_pretraining(self) -> bool:
        """Rebuilds pretraining.json from the encoder, bit for bit. Returns whether it was missing and has been rebuilt.

        Encoders written before they held these numbers change nothing. It needs no claim: whoever does it writes the
        same. Raises DamagedError, StorageError.
        """
        if self.pretraining() or not self.is_pretrained():
            return False
        metrics = self._encoder().get(_PRETRAINING)
        if metrics is None:
            return False
        self.write_pretraining(metrics)
        return True

    def write_evaluation(
        self,
        key: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        seconds: float | None = None,
        beside: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Adds one evaluation result under its own key. Accuracies are in percent.

        seconds: how long it took, None where nobody knows. It is no metric: those are the same when a run is repeated.
        beside: see `identity.evaluated_beside`.
        """
        folder = self._file("evaluations")
        with storing(folder, "store"):
            if folder.is_file():
                set_aside(folder)
            folder.mkdir(exist_ok=True)
        content: dict[str, Any] = {"config": dict(config), "metrics": dict(metrics)}
        if seconds is not None:
            content["seconds"] = seconds
        if beside:
            content["beside"] = dict(beside)
        path = self._evaluation_path(key)
        if os.path.lexists(path) and self.evaluation(key) is None:
            set_aside(path)  # it may be another run's, and whole
        write_sealed(path, content, self._evaluation_owner(key))

    def evaluation(self, key: str) -> dict[str, Any] | None:
        """`{"config": ..., "metrics": ..., "seconds": ...}` of one evaluation, or None where there is no whole one.

        Stores written before seconds were measured have none. `beside` is there if it is not empty.
        """
        found = self._read_evaluation(key)
        if found is not None or not os.path.exists(self._file("evaluations")):
            return found
        return None if self._upgraded_from() is None else self.evaluations().get(key)

    def _upgraded_from(self) -> int | None:
        """The earlier schema that the run is of, where it can be said in this one's keys."""
        record = None if self._is_of_this_schema else self.experiment()
        return record.get("upgraded_from") if record is not None else None

    def _read_evaluation(self, key: str) -> dict[str, Any] | None:
        path = self._evaluation_path(key)
        found = read_sealed(path, EvaluationRecord, self._evaluation_owner(key))
        if found is None:
            return None
        main = "probe_accuracy" if found["config"].get("probe") else "top1"
        if main not in found["metrics"]:
            report_damage(path, f"it has no {main}")
            return None
        return found

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """Every whole evaluation by its key, which is this schema's."""
        names = sorted(path.stem for path in records_in(self._file("evaluations")))
        read = {name: self._read_evaluation(name) for name in names}
        found = {name: content for name, content in read.items() if content is not None}
        record = self.experiment() if found and not self._is_of_this_schema else None
        if record is None or "upgraded_from" not in record:
            return found
        # Under their old names; those that differed in what does not count are one.
        of_run = record["config"]
        return {
            evaluation_key_of(
                {**of_run, "evaluation": content["config"]}, content.get("beside", {})
            ): content
            for content in reversed(found.values())
        }

    def _evaluation_path(self, key: str) -> Path:
        return self._file("evaluations") / f"{key}.json"

    def _evaluation_owner(self, key: str) -> str:
        return owner_of(self.path, f"evaluations/{key}")

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        write_json(self._file("progress.json"), {**progress, "time": time.time()})

    def progress(self) -> dict[str, Any]:
        """Where the run is, as last written; empty before it starts."""
        return read_record(self._file("progress.json"), ProgressRecord) or {}

    def write_failure(self, failure: Mapping[str, Any]) -> None:
        """Records why an attempt ended: `reason` (one line), `traceback`, and what is known of where."""
        write_json(self._file("failure.json"), {**failure, "time": time.time()})

    def clear_failure(self, job: str | None = None) -> None:
        """Forgets why the attempt before failed. job: the cluster's job that begins now. Where it has just been called
        off, and is about to end, the run keeps that reason."""
        remove(self._file("failure.json"))
        last = self.last_submission() if job is not None else None
        # After the removal: whoever calls the job off notes it in the submission before in the failure.
        if last is not None and last["job"] == job and "cancelled" in last:
            self.write_failure({"reason": last["cancelled"]})

    def failure(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = read_record(self._file("failure.json"), FailureRecord)
        return found

    def state(self, evaluation_key: str | None = None) -> str:
        """One of STATES. `complete` means that the evaluation asked for (or any, for None) is there and whole, and that
        the config is."""
        if self._is_complete(evaluation_key):
            return "complete"
        try:
            # First, since a job that begins meanwhile has a claim by the time that claims are looked at.
            is_queued = self.is_queued()
            if claims.holder(self.path) is not None:
                return "running"
        except StorageError:
            self.unreadable()
            return "unreadable"
        if is_queued:
            return "queued"
        if self._is_complete(evaluation_key):  # whoever worked on it has ended meanwhile
            return "complete"
        if self.failure() is not None:
            return "failed"
        if self.is_pretrained():
            return "pretrained"
        return "interrupted" if os.path.exists(self._file("progress.json")) else "planned"

    def _is_complete(self, key: str | None) -> bool:
        return self.is_evaluated(key) and self.exists()

    def is_evaluated(self, key: str | None = None) -> bool:
        """Whether the evaluation (any, for None) is there and whole."""
        return bool(self.evaluations()) if key is None else self.evaluation(key) is not None

    def _file(self, name: str) -> Path:
        return self.path / name
