"""Artefacts that users' sweeps define, read and checked before any run starts; errors name the file and the line."""

import csv
import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simclr_ablate.artefact import OURS, Definition, Reference, Values
from simclr_ablate.config import ConfigError, as_yaml, is_own, nearest
from simclr_ablate.identity import identity_config, values_of
from simclr_ablate.paths import config_folder, expanded
from simclr_ablate.plan.keys import objective_metrics
from simclr_ablate.plan.yaml_files import line_in_sweep
from simclr_ablate.schema import Experiment
from simclr_ablate.statement import (
    UNUSED,
    DefinitionError,
    Scalar,
    Selection,
    Statement,
    is_number,
    normal,
    selects,
)

MOST_CURVES = 5
"""How many curves can be told apart."""
NAMED = 12
"""How many values a message lists at most."""

Listed = Mapping[str, Sequence[Scalar]]
"""Values by key."""


@dataclass(frozen=True)
class Defined:
    """An artefact that a sweep of the user's defines.

    sweep: the sweep as the command named it. file: its YAML, if it is known. listed: the values that its grids list, by
    key. narrowed: whether the command line gives keys that the artefact varies, so that parts of it may be missing.
    """

    definition: Definition
    sweep: str
    file: Path | None
    listed: Listed
    narrowed: bool

    @classmethod
    def read(
        cls, section: Mapping[str, Any], sweep: str, file: Path | None, given: Collection[str]
    ) -> "Defined":
        """The artefact that a sweep's section defines. Raises ConfigError.

        given: the keys that the command line sets or sweeps.
        """
        with told(sweep, file):
            definition = Definition.read(section["artefact"])
            _check_sweep(section)
        listed: dict[str, list[Scalar]] = defaultdict(list)
        for grid in section.get("grids") or []:
            for key, values in grid.items():
                listed[key] += values if isinstance(values, list) else [values]
        narrowed = any(
            key == name or key.startswith(f"{name}.") for key in definition.keys for name in given
        )
        return cls(definition, sweep, file, listed, narrowed)

    def with_values_of(self, other: "Defined") -> "Defined":
        """The same artefact of a sweep that also lists the values of `other`."""
        keys = dict.fromkeys([*self.listed, *other.listed])
        listed = {key: [*self.listed.get(key, ()), *other.listed.get(key, ())] for key in keys}
        return dataclasses.replace(self, listed=listed)

    def checked(self, experiments: Sequence[Experiment], lacking: bool = False) -> Definition:
        """The definition with the places of the sweep's experiments and the reference. Raises ConfigError.

        experiments: completed. lacking: whether some experiments are passed over, since their data are not there.
        """
        placed = [
            (place, experiment)
            for experiment in experiments
            if (place := _place(self.definition, experiment)) is not None
        ]
        places = tuple(dict.fromkeys(place for place, _ in placed))
        definition = dataclasses.replace(self.definition, places=places)
        with told(self.sweep, self.file):
            values = self._values(definition)
            _check_axes(definition, values, placed)
            _check_metric(definition, [experiment for _, experiment in placed])
            _check_cells(definition, placed)
            for number, statement in enumerate(definition.findings):
                cells = [definition.at(*place) for place in places]
                _check_values(statement, ("findings", number), values, cells)
                if not statement.contrasts(cells) and not (self.narrowed or lacking):
                    raise DefinitionError(
                        ("findings", number),
                        "compares no cells of the sweep: no two have all else in common",
                    )
        if definition.reference is None:
            return definition
        return dataclasses.replace(definition, reference=self._reference(definition, values))

    def _values(self, definition: Definition) -> dict[str, list[Scalar]]:
        """The values of each key of the axes: those of the experiments, then those that the grids list."""
        found: dict[str, list[Scalar]] = {}
        for key in definition.keys:
            there = [definition.at(*place)[key] for place in definition.places]
            every = [*there, *self.listed.get(key, [])]
            unique: dict[Any, Scalar] = {}
            for value in every:
                unique.setdefault(normal(value), value)
            found[key] = list(unique.values())
        return found

    def _reference(self, definition: Definition, values: Listed) -> Reference:
        assert definition.reference is not None
        with told(self.sweep, self.file):
            path = expanded(definition.file, "sweep.artefact.reference")
            if self.file is not None:
                path = self.file.parent / path
            if not path.is_file():
                raise DefinitionError(
                    ("reference",), f"must be a CSV file, got {definition.file!r}: no such file"
                )
        cells = _read_table(path, definition, values)
        return dataclasses.replace(definition.reference, cells=tuple(cells))


@contextmanager
def told(sweep: str, file: Path | None) -> Iterator[None]:
    """Turns a DefinitionError raised inside into a ConfigError with the sweep and, if its file is known, the line."""
    try:
        yield
    except DefinitionError as error:
        where = f"sweep={sweep}"
        if file is not None:
            where += f", line {line_in_sweep(file, where, ['artefact', *error.path])}"
        raise ConfigError(f"{where}: {error}") from error


def _check_sweep(section: Mapping[str, Any]) -> None:
    """Raises DefinitionError if a sweep cannot define an artefact."""
    for key, why in (
        ("sweeps", "which unites others: give it to a sweep with grids"),
        ("select", "whose first stage has seeds and values of its own"),
    ):
        if key in section:
            raise DefinitionError((), f"cannot be defined by a sweep with {key}, {why}")
    name = section["name"]
    ours = {path.stem for path in config_folder("sweeps").glob("*.yaml")}
    if name.lower() in map(str.lower, (*OURS, *ours)):
        raise DefinitionError(
            (),
            f"cannot be defined by a sweep called {name}, which is a name of ours: give it another name",
        )


def _place(definition: Definition, experiment: Experiment) -> tuple[Values, Values] | None:
    return definition.place(values_of(experiment.to_config()))


Placed = Sequence[tuple[tuple[Values, Values], Experiment]]
"""Experiments, each after its place."""


def _check_axes(definition: Definition, values: Listed, placed: Placed) -> None:
    """Raises DefinitionError if an axis varies nothing, or too much."""
    for axis, keys in (("rows", definition.rows), ("columns", definition.columns)):
        for key in keys:
            if not placed or not values[key]:
                raise DefinitionError((axis,), f"must name keys of the sweep’s runs, got {key}")
            if len(values[key]) < 2:
                raise DefinitionError(
                    (axis,),
                    f"must name keys that the sweep varies, got {key}, which is always {as_yaml(values[key][0])}",
                )
    if definition.kind == "curves":
        (key,) = definition.rows
        for value in values[key]:
            if not is_number(value):
                raise DefinitionError(
                    ("rows",),
                    f"must be a key with numbers with kind: curves, got {key}={as_yaml(value)}",
                )
        of_columns = {column for _, column in definition.places}
        if len(of_columns) > MOST_CURVES:
            raise DefinitionError(
                ("columns",),
                f"must take at most {MOST_CURVES} values with kind: curves, got {len(of_columns)}",
            )
    definition.check_size()


def _check_metric(definition: Definition, experiments: Sequence[Experiment]) -> None:
    """Raises DefinitionError if no experiment has the metric."""
    known = list(dict.fromkeys(itertools.chain.from_iterable(map(_metrics, experiments))))
    if definition.metric not in known:
        close = nearest(definition.metric, known)
        raise DefinitionError(
            ("metric",), f"must be one of {', '.join(known)}, got {definition.metric!r}{close}"
        )


def _metrics(experiment: Experiment) -> list[str]:
    """The metrics that a run of the experiment has."""
    protocol, data = experiment.evaluation.protocol, experiment.evaluated_data
    if is_own(protocol):
        from simclr_ablate.plan.trial import metrics_of_own

        evaluated = list(metrics_of_own(experiment))
    else:
        evaluated = objective_metrics(protocol, data.metric, data.has_several_labels)
    trained = {
        "contrastive": ("loss", "accuracy", "entropy", "seconds"),
        "supervised": ("loss", "accuracy", "seconds"),
    }
    of_training = trained.get(experiment.objective, ())
    return [*evaluated, *(f"pretraining.{name}" for name in of_training)]


def _check_cells(definition: Definition, placed: Placed) -> None:
    """Raises DefinitionError if a cell would be the mean of different experiments, or a table would fall apart."""
    counted = [(place, identity_config(experiment)) for place, experiment in placed]
    cells: dict[Any, dict[str, Any]] = {}
    by_key: dict[str, dict[Any, set[str]]] = defaultdict(lambda: defaultdict(set))
    for place, config in counted:
        fixed = {name: value for name, value in config.items() if not definition.is_free(name)}
        other = cells.setdefault((place, repr(fixed)), config)
        if other != config:
            name = next(name for name in config if config[name] != other.get(name))
            raise DefinitionError(
                ("free",),
                f"must not name {name}, since runs of one cell differ in it: "
                f"{as_yaml(other.get(name))} and {as_yaml(config[name])}",
            )
        for name, value in fixed.items():
            if name != "seed":
                by_key[name][place].add(repr(value))
    for name, values in by_key.items():
        several = len(set().union(*values.values())) > 1
        if several and all(len(of_place) == 1 for of_place in values.values()):
            raise DefinitionError(
                ("free",) if definition.free else (),
                f"must have {name} in free: it changes from cell to cell, and runs that differ in another key are "
                "never in one table",
            )


def _check_values(
    statement: Statement, path: tuple[Any, ...], values: Listed, cells: Sequence[Selection]
) -> None:
    """Raises DefinitionError if a finding names a value that the sweep does not have.

    cells: the values of all keys of each cell of the sweep.
    """
    names: dict[str, list[tuple[Any, ...]]] = {
        "higher": [("higher",), ("than",)],
        "highest": [("highest",)],
        "alike": [("alike", 0), ("alike", 1)],
    }
    sides = list(zip(statement.sides, names.get(statement.form, []), strict=True))
    for side, at in [*sides, (statement.where, ("where",))]:
        for key, value in side.items():
            if not any(normal(value) == normal(each) for each in values[key]):
                raise DefinitionError(
                    (*path, *at, key), f"must be one of {_list(values[key])}, got {as_yaml(value)}"
                )
    key = statement.key
    there = [cell[key] for cell in cells if key and selects(statement.where, cell)]
    counted = [value for value in dict.fromkeys(there) if value != UNUSED]
    if not all(map(is_number, counted)):
        raise DefinitionError(
            (*path, statement.form),
            f"must be a key with numbers, got {key}, which is {_list(counted)}",
        )


def _read_table(
    path: Path, definition: Definition, values: Listed
) -> list[tuple[Values, Values, float]]:
    """The cells of a reference. Raises ConfigError, which names the line."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, line) for line in reader if any(map(str.strip, line))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"sweep.artefact.reference {path} cannot be read: {reason}") from error
    if len(lines) < 2:
        raise ConfigError(
            f"sweep.artefact.reference {path} must have a header and at least one row, got {len(lines)} lines"
        )
    (at, header), *body = lines
    names = len(definition.rows)
    rows, columns = (
        _candidates(definition, axis, values) for axis in (definition.rows, definition.columns)
    )
    if not definition.columns and len(header) != names + 1:
        raise ConfigError(
            f"{path}, line {at}: must have one column of numbers, since the artefact has no columns, "
            f"got {len(header) - names}"
        )
    of_columns: list[Values] = [()]
    if definition.columns:
        of_columns = [_matched([cell], columns, definition, path, at) for cell in header[names:]]
    cells, seen = [], set[Any]()
    for at, line in body:
        if len(line) != len(header):
            raise ConfigError(f"{path}, line {at}: must have {len(header)} cells, got {len(line)}")
        row = _matched(line[:names], rows, definition, path, at)
        for column, text in zip(of_columns, line[names:], strict=True):
            if (row, column) in seen:
                raise ConfigError(f"{path}, line {at}: a cell is there twice")
            seen.add((row, column))
            if text.strip():
                cells.append((row, column, _number(text, path, at)))
    return cells


def _candidates(definition: Definition, keys: Sequence[str], values: Listed) -> list[Values]:
    """The rows or columns that a reference may have: those of the sweep, and those that its grids list."""
    axis = 0 if tuple(keys) == definition.rows else 1
    listed = itertools.product(*(values[key] for key in keys))
    return list(dict.fromkeys([*(place[axis] for place in definition.places), *listed]))


def _matched(
    texts: Sequence[str], known: Sequence[Values], definition: Definition, path: Path, line: int
) -> Values:
    """The values that the texts name: one text each, or one for all. Raises ConfigError."""
    for values in known:
        if len(texts) == len(values) and all(
            map(_names, texts, values, itertools.repeat(definition))
        ):
            return values
        if texts == [" ".join(map(as_yaml, values))]:
            return values
    accepted = ", ".join(" ".join(map(as_yaml, each)) for each in known[:NAMED])
    more = ", ..." if len(known) > NAMED else ""
    raise ConfigError(
        f"{path}, line {line}: must name a row or column of the sweep ({accepted}{more}), got {' '.join(texts)!r}"
    )


def _names(text: str, value: Scalar, definition: Definition) -> bool:
    """Whether a text in a reference names a value: by itself, or by its label."""
    text = text.strip()
    if text in (as_yaml(value), definition.label(value)):
        return True
    try:
        return is_number(value) and float(text) == float(value)  # type: ignore[arg-type]
    except ValueError:
        return False


def _number(text: str, path: Path, line: int) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{path}, line {line}: must be numbers or empty, got {text!r}")
    return number


def _list(values: Sequence[Scalar]) -> str:
    more = ", ..." if len(values) > NAMED else ""
    return ", ".join(map(as_yaml, values[:NAMED])) + more
