"""One evaluation of a run's encoder: the folder of the task, and the result beside it."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from simclr_ablate.files import report_damage, set_aside, storing, write_atomically, write_json
from simclr_ablate.schema import SCHEMA_VERSION, main_metric
from simclr_ablate.store import leftovers
from simclr_ablate.store.records import (
    EvaluationRecord,
    ExperimentRecord,
    owner_of,
    read_record,
    unsealed,
    write_sealed,
)
from simclr_ablate.store.task import TaskFolder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simclr_ablate.store.run import Run


PLANNED = "experiment.json"
"""The file in the folder of an evaluation that says what it evaluates."""


class EvaluationFolder(TaskFolder):
    """The folder of one evaluation, `evaluations/KEY` in its run's folder. Its result is `evaluations/KEY.json`."""

    def __init__(self, run: "Run", key: str) -> None:
        """key: see `identity.evaluation_key`."""
        super().__init__(run.path / "evaluations" / key)
        self.run = run
        self.key = key

    @property
    def name(self) -> str:
        return f"{self.run.run_id} {self.key}"

    @property
    def result_path(self) -> Path:
        return self.path.with_name(f"{self.key}.json")

    def is_done(self) -> bool:
        return self.run.is_evaluated(self.key)

    def leftovers(self) -> Iterator[Path]:
        return leftovers.of_evaluation(self.path)

    def used_checkpoints(self) -> Iterator[Path]:
        return iter(leftovers.checkpoints_in(self.path) if self.is_done() else ())

    def create(self, config: Mapping[str, Any], threads: int | None = None) -> None:
        """config: the experiment's, by which it can be launched again; {}: not known here. threads: see `threads`."""
        with storing(self.path, "store"):
            self.run.path.mkdir(parents=True, exist_ok=True)
            for folder in (self.path.parent, self.path):
                if folder.is_file():
                    set_aside(folder)
                folder.mkdir(exist_ok=True)
        if config and self._planned() is None:
            content = {"schema_version": SCHEMA_VERSION, "config": dict(config)}
            more = {} if threads is None else {"threads": threads}
            write_json(self.path / PLANNED, content | more)

    def experiment(self) -> ExperimentRecord | None:
        """The frozen config of the experiment whose evaluation it is; None if it is unknown, or of another schema.

        The run's own config is that of whoever created the run, with maybe another evaluation.
        """
        record = self._planned()
        is_ours = record is not None and record["schema_version"] == SCHEMA_VERSION
        return record if is_ours else None

    def threads(self) -> int | None:
        """With how many threads the evaluation was begun, or else was to be; None if nobody said so.

        Another number would change the order of sums, and so the result.
        """
        begun = self.attempts()
        if begun:
            return begun[0]["threads"]
        planned = self._planned()
        return None if planned is None else planned.get("threads")

    def _planned(self) -> ExperimentRecord | None:
        record: ExperimentRecord | None = read_record(self.path / PLANNED, ExperimentRecord)
        return record

    @property
    def examples_path(self) -> Path:
        return self.path / "examples.npz"

    def write_examples(self, examples: "Mapping[str, NDArray[Any]]") -> None:
        """Writes arrays with a row for each test image, compressed. Raises StorageError.

        Call it before `write_result`, which records the digest of the file.
        """
        import numpy as np

        self.create({})
        arrays: dict[str, Any] = dict(examples)
        write_atomically(self.examples_path, lambda file: np.savez_compressed(file, **arrays))

    def examples(self) -> "dict[str, NDArray[Any]] | None":
        """The arrays from `write_examples`; None if the file is missing or damaged."""
        import numpy as np

        result = self.result()
        digest = None if result is None else result.get("examples")
        # Packs may leave the file behind, which is no damage.
        if digest is None or not os.path.lexists(self.examples_path):
            return None
        if digest_of(self.examples_path) != digest:
            report_damage(self.examples_path, "it does not match the digest in the result")
            return None
        with np.load(self.examples_path, allow_pickle=False) as arrays:
            return dict(arrays)

    def write_result(
        self,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        seconds: float | None = None,
        beside: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Writes the result, which makes the evaluation complete. Raises StorageError.

        config: the experiment's `evaluation`.
        metrics: accuracies in percent, and others.
        seconds: how long it took, or None if unknown. It is not a metric, since metrics are the same when an evaluation
            is repeated.
        beside: see `identity.evaluated_beside`.
        """
        self.create({})
        content: dict[str, Any] = {"config": dict(config), "metrics": dict(metrics)}
        if seconds is not None:
            content["seconds"] = seconds
        if beside:
            content["beside"] = dict(beside)
        if (digest := digest_of(self.examples_path)) is not None:
            content["examples"] = digest
        if self.result_path.exists() and self.result() is None:
            set_aside(self.result_path)  # it may be the whole result of another run
        write_sealed(self.result_path, content, owner_of(self.path))

    def result(self) -> dict[str, Any] | None:
        """The result from `write_result`, or None if it is missing or damaged."""
        content: dict[str, Any] | None = read_record(self.result_path, dict[str, Any])
        if content is None:
            return None
        try:
            return result_in(content, owner_of(self.path))
        except ValueError as error:
            report_damage(self.result_path, str(error))
            return None


def result_in(content: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """The result in a sealed record. Raises ValueError if it is damaged."""
    result = unsealed(content, EvaluationRecord, owner)
    main = main_metric(result["config"], result.get("beside", {}))
    if main not in (None, *result["metrics"]):
        raise ValueError(f"it has no {main}")
    return result


def digest_of(path: Path) -> str | None:
    """The file's SHA-256, or None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
