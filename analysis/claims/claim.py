"""A claim of the paper, and the verdict on it in one setting."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from analysis.claims.effects import (
    Differences,
    Effect,
    Extreme,
    Measured,
    MissingCellsError,
    combined,
    decision,
)
from analysis.comparison import Comparison, Part
from analysis.statistics import CONFIDENCE
from simclr_ablate.terminal import count

Verdict = Literal["confirmed", "refuted", "undecided"]
TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True)
class Claim:
    """A finding of the paper that runs can confirm or refute.

    name: a slug. statement: one sentence. source: where the paper says it. artefacts: the names in ARTEFACTS of those
    that it rests on. estimate: what is estimated, and from which cells, in words. differences: makes the numbers that
    it rests on from the tables of a comparison; raises MissingCellsError. extremes: which of several differences
    counts, outermost group first. margin: in points; the claim holds if the effect is below it, or, without a margin,
    above 0.
    """

    name: str
    statement: str
    source: str
    artefacts: tuple[str, ...]
    estimate: str
    differences: Callable[[Sequence[Part]], Differences] = field(repr=False, compare=False)
    extremes: tuple[type[Extreme], ...] = ()
    margin: float | None = None

    @property
    def test(self) -> str:
        """What is estimated, and what decides the verdict, in words."""
        return f"{self.estimate} {decision(self.extremes, self.margin)}".rstrip()

    def effect(self, parts: Sequence[Part]) -> Effect:
        """The effect in the tables of a comparison. Raises MissingCellsError."""
        return combined(self.extremes, self.differences(parts))

    @property
    def limit(self) -> float:
        """The value between the claim's side and the other, in points."""
        return 0.0 if self.margin is None else self.margin

    def verdict(self, low: float, high: float) -> Verdict:
        """The verdict for an effect with the interval [low, high]: decided if all of it lies on one side."""
        if low <= self.limit <= high:
            return "undecided"
        return "confirmed" if (low > self.limit) == (self.margin is None) else "refuted"


@dataclass(frozen=True)
class Finding:
    """A claim in one setting.

    setting, label: descriptions of the setting and of its data; empty if there are no runs. effect, low, high: the
    estimate and the ends of its 95% interval; NaN if unknown. seeds: the fewest that any of its differences has.
    reason: what led to the verdict, in one sentence. run_ids: all runs that it rests on.
    """

    claim: Claim
    setting: str
    label: str
    verdict: Verdict
    effect: float
    low: float
    high: float
    unit: str
    seeds: int
    reason: str
    run_ids: tuple[str, ...] = ()


def find(claim: Claim, comparison: Comparison) -> Finding:
    """The finding on a claim in one setting.

    It is undecided if a cell is missing, or if a difference has no interval: fewer than two seeds, or the same value
    at every seed.
    """
    nothing = _nothing(claim, comparison.setting.description, comparison.setting.label)
    try:
        effect = claim.effect([*comparison.parts, *comparison.behind])
    except MissingCellsError as missing:
        return replace(nothing, reason=_missing(missing.needed))
    numbers = effect.measured()
    seeds = min(number.seeds for number in numbers)
    run_ids = tuple(sorted(frozenset().union(*(number.run_ids for number in numbers))))
    estimated = replace(
        nothing, effect=effect.mean if seeds else math.nan, seeds=seeds, run_ids=run_ids
    )
    without = next((number for number in numbers if not number.scatters), None)
    if without is not None:
        return replace(estimated, reason=_no_interval(without))
    low, high = effect.low(TAIL), effect.high(TAIL)
    verdict = claim.verdict(low, high)
    reason = _reason(claim, effect, verdict)
    return replace(estimated, verdict=verdict, low=low, high=high, reason=reason)


def unrun(claim: Claim, reason: str) -> Finding:
    """The finding on a claim that no runs belong to, with the reason."""
    return replace(_nothing(claim, "", ""), reason=reason)


def _nothing(claim: Claim, setting: str, label: str) -> Finding:
    return Finding(
        claim=claim,
        setting=setting,
        label=label,
        verdict="undecided",
        effect=math.nan,
        low=math.nan,
        high=math.nan,
        unit="points",
        seeds=0,
        reason="",
    )


def _no_interval(number: Measured) -> str:
    if number.seeds < 2:
        return f"{number.words}: {count(number.seeds, 'seed')}; an interval needs two or more."
    return f"{number.words}: the same value at every seed, so there is no interval."


def _missing(needed: Sequence[str], most: int = 4) -> str:
    more = f"; and {len(needed) - most} more" if len(needed) > most else ""
    return f"No finished runs of: {'; '.join(needed[:most])}{more}."


def _reason(claim: Claim, effect: Effect, verdict: Verdict) -> str:
    limit = f"the margin of {claim.margin:g}" if claim.margin is not None else "0"
    above = (verdict == "confirmed") == (claim.margin is None)
    where = f"the interval is {'above' if above else 'below'} {limit}"
    if verdict == "undecided":
        where = f"the interval contains {limit}"
    others = len(effect.measured())
    among = f" (the decisive one of {others} differences)" if others > 1 else ""
    return f"{effect.decisive.words}{among}: {where}."
