"""Looking at an effect again and again while seeds are added, without being fooled more often for it.

There are five looks, each when all numbers of an effect have so many seeds, and each has a fifth of the error that one
look alone would have. By the union bound, the intervals of all looks hold the true value together, however much they
depend on one another and whatever made somebody go on or stop. So their intersection is an interval, and a verdict
that one look has given stays. Seeds beyond the last look that is reached are not used before the next one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from simclr_ablate.looks import LOOKS

from .effects import Effect, Extreme, Measured, Student


@dataclass(frozen=True)
class Looked:
    """An effect that has been looked at since its numbers had three seeds. whole: at all seeds, three or more."""

    whole: Effect

    @cached_property
    def looks(self) -> list[Effect]:
        """The effect as each look saw it."""
        seeds = fewest_seeds(self.whole)
        return [first_seeds(self.whole, look) for look in LOOKS if look <= seeds]

    @property
    def has_interval(self) -> bool:
        """Whether some look has an interval; one at which a number is the same at every seed has none."""
        return bool(self._telling)

    @property
    def mean(self) -> float:
        return self.looks[-1].mean

    @property
    def decisive(self) -> Measured:
        return self.looks[-1].decisive

    def low(self, tail: float) -> float:
        return max(look.low(tail / len(LOOKS)) for look in self._telling)

    def high(self, tail: float) -> float:
        return min(look.high(tail / len(LOOKS)) for look in self._telling)

    def p(self, limit: float, above: bool) -> float:
        return min(1.0, len(LOOKS) * min(look.p(limit, above) for look in self._telling))

    def measured(self) -> list[Measured]:
        return self.whole.measured()

    @cached_property
    def _telling(self) -> list[Effect]:
        return [look for look in self.looks if all(each.scatters for each in look.measured())]


def seeds_to_decide(
    effect: Effect, tail: float, decided: Callable[[float, float], bool]
) -> int | None:
    """The first look ahead that is expected to decide, or None if none of them is.

    It is expected to if the numbers keep their means and their scatter, which a few seeds tell only roughly. decided:
    whether an interval, from low to high, decides.
    """
    if not all(number.scatters for number in effect.measured()):
        return None
    seeds, share = fewest_seeds(effect), tail / len(LOOKS)

    def decides(look: int) -> bool:
        ahead = _at(effect, look)
        return decided(ahead.low(share), ahead.high(share))

    # Each interval lies within the one before it, so without the last look no other decides.
    if seeds >= LOOKS[-1] or not decides(LOOKS[-1]):
        return None
    return next(look for look in LOOKS if look > seeds and decides(look))


def fewest_seeds(effect: Effect) -> int:
    """The fewest seeds that a number of the effect has."""
    return min(number.seeds for number in effect.measured())


def first_seeds(effect: Effect, seeds: int) -> Effect:
    """The effect at the first `seeds` seeds of each of its numbers; which those are does not depend on any result."""

    def first(number: Measured) -> Measured:
        chosen = {seed: number.by_seed[seed] for seed in sorted(number.by_seed)[:seeds]}
        return Measured(number.words, chosen, number.run_ids)

    return _mapped(effect, first)


@dataclass(frozen=True)
class _Expected(Student):
    """A measured number as it would be at the seeds of a `look`, with the mean and the scatter that it has now."""

    number: Measured
    look: int

    @property
    def seeds(self) -> int:
        return self.look

    @property
    def mean(self) -> float:
        return self.number.mean

    @property
    def deviation(self) -> float:
        return self.number.deviation

    @property
    def decisive(self) -> Measured:
        return self.number

    def measured(self) -> list[Measured]:
        return [self.number]


def _at(effect: Effect, seeds: int) -> Effect:
    return _mapped(effect, lambda number: _Expected(number, seeds))


def _mapped(effect: Effect, change: Callable[[Measured], Effect]) -> Effect:
    """The effect with each of its measured numbers changed."""
    if isinstance(effect, Measured):
        return change(effect)
    assert isinstance(effect, Extreme)
    inner: Sequence[Effect] = [_mapped(each, change) for each in effect.effects]
    return type(effect)(inner)
