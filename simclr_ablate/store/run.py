"""The folder of one run: its pretraining, which is a task, and its evaluations. `store.py` lists the files."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from simclr_ablate import lease as leases
from simclr_ablate import old_schemas
from simclr_ablate.files import (
    StorageError,
    names_in,
    records_in,
    report_damage,
    set_aside,
    storing,
    write_json,
)
from simclr_ablate.identity import evaluation_key_of, run_id_of
from simclr_ablate.schema import SCHEMA_VERSION
from simclr_ablate.store import leftovers, tensors
from simclr_ablate.store.evaluation import EvaluationFolder
from simclr_ablate.store.records import (
    ExperimentRecord,
    PretrainingRecord,
    has_seal,
    owner_of,
    read_record,
    read_sealed,
    write_sealed,
)
from simclr_ablate.store.task import TaskFolder

log = logging.getLogger(__name__)

_PRETRAINING = "pretraining"


class Run(TaskFolder):
    """The folder of one run. Its own task is pretraining; each evaluation has a folder of its own in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.run_id = path.name
        self._is_of_this_schema = False
        """Whether the run is known to be of today's schema. This never changes: the version is part of the id."""

    @property
    def name(self) -> str:
        return self.run_id

    def is_done(self) -> bool:
        return self.is_pretrained()

    def leftovers(self) -> Iterator[Path]:
        return leftovers.of_run(self.path)

    def used_checkpoints(self) -> Iterator[Path]:
        return leftovers.checkpoints_of(self.path)

    def has_begun(self) -> bool:
        """Whether somebody has ever worked on it."""
        return os.path.exists(self._file("progress.json"))

    def create(self, config: Mapping[str, Any]) -> None:
        """Makes the folder and writes the frozen config, unless both exist and are whole. Raises StorageError."""
        # This raises if the folder cannot be read: its config may be whole.
        leases.latest(self.path)
        with storing(self.path, "store"):
            self.path.mkdir(parents=True, exist_ok=True)
        if not self.exists():
            content = {"schema_version": SCHEMA_VERSION, "config": dict(config)}
            write_json(self._file("experiment.json"), content)

    def exists(self) -> bool:
        """Whether the run exists, in any schema, and its config is whole."""
        return self.experiment() is not None

    def experiment(self) -> ExperimentRecord | None:
        """The frozen config and the version of its schema, or None if it is missing or damaged.

        A config that does not give the run's id is damaged. A config of an earlier schema is translated to today's
        keys, with `upgraded_from`, if they can express it. Any other config is returned as it is.
        """
        path = self._file("experiment.json")
        record: ExperimentRecord | None = read_record(path, ExperimentRecord)
        if record is None:
            return None
        try:
            known = in_this_schema(self.run_id, record)
        except ValueError as error:
            report_damage(path, str(error))
            return None
        if known["schema_version"] == SCHEMA_VERSION and "upgraded_from" not in known:
            self._is_of_this_schema = True
        return known

    def config(self) -> dict[str, Any]:
        """The frozen config, as nested dictionaries. Raises StorageError if it is missing or damaged."""
        record = self.experiment()
        if record is None:
            raise StorageError(f"{self._file('experiment.json')} is missing or damaged")
        return record["config"]

    def is_pretrained(self) -> bool:
        """Whether there is an encoder. Whether it is whole only shows when it is read."""
        return os.path.exists(self.encoder_path)

    def write_encoder(self, weights: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Writes the weights and the metrics of pretraining. Raises StorageError.

        weights: the tensors of `encoder` and, if there is one, of `head`, each by name.
        """
        content = {**weights, _PRETRAINING: dict(metrics)}
        tensors.save(self.encoder_path, content, owner_of(self.path, "encoder"))

    def weights(self) -> dict[str, dict[str, Any]]:
        """The tensors of `encoder` and, if there is one, of `head`, each by name, on the CPU.

        Raises DamagedError, StorageError.
        """
        content = self._encoder()
        if "encoder" not in content:
            raise tensors.DamagedError(self.encoder_path, "it has no weights of an encoder")
        return {name: content[name] for name in ("encoder", "head") if name in content}

    def _encoder(self) -> dict[str, Any]:
        return tensors.load(self.encoder_path, owner_of(self.path, "encoder"))

    def set_encoder_aside(self) -> Path:
        """Renames a damaged encoder, so pretraining is no longer complete. Returns the new path."""
        return set_aside(self.encoder_path)

    @property
    def encoder_path(self) -> Path:
        return self._file("encoder.pt")

    def write_pretraining(self, metrics: Mapping[str, float]) -> None:
        write_sealed(self._file("pretraining.json"), metrics, owner_of(self.path, _PRETRAINING))

    def pretraining(self) -> dict[str, Any]:
        """The last metrics of pretraining, except those with another meaning now; empty until it is complete."""
        path, owner = self._file("pretraining.json"), owner_of(self.path, _PRETRAINING)
        metrics = read_sealed(path, PretrainingRecord, owner) or {}
        version = self._upgraded_from() if metrics else None
        return metrics if version is None else old_schemas.metrics_of_pretraining(version, metrics)

    def restore_pretraining(self) -> bool:
        """Rebuilds a missing pretraining.json from the encoder, bit for bit. Returns whether it did.

        Does nothing for encoders from before they held these numbers. Needs no lease, since everybody would write the
        same. Raises DamagedError, StorageError.
        """
        path, owner = self._file("pretraining.json"), owner_of(self.path, _PRETRAINING)
        found = read_sealed(path, PretrainingRecord, owner)
        # A random encoder's is empty, but sealed.
        if found or (found is not None and has_seal(path)) or not self.is_pretrained():
            return False
        metrics = self._encoder().get(_PRETRAINING)
        if metrics is None:
            return False
        self.write_pretraining(metrics)
        return True

    def evaluating(self, key: str) -> EvaluationFolder:
        """The task of an evaluation, begun or not. key: see `identity.evaluation_key`."""
        return EvaluationFolder(self, key)

    def task(self, key: str) -> TaskFolder:
        """The task that an evaluation is at: pretraining until that is done, then the evaluation itself."""
        return self.evaluating(key) if self.is_pretrained() else self

    def tasks(self) -> Iterator[TaskFolder]:
        """Pretraining, and every evaluation that somebody has begun or submitted."""
        yield self
        folder = self._file("evaluations")
        for name in names_in(folder):
            if os.path.isdir(folder / name):
                yield EvaluationFolder(self, name)

    def write_evaluation(
        self,
        key: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        seconds: float | None = None,
        beside: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Writes the result of an evaluation: see `EvaluationFolder.write_result`."""
        self.evaluating(key).write_result(config, metrics, seconds, beside)

    def evaluation(self, key: str) -> dict[str, Any] | None:
        """`{"config": ..., "metrics": ..., "seconds": ...}` of an evaluation, or None if it is missing or damaged.

        Results from before seconds were measured have none. `beside` is there if it is not empty.
        """
        evaluation = self.evaluating(key).result()
        if evaluation is not None or not os.path.exists(self._file("evaluations")):
            return evaluation
        return None if self._upgraded_from() is None else self.evaluations().get(key)

    def _upgraded_from(self) -> int | None:
        """The run's schema if it is an earlier one and today's keys can express the run, else None."""
        record = None if self._is_of_this_schema else self.experiment()
        return record.get("upgraded_from") if record is not None else None

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """Every whole evaluation by its key in today's schema."""
        names = sorted(path.stem for path in records_in(self._file("evaluations")))
        read = {name: self.evaluating(name).result() for name in names}
        whole = {name: content for name, content in read.items() if content is not None}
        record = self.experiment() if whole and not self._is_of_this_schema else None
        if record is None or "upgraded_from" not in record:
            return whole
        # The files have their old names. Evaluations that differed only in what does not count become one.
        of_run = record["config"]
        return {
            evaluation_key_of(
                {**of_run, "evaluation": content["config"]}, content.get("beside", {})
            ): content
            for content in reversed(whole.values())
        }

    def state(self, evaluation_key: str | None = None) -> str:
        """The state, one of STATES, of pretraining and an evaluation together (None: all that there are).

        `complete` means that both the evaluation and the config are there and whole.
        """
        if self._is_complete(evaluation_key):
            return "complete"
        try:
            open_tasks = [task for task in self._tasks_of(evaluation_key) if not task.is_done()]
            # Asked first, so that a job that begins meanwhile has a lease by the time that leases are read.
            is_queued = any(task.is_queued() for task in open_tasks)
            if any(leases.holder(task.path) is not None for task in open_tasks):
                return "running"
        except StorageError:
            self.unreadable()
            return "unreadable"
        if is_queued:
            return "queued"
        if self._is_complete(evaluation_key):  # its holder has finished meanwhile
            return "complete"
        # Earlier versions wrote the failure of an evaluation into the run's own folder.
        if any(task.failure() is not None for task in (self, *open_tasks)):
            return "failed"
        if any(task.has_begun() for task in open_tasks):
            return "interrupted"
        return "pretrained" if self.is_pretrained() else "planned"

    def _tasks_of(self, key: str | None) -> list[TaskFolder]:
        return list(self.tasks()) if key is None else [self, self.evaluating(key)]

    def _is_complete(self, key: str | None) -> bool:
        if not (self.is_evaluated(key) and self.exists()):
            return False
        return key is not None or all(t.is_done() for t in self.tasks() if t is not self)

    def is_evaluated(self, key: str | None = None) -> bool:
        """Whether the evaluation (None: any) is there and whole."""
        return bool(self.evaluations()) if key is None else self.evaluation(key) is not None


def in_this_schema(run_id: str, record: ExperimentRecord) -> ExperimentRecord:
    """The record in today's keys, if they can express it. Raises ValueError if its config is not that of `run_id`."""
    version, config = record["schema_version"], record["config"]
    if version in old_schemas.VERSIONS:
        new = old_schemas.upgraded(version, config)
        if not old_schemas.is_id(run_id, version, config):
            raise ValueError("its config is not this run's")
        if new is None:
            return {"schema_version": version, "config": config}
        return {"schema_version": SCHEMA_VERSION, "config": new, "upgraded_from": version}
    if version == SCHEMA_VERSION:
        of_config = run_id_of(config)
        if of_config != run_id:
            raise ValueError(f"its config is not this run's but that of {of_config}")
    elif _is_named_by(config, run_id):
        raise ValueError(f"its schema_version is {version}, but its config is of {SCHEMA_VERSION}")
    return {"schema_version": version, "config": config}


def _is_named_by(config: Mapping[str, Any], run_id: str) -> bool:
    try:
        return run_id_of(config) == run_id
    except ValueError:
        return False
