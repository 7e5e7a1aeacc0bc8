"""Effects: numbers at each seed, and the least or the greatest of several, with confidence bounds.

An effect has a lower and an upper bound, each with a probability of error (`tail`) that the caller chooses. With
2.5% each, the two bounds are the ends of a 95% interval. `p_value` is the tail at which a bound reaches a given limit.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import ClassVar, Protocol

from ..comparison import Part, Place
from ..statistics import t_probability, t_quantile

ROUNDING = 1e-9
"""Scatter below this is floating-point error."""
SMALLEST_P = 1e-12


class MissingCellsError(Exception):
    """A claim cannot be tested. needed: the cells that have no runs, in words."""

    def __init__(self, needed: Sequence[str]) -> None:
        super().__init__("; ".join(needed))
        self.needed = tuple(needed)


class Effect(Protocol):
    """What a claim is about, in points."""

    @property
    def mean(self) -> float:
        """The estimate; NaN without a seed."""

    @property
    def decisive(self) -> "Measured":
        """The measured number that the estimate comes from."""

    def low(self, tail: float) -> float:
        """The lower bound: it lies above the true value with a probability of at most `tail`."""

    def high(self, tail: float) -> float:
        """The upper bound: it lies below the true value with a probability of at most `tail`."""

    def p(self, limit: float, above: bool) -> float:
        """The smallest tail at which the lower bound is above the limit, or, unless `above`, the upper bound below."""

    def measured(self) -> "list[Measured]":
        """All measured numbers in it."""


class Student(ABC):
    """A mean over seeds, with the bounds of Student's t."""

    @property
    @abstractmethod
    def seeds(self) -> int: ...

    @property
    @abstractmethod
    def mean(self) -> float: ...

    @property
    @abstractmethod
    def deviation(self) -> float:
        """The standard deviation over seeds, of two or more."""

    def low(self, tail: float) -> float:
        return self.mean + t_quantile(tail, self.seeds - 1) * self._error

    def high(self, tail: float) -> float:
        return self.mean - t_quantile(tail, self.seeds - 1) * self._error

    def p(self, limit: float, above: bool) -> float:
        t = (self.mean - limit) / self._error
        return t_probability(-t if above else t, self.seeds - 1)

    @property
    def _error(self) -> float:
        return self.deviation / math.sqrt(self.seeds)


@dataclass(frozen=True)
class Measured(Student):
    """A number at each seed: an accuracy, or a difference of accuracies, paired by seed.

    Its bounds are Student's t over seeds. words: what it is. run_ids: the runs that it comes from.
    """

    words: str
    by_seed: Mapping[int, float]
    run_ids: frozenset[str] = frozenset()

    def __sub__(self, other: "Measured") -> "Measured":
        """The difference at the seeds that both have."""
        common = sorted(set(self.by_seed) & set(other.by_seed))
        difference = {seed: self.by_seed[seed] - other.by_seed[seed] for seed in common}
        words = f"{_term(self)} minus {_term(other)}"
        return Measured(words, difference, self.run_ids | other.run_ids)

    @property
    def seeds(self) -> int:
        return len(self.by_seed)

    @cached_property
    def mean(self) -> float:
        return math.fsum(self.by_seed.values()) / self.seeds if self.by_seed else math.nan

    @property
    def decisive(self) -> "Measured":
        return self

    @property
    def scatters(self) -> bool:
        """Whether it has a standard error: two seeds or more, with different values."""
        return self.seeds > 1 and self._error > ROUNDING

    def measured(self) -> "list[Measured]":
        return [self]

    @cached_property
    def deviation(self) -> float:
        squares = math.fsum((value - self.mean) ** 2 for value in self.by_seed.values())
        return math.sqrt(squares / (self.seeds - 1))


Differences = Measured | Sequence["Differences"]
"""What a claim rests on: one number, several, or groups of several."""


@dataclass(frozen=True)
class Extreme(ABC):
    """The least or the greatest of several effects, estimated by the least or greatest of their estimates."""

    takes_all_above: ClassVar[bool]
    """Whether it is above a limit only if all effects are, and below as soon as one is. False: the other way round."""
    effects: Sequence[Effect]

    @property
    def mean(self) -> float:
        return self.decisive.mean

    @property
    @abstractmethod
    def decisive(self) -> Measured: ...

    @abstractmethod
    def low(self, tail: float) -> float: ...

    @abstractmethod
    def high(self, tail: float) -> float: ...

    @abstractmethod
    def p(self, limit: float, above: bool) -> float: ...

    def _shared(self, p: float) -> float:
        """The tail of the whole, if each effect has its share of it and one needs the tail `p`."""
        return min(1.0, p * len(self.effects))

    def measured(self) -> list[Measured]:
        return [number for effect in self.effects for number in effect.measured()]


class Least(Extreme):
    """The least of several effects.

    It is above a limit only if all of them are: its lower bound is the least of theirs, each with the whole `tail` (an
    intersection-union test). It is below a limit as soon as one of them is: its upper bound is the least of theirs,
    each with its share of `tail` (Bonferroni). The estimate is the least of their estimates, which is biased low.
    """

    takes_all_above = True

    @property
    def decisive(self) -> Measured:
        return min((effect.decisive for effect in self.effects), key=_mean)

    def low(self, tail: float) -> float:
        return min(effect.low(tail) for effect in self.effects)

    def high(self, tail: float) -> float:
        return min(effect.high(tail / len(self.effects)) for effect in self.effects)

    def p(self, limit: float, above: bool) -> float:
        each = [effect.p(limit, above) for effect in self.effects]
        return max(each) if above else self._shared(min(each))


class Greatest(Extreme):
    """The greatest of several effects: the mirror image of `Least`."""

    takes_all_above = False

    @property
    def decisive(self) -> Measured:
        return max((effect.decisive for effect in self.effects), key=_mean)

    def low(self, tail: float) -> float:
        return max(effect.low(tail / len(self.effects)) for effect in self.effects)

    def high(self, tail: float) -> float:
        return max(effect.high(tail) for effect in self.effects)

    def p(self, limit: float, above: bool) -> float:
        each = [effect.p(limit, above) for effect in self.effects]
        return self._shared(min(each)) if above else max(each)


class FiveInSix(Extreme):
    """The least number that five in six of several effects, such as 10 of 12, do not exceed.

    Its bounds are those of the effects, sorted in the same way, each at its share of `tail` (Bonferroni), so that they
    hold together.
    """

    takes_all_above = False

    @property
    def decisive(self) -> Measured:
        ordered = sorted((effect.decisive for effect in self.effects), key=_mean)
        return ordered[self._place]

    def low(self, tail: float) -> float:
        return self._of([effect.low(tail / len(self.effects)) for effect in self.effects])

    def high(self, tail: float) -> float:
        return self._of([effect.high(tail / len(self.effects)) for effect in self.effects])

    def p(self, limit: float, above: bool) -> float:
        each = sorted(effect.p(limit, above) for effect in self.effects)
        return self._shared(each[-1 - self._place] if above else each[self._place])

    @property
    def _place(self) -> int:
        return -(-5 * len(self.effects) // 6) - 1

    def _of(self, bounds: Sequence[float]) -> float:
        return sorted(bounds)[self._place]


def combined(kinds: Sequence[type[Extreme]], differences: Differences) -> Effect:
    """The effect of some differences: a single number itself, or the extreme `kinds[0]` of several.

    Groups are first combined by the rest of `kinds`.
    """
    if isinstance(differences, Measured):
        return differences
    kind, *inner = kinds
    return kind([combined(inner, each) for each in differences])


def p_value(effect: Effect, limit: float) -> float:
    """The one-sided p-value on the side of the estimate. Values below 1e-12 are given as 1e-12."""
    return max(SMALLEST_P, effect.p(limit, effect.mean > limit))


_NEEDED = {
    (True,): "every difference must be clearly {}",
    (False,): "one difference must be clearly {}, corrected for their number",
    (
        True,
        False,
    ): "every group must have a difference that is clearly {}, corrected for the number "
    "in the group",
    (False, True): "all of one group must be clearly {}, corrected for the number of groups",
}
"""What a verdict needs, by how many differences must be on its side: all (True) or one (False). A second entry is for
the differences within a group; the first is then for the groups."""


def decision(
    kinds: Sequence[type[Extreme]], limit: float = 0.0, below: bool = False, unit: str = "points"
) -> str:
    """What decides on an effect of these `kinds`, in one sentence; empty for a single number.

    limit: in `unit`. below: whether the claim is confirmed below it; otherwise it is above it.
    """
    if not kinds:
        return ""
    words = f"{limit:g} {unit}".rstrip() if limit else "0"
    if kinds == (FiveInSix,) and below:
        return (
            f"To confirm, five in six differences must be clearly below {words}; to refute, more than one "
            f"in six must be clearly above {words}; both corrected for their number."
        )
    # The least of leasts is the least of all of them; the same goes for the greatest.
    takes_all = [every for every, _ in groupby(kind.takes_all_above for kind in kinds)]
    above = _NEEDED[tuple(takes_all)].format(f"above {words}")
    beneath = _NEEDED[tuple(not every for every in takes_all)].format(f"below {words}")
    confirm, refute = (beneath, above) if below else (above, beneath)
    return f"To confirm, {confirm}; to refute, {refute}."


def _mean(measured: Measured) -> float:
    return measured.mean


def _term(measured: Measured) -> str:
    return f"({measured.words})" if " minus " in measured.words else measured.words


def average(part: Part, places: Collection[Place], words: str) -> Measured:
    """The mean of several cells, at each seed that all of them have. Raises MissingCellsError."""
    require(part, places)
    cells = [part.cells[place].by_seed for place in places]
    common = sorted(set(cells[0]).intersection(*cells))
    mean = {seed: math.fsum(by_seed[seed] for by_seed in cells) / len(cells) for seed in common}
    run_ids = frozenset(run_id for place in places for run_id in part.cells[place].run_ids)
    return Measured(words, mean, run_ids)


def require(part: Part, places: Collection[Place]) -> None:
    """Raises MissingCellsError if one of the places has no runs."""
    missing = [part.locate(place) for place in places if place not in part.cells]
    if missing:
        raise MissingCellsError(missing)
