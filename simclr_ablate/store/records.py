"""JSON files with a known shape. A file with another shape counts as absent and is reported once.

A record that results rest on is sealed: it names its owner, and holds a digest of all else in it. So edits and disk
errors are noticed, as are files that were renamed or copied from another run. Records from before digests, or owners,
were introduced are read as they are, since they cannot be checked.
"""

import functools
import hashlib
import json
import os
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from simclr_ablate.files import read_json, report_damage, write_json

BELONGS_TO = "belongs_to"
"""The key of a file's owner: see `owner_of`."""

_DIGEST = "digest"

_NAMES = {
    dict: "a mapping",
    list: "a list",
    tuple: "a list",
    str: "text",
    int: "a whole number",
    float: "a decimal number",
    bool: "true or false",
    type(None): "null",
}

_encode = json.JSONEncoder(sort_keys=True).encode


def read_record(path: Path, shape: Any) -> Any | None:
    """The content of a JSON file, or None if there is no such file.

    A damaged file, which cannot be read or is not of `shape`, counts as absent and is reported once in the log.

    shape: a TypedDict, `dict[str, X]`, `list[X]`, `tuple[X, Y]`, a union, or a JSON type. Keys that a TypedDict does
        not name are allowed.
    """
    content = read_json(path)
    if content is None:
        return None
    problem = mismatch(content, shape)
    if problem is not None:
        report_damage(path, problem)
        return None
    return content


def read_sealed(path: Path, shape: Any, owner: str) -> dict[str, Any] | None:
    """The content that `write_sealed` wrote for `owner`, or None as for `read_record`.

    A file that does not match its digest, or belongs to another owner, is damaged too. Records from before owners were
    introduced belong to whoever reads them.
    """
    content: dict[str, Any] | None = read_record(path, dict[str, Any])
    if content is None:
        return None
    try:
        return unsealed(content, shape, owner)
    except ValueError as error:
        report_damage(path, str(error))
        return None


def has_seal(path: Path) -> bool:
    """Whether the record has a digest; those from before digests were introduced have none, nor has an empty one."""
    content: dict[str, Any] | None = read_record(path, dict[str, Any])
    return content is not None and _DIGEST in content


def unsealed(content: Mapping[str, Any], shape: Any, owner: str) -> dict[str, Any]:
    """The content of a sealed record without its seal. Raises ValueError if it is damaged: see `read_sealed`."""
    problem = _broken_seal(content, owner)
    inner = {name: value for name, value in content.items() if name not in (_DIGEST, BELONGS_TO)}
    problem = problem or mismatch(inner, shape)
    if problem is not None:
        raise ValueError(problem)
    return inner


def write_sealed(path: Path, content: Mapping[str, Any], owner: str) -> None:
    """Writes `content` as JSON with its owner and its digest, atomically. Raises StorageError."""
    owned = {**content, BELONGS_TO: owner}
    write_json(path, {**owned, _DIGEST: _digest(owned)})


def is_name(text: str) -> bool:
    """Whether `text` is the name of something inside a folder, and does not lead out of it."""
    return bool(text) and text not in (".", "..") and not set(text) & {"/", "\0", os.sep}


def owner_of(folder: Path, name: str = "") -> str:
    """The owner of a file: the task of `folder`, `RUN` or `RUN/evaluations/KEY`, then `name`, that of the product."""
    run = folder.parent.parent.name if folder.parent.name == "evaluations" else ""
    parts = (run, "evaluations", folder.name) if run else (folder.name,)
    return "/".join([*parts, name] if name else parts)


def _broken_seal(content: Mapping[str, Any], owner: str) -> str | None:
    """What is wrong with the digest or the owner of a record, or None."""
    sealed = {name: value for name, value in content.items() if name != _DIGEST}
    if _DIGEST not in content:
        return "it has no digest" if BELONGS_TO in content else None
    if content[_DIGEST] != _digest(sealed):
        return "its content does not match its digest"
    belongs_to = content.get(BELONGS_TO, owner)
    return None if belongs_to == owner else f"it belongs to {belongs_to}"


def mismatch(value: Any, shape: Any, name: str = "it") -> str | None:
    """How a JSON value differs from `shape`, or None. name: what to call the value."""
    kinds, inner = _parsed(shape)
    if kinds and type(value) not in kinds:
        return f"{name} is not {' or '.join(_NAMES[kind] for kind in kinds)}"
    if type(value) is int and float in kinds and abs(value) > sys.float_info.max:
        return f"{name} is larger than any number of ours"
    if isinstance(inner, dict):
        for key, (each, required) in inner.items():
            if key in value:
                if problem := mismatch(value[key], each, key):
                    return problem
            elif required:
                return f"{key} is missing"
    elif isinstance(inner, tuple):
        if len(value) != len(inner):
            return f"{name} is not a list of length {len(inner)}"
        for each, one in zip(value, inner, strict=True):
            if problem := mismatch(each, one, f"a value in {name}"):
                return problem
    elif inner is not Any:
        for each in value.values() if type(value) is dict else value:
            if problem := mismatch(each, inner, f"a value in {name}"):
                return problem
    return None


@functools.cache
def _parsed(shape: Any) -> tuple[tuple[type, ...], Any]:
    """The types that a value may have, () for any, and the shapes of what is in it.

    The latter is, for a TypedDict, each key's shape and whether the key is required; for a tuple, the shape of each
    item; for other containers, the shape of all values; else Any. It is cached because a large store has tens of
    thousands of records.
    """
    if shape is Any:
        return (), Any
    if typing.is_typeddict(shape):
        hints = typing.get_type_hints(shape)
        return (dict,), {
            name: (hint, name in shape.__required_keys__) for name, hint in hints.items()
        }
    origin, inner = typing.get_origin(shape), typing.get_args(shape)
    if origin in (types.UnionType, typing.Union):
        return tuple(kind for one in inner for kind in _parsed(one)[0]), Any
    if origin is tuple:
        return (list,), inner
    if origin is not None:
        return (origin,), inner[-1]
    return (int, float) if shape is float else (shape,), Any


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_encode(content).encode()).hexdigest()


class ExperimentRecord(TypedDict):
    """The experiment of a run, or of one of its evaluations: experiment.json.

    threads: with how many the evaluation is to be carried out, if a command planned it that has not begun it.
    """

    schema_version: int
    upgraded_from: NotRequired[int]
    config: dict[str, Any]
    threads: NotRequired[int]


class EvaluationRecord(TypedDict):
    """One evaluation of a run's encoder; metrics by name."""

    config: dict[str, Any]
    metrics: dict[str, float]
    seconds: NotRequired[float]
    beside: NotRequired[dict[str, Any]]
    examples: NotRequired[str]


PretrainingRecord = dict[str, float]
"""The last metrics of pretraining, by name."""


class ProgressRecord(TypedDict):
    """How far a task is: its phase, the fraction of it that is done, and in training the numbers of the last step."""

    phase: str
    time: float
    fraction: NotRequired[float]
    epoch: NotRequired[int]
    epochs: NotRequired[int]
    step: NotRequired[int]
    steps: NotRequired[int]
    loss: NotRequired[float | None]
    lr: NotRequired[float]
    pairs_per_second: NotRequired[float]
    images_per_second: NotRequired[float]
    seconds_left: NotRequired[float | None]


class SubmissionRecord(TypedDict):
    """The last submission of a task to a cluster."""

    job: str
    cluster: str
    output: str
    time: float
    configs: NotRequired[list[dict[str, Any]]]
    launcher: NotRequired[dict[str, Any]]
    cache: NotRequired[str]
    withdrawn: NotRequired[bool]
    cancelled: NotRequired[str]
    sweep: NotRequired[str]
    sweeps: NotRequired[dict[str, str]]


class TimeoutRecord(TypedDict):
    """Time-outs in a row, and how far the task was: whether it was done, and its step."""

    place: tuple[bool, int]
    count: int


class FailureRecord(TypedDict):
    """Why an attempt failed."""

    reason: str
    time: float
    traceback: NotRequired[str | None]


class LaunchRecord(TypedDict):
    """A launched sweep and its runs."""

    name: str
    run_ids: list[str]
    time: float
    overrides: NotRequired[list[str]]
    until: NotRequired[str]
    artefact: NotRequired[dict[str, Any]]


class ChoiceRecord(TypedDict):
    """The runs that were chosen."""

    run_ids: list[str]
