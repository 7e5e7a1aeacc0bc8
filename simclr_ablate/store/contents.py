"""What the JSON files of a run hold, from their bytes: for packs, whose files are in no folder yet.

Each function checks what the store's readers check, and raises ValueError for content that they would take for damaged.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from simclr_ablate import old_schemas
from simclr_ablate.identity import evaluation_key_of
from simclr_ablate.schema import SCHEMA_VERSION
from simclr_ablate.store.evaluation import result_in
from simclr_ablate.store.records import (
    ChoiceRecord,
    ExperimentRecord,
    LaunchRecord,
    PretrainingRecord,
    is_name,
    mismatch,
    unsealed,
)
from simclr_ablate.store.run import in_this_schema

T = TypeVar("T")


def experiment_in(content: bytes, run_id: str) -> ExperimentRecord:
    """The config of the run `run_id` and the version of its schema, of those that this program knows.

    It is in today's keys if they can express it: see `Run.experiment`.
    """
    record = _checked(content, ExperimentRecord)
    version = record["schema_version"]
    if version not in (SCHEMA_VERSION, *old_schemas.VERSIONS):
        raise ValueError(f"its schema is {version}, here it is {SCHEMA_VERSION}")
    return _whatever_is_wrong(lambda: in_this_schema(run_id, record))


def pretraining_in(content: bytes, run_id: str) -> dict[str, Any]:
    """The last metrics of the run's pretraining."""
    record = _checked(content, dict[str, Any])
    return unsealed(record, PretrainingRecord, f"{run_id}/pretraining")


def evaluation_in(
    content: bytes, run_id: str, key: str, experiment: ExperimentRecord
) -> dict[str, Any]:
    """The result of the run's evaluation `key`. experiment: the run's, from `experiment_in`."""
    record = _checked(content, dict[str, Any])
    owner = f"{run_id}/evaluations/{key}"
    result = _whatever_is_wrong(lambda: result_in(record, owner))
    # Earlier schemas named evaluations by other keys.
    if experiment["schema_version"] == SCHEMA_VERSION and "upgraded_from" not in experiment:
        config = {**experiment["config"], "evaluation": result["config"]}
        beside = result.get("beside", {})
        of_config = _whatever_is_wrong(lambda: evaluation_key_of(config, beside))
        if of_config != key:
            raise ValueError(f"its config is that of the evaluation {of_config}")
    return result


def launch_in(content: bytes) -> LaunchRecord:
    """The record of a launched sweep."""
    record = _checked(content, LaunchRecord)
    _check_names(record["name"], *record["run_ids"])
    launched: LaunchRecord = record
    return launched


def choice_in(content: bytes) -> list[str]:
    """The runs that were chosen."""
    run_ids: list[str] = _checked(content, ChoiceRecord)["run_ids"]
    _check_names(*run_ids)
    return run_ids


def json_in(content: bytes) -> Any:
    """The value in a JSON file. Raises ValueError."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _checked(content: bytes, shape: Any) -> Any:
    value = json_in(content)
    problem = mismatch(value, shape)
    if problem is not None:
        raise ValueError(problem)
    return value


def _check_names(*names: str) -> None:
    for name in names:
        if not is_name(name):
            raise ValueError(f"{name!r} leads out of the store")


def _whatever_is_wrong(check: Callable[[], T]) -> T:
    """The result of `check`, which may stumble over values that no config of ours has. Raises ValueError."""
    try:
        return check()
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it holds something unexpected: {error}") from error


def volatile(name: str) -> bool:
    """Whether the metric is a time or a speed, which differs when the same result is computed again."""
    return name == "seconds" or name.endswith(("_seconds", "_per_second"))


def lasting(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics that are equal whenever the result is."""
    return {name: value for name, value in metrics.items() if not volatile(name)}
