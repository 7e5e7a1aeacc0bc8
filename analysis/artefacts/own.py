"""An artefact of the user's own: any keys against any others, as a sweep's YAML defines it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from simclr_ablate.artefact import PAIR, Definition, Values
from simclr_ablate.schema import DECISIVE, METRIC_NAMES
from simclr_ablate.statement import Scalar, is_number, normal

from ..comparison import (
    Axis,
    Comparison,
    Label,
    Part,
    Place,
    cells,
    constant,
    free_keys,
    placed,
    spell,
)
from ..curves import Curve, Curves, curve_page, describe_curves
from ..own import OwnArtefact
from ..presentation import bar_report, bars, map_report, report
from ..report import Report
from ..settings import Setting, random_encoder, settings, shown
from ..typesetting import uncapitalized
from . import Artefact, figure5

LOG_FROM = 8
"""The ratio of the largest to the smallest value from which an axis is logarithmic."""


@dataclass(frozen=True)
class Name:
    """A value of a key under a name."""

    value: Scalar
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Metric:
    """How a metric is called, and the unit of its differences. factor: what stored numbers are multiplied by.

    tested: whether cells are compared with the random encoder.
    """

    title: str
    unit: str
    factor: float = 1.0
    tested: bool = True


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting with finished runs in two or more cells."""
    assert isinstance(artefact, OwnArtefact)
    return [_report(artefact.definition, each) for each in comparisons(artefact, runs)]


def _report(definition: Definition, comparison: Comparison) -> Report:
    if definition.kind == "bars":
        return bar_report(comparison, [bars(comparison, comparison.parts[0])])
    if definition.kind == "curves":
        panels = curves(comparison, title_of(definition, definition.rows[0]))
        return report(comparison, describe_curves(panels), partial(curve_page, [panels]))
    return map_report(comparison)


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    assert isinstance(artefact, OwnArtefact)
    definition = artefact.definition
    if definition.metric not in runs:
        return []
    measured = metric_of(definition.metric)
    axes = rows_and_columns(definition)
    finished = placed(runs[runs[definition.metric].notna()], *axes)
    free = free_keys(axes, definition.free)
    reference = definition.reference
    return [
        Comparison(
            artefact,
            setting,
            [part(definition, axes, setting.runs)],
            random_encoder(runs, setting, definition.metric) if measured.tested else None,
            quantity=measured.title,
            method=_method(definition.metric, setting),
            printed_on=shown(reference.title) if reference else "The paper: ImageNet, ResNet-50",
            theirs="the reference" if reference else "the paper",
        )
        for setting in settings(finished, artefact.stem, free, least=2)
    ]


def part(definition: Definition, axes: tuple[Axis, Axis], runs: pd.DataFrame) -> Part:
    """The table, with places that the sweep does not have left empty."""
    rows, columns = axes
    metric = metric_of(definition.metric)
    measured = cells(runs, rows, columns, definition.metric, metric.factor)
    planned = {
        (label_of(definition, definition.rows, row), _column(definition, column))
        for row, column in definition.places
    }

    def void(row: Label, column: Label) -> bool:
        return bool(planned) and (row, column) not in planned and (row, column) not in measured

    return Part(
        name="",
        rows=rows,
        columns=columns,
        cells=measured,
        paper=published(definition),
        quantity=metric.title[:1].lower() + metric.title[1:],
        void=void,
        untested=() if metric.tested else [row for row, _ in measured],
    )


def published(definition: Definition) -> dict[Place, float]:
    """The numbers beside ours: those of the reference or, beside a pair grid without one, the paper's of Figure 5."""
    if definition.reference is not None:
        return {
            (label_of(definition, definition.rows, row), _column(definition, column)): number
            for row, column, number in definition.reference.cells
        }
    if definition.kind != "pair_grid" or definition.keys != PAIR or definition.metric != "top1":
        return {}
    printed = figure5.published()
    numbers = {}
    for row, column in definition.places:
        place = tuple(figure5.NAMES.get(str(value), "") for value in (*row, *column))
        if place in printed:
            labels = (label_of(definition, definition.rows, row), _column(definition, column))
            numbers[labels] = printed[place]
    return numbers


def rows_and_columns(definition: Definition) -> tuple[Axis, Axis]:
    rows, columns = (list(dict.fromkeys(place[k] for place in definition.places)) for k in (0, 1))
    first = _axis(definition, definition.rows, rows)
    if not definition.columns:
        return first, constant(metric_of(definition.metric).title)
    return first, _axis(definition, definition.columns, columns)


def _axis(definition: Definition, keys: Sequence[str], planned: Sequence[Values]) -> Axis:
    def read(*values: Any) -> Label | None:
        found = definition.along(keys, dict(zip((*keys, *DECISIVE), values, strict=True)))
        return None if found is None else label_of(definition, keys, found)

    return Axis(
        titles=[title_of(definition, key) for key in keys],
        keys=keys,
        read=read,
        labels=[label_of(definition, keys, values) for values in planned],
        order=_order(planned, len(keys)),
        given=DECISIVE,
    )


def _order(planned: Sequence[Values], parts: int) -> Callable[[Label], Any]:
    """Sorts labels: numbers by size, other values as in the sweep."""
    seen = [list(dict.fromkeys(normal(values[k]) for values in planned)) for k in range(parts)]

    def rank(value: Scalar, known: Sequence[Any]) -> tuple[Any, ...]:
        if is_number(value):
            return 0, value, ""
        at = normal(value)
        return 1, known.index(at) if at in known else len(known), str(value)

    return lambda label: tuple(map(rank, values_of(label), seen))


def label_of(definition: Definition, keys: Sequence[str], values: Values) -> Label:
    """The label of a row or a column with these values of its keys."""
    parts = tuple(_part(definition, key, value) for key, value in zip(keys, values, strict=True))
    return parts[0] if len(parts) == 1 else parts


def _column(definition: Definition, values: Values) -> Label:
    if not definition.columns:
        return metric_of(definition.metric).title
    return label_of(definition, definition.columns, values)


def _part(definition: Definition, key: str, value: Scalar) -> Any:
    """A number itself, or a value under its name: the user's, or the paper's for an operation, or what it is."""
    given = definition.label(value)
    if given is None and is_number(value):
        return value
    if given is None and isinstance(value, bool | None):
        given = {None: "null", False: "false", True: "true"}[value]
    if given is None and key in PAIR:
        given = figure5.NAMES.get(str(value))
    return Name(value, shown(str(value) if given is None else given))


def values_of(label: Label) -> Values:
    """The values that a label stands for."""
    parts = label if isinstance(label, tuple) else (label,)
    return tuple(each.value if isinstance(each, Name) else each for each in parts)


def title_of(definition: Definition, key: str) -> str:
    """What a key is called: `Temperature`, `Batch size`, `Loss`."""
    given = definition.label(key)
    if given is None and definition.kind == "pair_grid" and key in PAIR:
        given = (figure5.FIRST, figure5.SECOND)[PAIR.index(key)].title
    if given is None:
        section, _, last = key.rpartition(".")
        given = (section if last in ("name", "kind") and section else last).replace("_", " ")
        given = given.replace(".", " ")
    given = shown(given)
    return given[:1].upper() + given[1:]


def metric_of(name: str) -> Metric:
    """What is known of a metric by its name."""
    known = {
        "pretraining.loss": Metric("Loss of pretraining", "", tested=False),
        "pretraining.accuracy": Metric(
            "Accuracy in pretraining (%)", "points", 100.0, tested=False
        ),
        "pretraining.entropy": Metric("Entropy in pretraining (nats)", "nats", tested=False),
        "pretraining.seconds": Metric("Seconds of pretraining", "s", tested=False),
        "probe_accuracy": Metric("Accuracy of the probe (%)", "points"),
        "probe_validation_accuracy": Metric("Validation accuracy of the probe (%)", "points"),
    }
    if name in known:
        return known[name]
    prefix = next((each for each in ("validation_", "knn_") if name.startswith(each)), "")
    accuracy = METRIC_NAMES.get(name.removeprefix(prefix))
    if accuracy is None:
        return Metric(shown(name), "", tested=False)
    words = {"validation_": "validation ", "knn_": "kNN ", "": ""}[prefix] + accuracy
    return Metric(
        f"{words[:1].upper() if prefix != 'knn_' else words[:1]}{words[1:]} (%)", "points"
    )


def _method(metric: str, setting: Setting) -> str:
    """How the metric was measured, in words; empty for what the caption says by itself."""
    if metric.startswith("pretraining."):
        return "in the last epoch of pretraining"
    config: Mapping[str, Any] = setting.config
    protocol, features = config.get("evaluation.protocol"), config.get("evaluation.features")
    if metric.startswith("knn_"):
        return f"of nearest neighbours on the frozen {features or 'h or z'}"
    if protocol in ("linear", "linear_sgd"):
        return ""
    return f"by evaluation.protocol={shown(str(protocol))}" if protocol else "by several protocols"


def curves(comparison: Comparison, x_title: str) -> list[Curves]:
    """Ours and, if there is one, the reference: a line for each column over the values of the rows."""
    (table,) = comparison.parts

    def panel(title: str, places: Mapping[Place, tuple[float, float]]) -> Curves:
        lines = []
        for column in table.column_labels:
            points = [
                (float(values_of(row)[0]), *places[row, column])  # type: ignore[arg-type]
                for row in table.row_labels
                if (row, column) in places and is_number(values_of(row)[0])
            ]
            if points:
                x, y, half = zip(*points, strict=True)
                name = " ".join(spell(column))
                if table.columns.title:
                    name = f"{uncapitalized(table.columns.title)} {name}"
                lines.append(Curve(name, x, y, half))
        every = [x for line in lines for x in line.x]
        logarithmic = bool(every) and min(every) > 0 and max(every) >= LOG_FROM * min(every)
        titles = (x_title, table.quantity[:1].upper() + table.quantity[1:])
        return Curves(title, *titles, lines, joined=True, pointed=True, log_x=logarithmic)

    estimates = {place: cell.estimate() for place, cell in table.cells.items()}
    ours = {place: (each.mean, each.half) for place, each in estimates.items()}
    drawn = [panel(f"Ours: {comparison.setting.label}", ours)]
    if comparison.published:
        theirs = {place: (number, math.nan) for place, number in table.paper.items()}
        drawn.append(panel(comparison.printed_on, theirs))
    return drawn
