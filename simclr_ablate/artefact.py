"""An artefact that a user defines: what `artefact` in a sweep's YAML may say, and what a launch keeps of it.

    artefact:
      title: Temperature and batch size
      kind: heat_map                    # or bars, curves, pair_grid
      rows: loss.temperature            # a key, or a list of keys
      columns: optimizer.batch_size     # the same; may be left out
      metric: top1
      free: [optimizer.lr]              # further keys in which the runs of one table differ
      labels: {loss.temperature: τ, 0.1: low}
      reference: published.csv          # or {file: ..., title: ...}
      findings: ...                     # see statement.py

Whoever reads a record needs no YAML: the record also has the places of all cells, and the content of the reference.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simclr_ablate.config import nearest, one_of
from simclr_ablate.schema import DECISIVE, KEYS, counting_keys
from simclr_ablate.statement import (
    UNUSED,
    DefinitionError,
    Scalar,
    Statement,
    check_keys,
    normal,
    read_keys,
    read_list,
    read_scalar,
    read_statement,
    read_text,
)

OF_PAPER = (
    *(f"figure{number}" for number in range(1, 10)),
    *(f"table{number}" for number in range(1, 9)),
    "appendixA",
    *(f"figureB{number}" for number in range(1, 9)),
    *(f"tableB{number}" for number in range(1, 6)),
    "tableC1",
)
"""The paper's figures and tables, which the analysis makes by these names."""
OURS = (*OF_PAPER, "claims", "more", "index")
"""Names of what the analysis writes, which no artefact of a user's may have."""
KINDS = ("heat_map", "bars", "curves", "pair_grid")
PAIR = ("views.first", "views.second")
"""The keys that a pair grid varies."""
DEFINED = ("title", "kind", "rows", "columns", "metric", "free", "labels", "reference", "findings")
"""The keys of a definition."""
MOST_LABELS = 60
"""The most rows or columns: a picture has no room for more."""
LONGEST = 200
"""The most characters of a title, a label or a finding."""

Values = tuple[Scalar, ...]
"""The values of the keys of an axis."""


@dataclass(frozen=True)
class Reference:
    """A table to compare with. cells: its numbers, each with the values of the keys of its row and of its column."""

    title: str
    cells: tuple[tuple[Values, Values, float], ...] = ()


@dataclass(frozen=True)
class Definition:
    """An artefact of the user's own.

    rows, columns: the keys that they vary. free: further keys, or sections of keys, in which runs of
    one table differ. labels: names for keys
    and for values. findings: what runs confirm or refute. reference: None if there is none. file: the file that the
    reference was in. places: the values of each cell's row and column, in the order of the sweep; empty before the
    sweep's experiments are known.
    """

    title: str
    kind: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    metric: str
    free: tuple[str, ...] = ()
    labels: tuple[tuple[Scalar, str], ...] = ()
    findings: tuple[Statement, ...] = ()
    reference: Reference | None = None
    file: str = ""
    places: tuple[tuple[Values, Values], ...] = ()
    _names: Mapping[Any, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = {normal(value): text for value, text in self.labels}
        object.__setattr__(self, "_names", names)

    @classmethod
    def read(cls, section: Any) -> "Definition":
        """The definition that a sweep's YAML holds. Raises DefinitionError.

        The content of the reference's file is not read, and nothing is known of places.
        """
        if not isinstance(section, Mapping):
            raise DefinitionError(
                (), f"must be the name of an artefact or a mapping, got {section!r}"
            )
        check_keys(section, (), DEFINED)
        kind = section.get("kind", KINDS[0])
        if kind not in KINDS:
            raise DefinitionError(
                ("kind",), f"must be {one_of(KINDS)}, got {kind!r}{nearest(str(kind), KINDS)}"
            )
        usual = dict(zip(("rows", "columns"), PAIR, strict=True)) if kind == "pair_grid" else {}
        axes = usual | {name: section[name] for name in ("rows", "columns") if name in section}
        if "rows" not in axes:
            raise DefinitionError(("rows",), f"is missing: {_OF_KEYS}")
        rows, columns = (_axis(axes.get(name, []), name) for name in ("rows", "columns"))
        if not rows:
            raise DefinitionError(("rows",), f"must be {_OF_KEYS}, got []")
        free = tuple(
            read_keys(section.get("free", []), ("free",), (*_VARIABLE, *_SECTIONS), _CONFIG)
        )
        _check_once([*rows, *columns], free)
        if kind == "curves" and len(rows) > 1:
            raise DefinitionError(("rows",), f"must be one key with kind: curves, got {list(rows)}")
        if "title" not in section:
            raise DefinitionError(("title",), "is missing: what the artefact shows, in words")
        file, reference = _reference(section.get("reference"))
        statements = read_list(section.get("findings", []), ("findings",))
        return cls(
            title=read_text(section["title"], ("title",), LONGEST),
            kind=kind,
            rows=rows,
            columns=columns,
            metric=read_text(section.get("metric", "top1"), ("metric",), LONGEST),
            free=free,
            labels=_labels(section.get("labels", {})),
            findings=tuple(
                read_statement(each, ("findings", k), [*rows, *columns])
                for k, each in enumerate(statements)
            ),
            reference=reference,
            file=file,
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of both axes."""
        return (*self.rows, *self.columns)

    def label(self, value: Scalar) -> str | None:
        """The user's name for a key or a value; None if it has none."""
        return self._names.get(normal(value))

    def to_record(self) -> dict[str, Any]:
        """Plain values for JSON, from which `from_record` makes the definition again."""
        record: dict[str, Any] = {
            "title": self.title,
            "kind": self.kind,
            "rows": list(self.rows),
            "columns": list(self.columns),
            "metric": self.metric,
            "free": list(self.free),
            "labels": [list(pair) for pair in self.labels],
            "findings": [statement.to_record() for statement in self.findings],
            "places": [[list(row), list(column)] for row, column in self.places],
        }
        if self.reference is not None:
            cells = [
                [list(row), list(column), number] for row, column, number in self.reference.cells
            ]
            record["reference"] = {"title": self.reference.title, "cells": cells}
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Definition":
        """The definition in the record of a launch. Raises ValueError if it is none."""
        section = {name: record[name] for name in record if name in DEFINED}
        try:
            section["labels"] = dict(section.get("labels", []))
            reference = section.pop("reference", None)
            definition = cls.read(section)
            places = tuple(
                (definition.values(row, "rows"), definition.values(column, "columns"))
                for row, column in record.get("places", [])
            )
            if reference is not None:
                cells = tuple(
                    (
                        definition.values(row, "rows"),
                        definition.values(column, "columns"),
                        float(number),
                    )
                    for row, column, number in reference["cells"]
                )
                title = read_text(reference["title"], ("reference", "title"), LONGEST)
                definition = dataclasses.replace(definition, reference=Reference(title, cells))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"its artefact is not a definition: {error}") from error
        definition = dataclasses.replace(definition, places=places)
        definition.check_size()
        return definition

    def values(self, given: Any, axis: str) -> Values:
        """The values of an axis from a record. axis: `rows` or `columns`. Raises ValueError."""
        keys = self.rows if axis == "rows" else self.columns
        listed = read_list(given, (axis,))
        if len(listed) != len(keys):
            raise ValueError(
                f"its artefact has {len(listed)} values for {len(keys)} keys of {axis}"
            )
        return tuple(read_scalar(each, (axis,)) for each in listed)

    def check_size(self) -> None:
        """Raises DefinitionError if there are more rows or columns than a picture can show."""
        for axis, values in (
            ("rows", {tuple(map(normal, row)) for row, _ in self.places}),
            ("columns", {tuple(map(normal, column)) for _, column in self.places}),
        ):
            if len(values) > MOST_LABELS:
                raise DefinitionError(
                    (axis,), f"must take at most {MOST_LABELS} values, got {len(values)}"
                )

    def is_free(self, key: str) -> bool:
        """Whether runs of one table may differ in a key, apart from the seed."""
        names = (*self.keys, *self.free)
        return any(key == name or key.startswith(f"{name}.") for name in names)

    def place(self, values: Mapping[str, Any]) -> tuple[Values, Values] | None:
        """The row and the column of a run; None if it has no place, since no key of its row, or of its column, counts.

        values: the run's values of the keys of both axes, and those of DECISIVE. The random encoder has a place only if
        an axis varies the objective.
        """
        row, column = (self.along(keys, values) for keys in (self.rows, self.columns))
        return None if row is None or column is None else (row, column)

    def along(self, keys: Sequence[str], values: Mapping[str, Any]) -> Values | None:
        """The values of an axis in a run; None if the run has no place on it. keys: those of the axis."""
        if values["objective"] == "none" and "objective" not in self.keys:
            return None
        counted = counting_keys({name: values[name] for name in DECISIVE})
        if keys and counted.isdisjoint(keys):
            return None
        return tuple(values[key] if key in counted else UNUSED for key in keys)

    def at(self, row: Values, column: Values) -> dict[str, Scalar]:
        """The values of all keys of a place, by key."""
        return dict(zip(self.keys, (*row, *column), strict=True))


_CONFIG = "an experiment that change results"
_OF_KEYS = "a key of the config, or a list of keys"
_VARIABLE = tuple(
    info.name
    for info in KEYS
    if info.identity and info.name != "seed" and not info.type.startswith(("list", "mapping"))
)
"""The keys that an axis can vary."""
_SECTIONS = tuple(sorted({name.rpartition(".")[0] for name in _VARIABLE} - {""}))
"""What `free` may name besides: all keys of a section."""


def _axis(given: Any, name: str) -> tuple[str, ...]:
    return tuple(
        read_keys([given] if isinstance(given, str) else given, (name,), _VARIABLE, _CONFIG)
    )


def _check_once(axes: Sequence[str], free: Iterable[str]) -> None:
    """Raises DefinitionError if a key is named twice."""
    seen: set[str] = set()
    for name in (*axes, *free):
        if name in seen:
            where = "free" if name in free else "columns"
            raise DefinitionError((where,), f"must not name {name}, which is there already")
        seen.add(name)


def _labels(given: Any) -> tuple[tuple[Scalar, str], ...]:
    if not isinstance(given, Mapping):
        raise DefinitionError(
            ("labels",), f"must be a mapping of keys and values to names, got {given!r}"
        )
    labels = {
        read_scalar(each, ("labels",)): read_text(text, ("labels", each), LONGEST)
        for each, text in given.items()
    }
    for each, text in labels.items():
        if list(labels.values()).count(text) > 1:
            raise DefinitionError(
                ("labels", each), f"must be another name than all others, got {text!r}"
            )
    return tuple(labels.items())


def _reference(given: Any) -> tuple[str, Reference | None]:
    """The file of the reference, and the reference without its cells; None if there is none."""
    if given is None:
        return "", None
    path: tuple[Any, ...] = ("reference",)
    section = {"file": given} if isinstance(given, str) else given
    if not isinstance(section, Mapping) or "file" not in section:
        raise DefinitionError(
            path, f"must be a CSV file, or a mapping of file and title, got {given!r}"
        )
    check_keys(section, path, ("file", "title"))
    file = read_text(section["file"], (*path, "file") if section is given else path)
    title = read_text(section.get("title", "The reference"), (*path, "title"), LONGEST)
    return file, Reference(title)
