"""Effects: numbers at each seed, and the least or the greatest of several, with confidence bounds.

An effect bounds what it estimates from below and from above, each with a probability of error
(`tail`) of the caller's. With t quantiles at half of 5%, the two are the ends of a 95% interval.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from analysis.comparison import Part, Place
from analysis.statistics import t_quantile

ROUNDING = 1e-9
"""Scatter below this is that of floating-point sums."""


class MissingCellsError(Exception):
    """A claim cannot be tested: `needed` says in words what has no runs."""

    def __init__(self, needed: Sequence[str]) -> None:
        super().__init__("; ".join(needed))
        self.needed = tuple(needed)


class Effect(Protocol):
    """What a claim is about, in points."""

    @property
    def mean(self) -> float:
        """The estimate, NaN where there is no seed."""

    @property
    def decisive(self) -> "Measured":
        """The one measured number that the estimate comes from."""

    def low(self, tail: float) -> float:
        """Lies above what is estimated with a probability of at most `tail`."""

    def high(self, tail: float) -> float:
        """Lies below what is estimated with a probability of at most `tail`."""

    def parts(self) -> "list[Measured]":
        """All the measured numbers in it."""


@dataclass(frozen=True)
class Measured:
    """A number at each seed: an accuracy, or a difference of such, paired by seed.

    Its bounds are those of Student's t over seeds. `words` say what it is, `run_ids` where it comes
    from.
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

    @property
    def mean(self) -> float:
        return math.fsum(self.by_seed.values()) / self.seeds if self.by_seed else math.nan

    @property
    def decisive(self) -> "Measured":
        return self

    @property
    def scatters(self) -> bool:
        """Whether its standard error can be told: two seeds or more, and not all the same."""
        return self.seeds > 1 and self._error() > ROUNDING

    def low(self, tail: float) -> float:
        return self.mean - t_quantile(1 - tail, self.seeds - 1) * self._error()

    def high(self, tail: float) -> float:
        return self.mean + t_quantile(1 - tail, self.seeds - 1) * self._error()

    def parts(self) -> "list[Measured]":
        return [self]

    def _error(self) -> float:
        mean = self.mean
        squares = math.fsum((value - mean) ** 2 for value in self.by_seed.values())
        return math.sqrt(squares / (self.seeds - 1) / self.seeds)


@dataclass(frozen=True)
class _Extreme(ABC):
    """The one of several effects that lies furthest to one side, and is so estimated by theirs."""

    effects: Sequence[Effect]

    @property
    def mean(self) -> float:
        return self.decisive.mean

    @property
    @abstractmethod
    def decisive(self) -> Measured: ...

    def parts(self) -> list[Measured]:
        return [part for effect in self.effects for part in effect.parts()]


class Least(_Extreme):
    """The least of several effects.

    It is above a limit only if every one of them is: its lower bound is the least of theirs, each
    with the whole `tail` (an intersection-union test). It is below a limit as soon as one of them
    is: its upper bound is the least of theirs, each with its share of `tail` (Bonferroni). The
    estimate is the least of theirs too, which errs towards low.
    """

    @property
    def decisive(self) -> Measured:
        return min((effect.decisive for effect in self.effects), key=_mean)

    def low(self, tail: float) -> float:
        return min(effect.low(tail) for effect in self.effects)

    def high(self, tail: float) -> float:
        return min(effect.high(tail / len(self.effects)) for effect in self.effects)


class Greatest(_Extreme):
    """The greatest of several effects: `Least` the other way up."""

    @property
    def decisive(self) -> Measured:
        return max((effect.decisive for effect in self.effects), key=_mean)

    def low(self, tail: float) -> float:
        return max(effect.low(tail / len(self.effects)) for effect in self.effects)

    def high(self, tail: float) -> float:
        return max(effect.high(tail) for effect in self.effects)


def _mean(measured: Measured) -> float:
    return measured.mean


def _term(measured: Measured) -> str:
    return f"({measured.words})" if " minus " in measured.words else measured.words


def average(part: Part, places: Collection[Place], words: str) -> Measured:
    """The mean of several cells at each seed that all of them have. Raises MissingCellsError."""
    require(part, places)
    found = [part.cells[place].by_seed for place in places]
    common = sorted(set(found[0]).intersection(*found))
    mean = {seed: math.fsum(by_seed[seed] for by_seed in found) / len(found) for seed in common}
    run_ids = frozenset(run_id for place in places for run_id in part.cells[place].run_ids)
    return Measured(words, mean, run_ids)


def require(part: Part, places: Collection[Place]) -> None:
    """Raises MissingCellsError where one of the places has no runs."""
    missing = [part.locate(place) for place in places if place not in part.cells]
    if missing:
        raise MissingCellsError(missing)
