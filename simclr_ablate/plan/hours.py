"""How long a plan's runs will take, from the times of those that the store has."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simclr_ablate.config import flatten
from simclr_ablate.identity import values_of
from simclr_ablate.plan.plan import Plan
from simclr_ablate.schema import KEYS, SCHEMA_VERSION, TRAINED, counting_keys
from simclr_ablate.store import Store
from simclr_ablate.terminal import count

HOUR = 3600.0
_TIMELESS = {
    *("seed", "data.seed", "data.root", "data.label", "data.fingerprint", "views.strength"),
    *("loss.temperature", "loss.margin", "optimizer.lr", "optimizer.lr_rule"),
    *("optimizer.momentum", "optimizer.weight_decay", "optimizer.warmup_epochs"),
    *("evaluation.data.seed", "evaluation.data.root", "evaluation.data.label"),
    *("evaluation.data.fingerprint", "evaluation.lr"),
}
"""Keys that hardly change how long a run takes."""
_PACE = ("objective", "precision", "encoder.", "data.")
"""Keys, or sections, on which the seconds of an epoch depend most."""

Values = Mapping[str, Any]


@dataclass
class Times:
    """Mean seconds of pretraining, of an epoch of it, and of evaluations, by the values that they depend on."""

    pretraining: dict[Any, list[float]] = field(default_factory=dict)
    epochs: dict[Any, list[float]] = field(default_factory=dict)
    evaluations: dict[Any, list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store) -> "Times":
        """Those of the store's runs that are of this version."""
        times = cls()
        for run in store.runs():
            record = run.experiment()
            if record is None or record["schema_version"] != SCHEMA_VERSION:
                continue
            try:
                values = values_of(record["config"])
                times._note(values, run.pretraining().get("seconds"))
                for content in run.evaluations().values():
                    own = {**values, **flatten(content["config"], "evaluation")}
                    _append(times.evaluations, _of_evaluation(own), content.get("seconds"))
            except (KeyError, TypeError, AttributeError, ValueError):  # damaged by hand
                continue
        return times

    def _note(self, values: Values, seconds: float | None) -> None:
        _append(self.pretraining, _of_pretraining(values), seconds)
        if seconds is not None and values["optimizer.epochs"]:
            _append(self.epochs, _of_epoch(values), seconds / values["optimizer.epochs"])


@dataclass(frozen=True)
class Hours:
    """The hours of a plan's missing runs, one after the other. alike: how many parts of them have a time of their like;
    scaled: how many have that of another length or batch size; unknown: how many are left out."""

    hours: float
    alike: int
    scaled: int
    unknown: int

    def describe(self, side_by_side: int) -> str:
        """One line for people. side_by_side: how many runs are carried out at once."""
        if not self.alike + self.scaled + self.unknown:
            return "nothing is left to run"
        if not self.alike + self.scaled:
            return "how long it takes is not known: the store has no like of these runs yet"
        line = _told(self.hours / side_by_side)
        if side_by_side > 1:
            line += f" with {side_by_side} runs side by side"
        notes = []
        if self.scaled:
            notes.append(
                f"{count(self.scaled, 'time')} scaled from runs of another length or size of batch"
            )
        if self.unknown:
            notes.append(f"{count(self.unknown, 'time')} not known and left out")
        return f"{line}, from the times of runs in the store" + (
            f" ({'; '.join(notes)})" if notes else ""
        )


def hours_of(plan: Plan) -> Hours:
    """How long the runs that are not complete will take."""
    times, parts, pretrained = Times.of(plan.store), list[tuple[str, float]](), set[str]()
    for planned in plan.runs:
        if planned.state() == "complete":
            continue
        values = values_of(planned.experiment.to_config())
        if planned.run_id not in pretrained and not planned.run.is_pretrained():
            pretrained.add(planned.run_id)
            if values["objective"] in TRAINED:
                parts.append(_pretraining(times, values))
        parts.append(_mean(times.evaluations.get(_of_evaluation(values))))
    number = Counter(how for how, _ in parts)
    hours = math.fsum(seconds for _, seconds in parts) / HOUR
    return Hours(hours, number["alike"], number["scaled"], number["unknown"])


def hours_spent(plan: Plan) -> float:
    """How long the plan's runs have taken, as far as they are complete."""
    runs = {planned.run_id: planned.run for planned in plan.runs}
    evaluations = (planned.run.evaluation(planned.evaluation_key) for planned in plan.runs)
    seconds = [run.pretraining().get("seconds") for run in runs.values()]
    seconds += [each.get("seconds") for each in evaluations if each]
    return math.fsum(filter(None, seconds)) / HOUR


def _pretraining(times: Times, values: Values) -> tuple[str, float]:
    how, seconds = _mean(times.pretraining.get(_of_pretraining(values)))
    if how == "alike":
        return how, seconds
    how, seconds = _mean(times.epochs.get(_of_epoch(values)))
    return ("scaled", seconds * values["optimizer.epochs"]) if how == "alike" else (how, seconds)


def _mean(seconds: list[float] | None) -> tuple[str, float]:
    return ("alike", math.fsum(seconds) / len(seconds)) if seconds else ("unknown", 0.0)


def _append(times: dict[Any, list[float]], key: Any, seconds: float | None) -> None:
    if seconds is not None:
        times.setdefault(key, []).append(float(seconds))


def _of_pretraining(values: Values) -> Any:
    return _picked(values, lambda name: not name.startswith("evaluation."))


def _of_epoch(values: Values) -> Any:
    return _picked(values, lambda name: name.startswith(_PACE))


def _of_evaluation(values: Values) -> Any:
    return _picked(
        values,
        lambda name: name.startswith(("evaluation.", "encoder.", "data.", "head.", "objective")),
    )


def _picked(values: Values, wanted: Callable[[str], bool]) -> tuple[Any, ...]:
    counted = counting_keys(values)
    return tuple(
        _plain(values[name]) if name in counted else None for name in _NAMES if wanted(name)
    )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _told(hours: float) -> str:
    if hours < 1 / 60:
        return "less than a minute"
    return f"about {hours * 60:.0f} minutes" if hours < 1 else f"about {hours:.1f} hours"


_NAMES = [key.name for key in KEYS if key.identity and key.name not in _TIMELESS]
