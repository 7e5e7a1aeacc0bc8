"""A claim of the paper, and the verdict on it in one setting."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from simclr_ablate.looks import LOOKS
from simclr_ablate.terminal import count

from ..artefacts import ARTEFACTS, Artefact
from ..comparison import Comparison, Part
from ..own import OwnArtefact
from ..statistics import CONFIDENCE
from .effects import (
    Differences,
    Effect,
    Extreme,
    Measured,
    MissingCellsError,
    combined,
    decision,
    p_value,
)
from .looks import Looked, seeds_to_decide

Verdict = Literal["confirmed", "refuted", "undecided", "not run"]
TAIL = (1 - CONFIDENCE) / 2
"""The risk of a false confirmation, and that of a false refutation, of one finding at its limit."""


@dataclass(frozen=True)
class Claim:
    """A finding of the paper that runs can confirm or refute.

    name: a slug. statement: one sentence. source: where the paper says it. artefacts: the names in ARTEFACTS of those
    that it rests on. estimate: what is estimated, and from which cells, in words. differences: makes the numbers that
    it rests on from the tables of a comparison; raises MissingCellsError. extremes: which of several differences
    counts, outermost group first. limit: in `unit`; the claim holds if the effect is above it, or, with `below`, if it
    is below it. own: the artefact that it belongs to, if it is the user's own.
    """

    name: str
    statement: str
    source: str
    artefacts: tuple[str, ...]
    estimate: str
    differences: Callable[[Sequence[Part]], Differences] = field(repr=False, compare=False)
    extremes: tuple[type[Extreme], ...] = ()
    limit: float = 0.0
    below: bool = False
    unit: str = "points"
    own: OwnArtefact | None = None

    @property
    def of_paper(self) -> bool:
        """Whether it is a finding of the paper."""
        return self.own is None

    @property
    def shown_by(self) -> list[Artefact]:
        """The artefacts that it rests on."""
        return [ARTEFACTS[name] for name in self.artefacts] if self.own is None else [self.own]

    @property
    def test(self) -> str:
        """What is estimated, and what decides the verdict, in words."""
        return (
            f"{self.estimate} {decision(self.extremes, self.limit, self.below, self.unit)}".rstrip()
        )

    def effect(self, parts: Sequence[Part]) -> Effect:
        """The effect in the tables of a comparison. Raises MissingCellsError."""
        return combined(self.extremes, self.differences(parts))

    def verdict(self, low: float, high: float) -> Verdict:
        """The verdict for an effect with the interval [low, high]: decided if all of it lies on one side."""
        if low <= self.limit <= high:
            return "undecided"
        return "confirmed" if (low > self.limit) != self.below else "refuted"


@dataclass(frozen=True)
class Finding:
    """A claim in one setting.

    setting, label: descriptions of the setting and of its data; empty if there are no runs. effect, low, high: the
    estimate and the ends of its 95% interval; NaN if unknown. seeds: the fewest that any of its differences has.
    reason: what led to the verdict, what would decide it, or what was not run. run_ids: all runs that it rests on. p:
    the one-sided p-value on the side of the effect; NaN without an interval. holm: whether the verdict also holds with
    Holm's correction for the number of findings (multiplicity.py). looks: how many of the looks there were, if results
    said how many seeds there should be (looks.py); 0: its interval is that of one look alone. decides_at: the number of
    seeds that is expected to decide it, if one is. at_seeds: the seeds that all of its differences have; runs by
    which something was chosen have others.
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
    p: float = math.nan
    holm: bool = False
    looks: int = 0
    decides_at: int | None = None
    at_seeds: tuple[int, ...] = ()

    @property
    def tested(self) -> bool:
        """Whether it has an interval, which may have decided it."""
        return not math.isnan(self.low)


def find(claim: Claim, comparison: Comparison, looked_at: Collection[str] = frozenset()) -> Finding:
    """The finding on a claim in one setting.

    It is not run if a cell is missing. It is undecided if a difference has no interval: fewer than two seeds, or the
    same value at every seed.

    looked_at: the ids of runs whose results said how many seeds there should be. A finding that rests on one of them
    has been looked at since it had three seeds.
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
        nothing,
        verdict="undecided",
        effect=effect.mean if seeds else math.nan,
        seeds=seeds,
        run_ids=run_ids,
        at_seeds=tuple(sorted(set(numbers[0].by_seed).intersection(*(n.by_seed for n in numbers)))),
    )
    without = next((number for number in numbers if not number.scatters), None)
    seen: Effect = effect
    if not frozenset(run_ids).isdisjoint(looked_at):
        if seeds < LOOKS[0]:
            reason = f"{count(seeds, 'seed')}: the first look is at {LOOKS[0]}."
            return replace(estimated, reason=reason)
        seen = Looked(effect)
        without = None if seen.has_interval else without
        estimated = replace(estimated, looks=len(seen.looks), effect=seen.mean)
    found, reason = estimated, "" if without is None else _no_interval(without)
    if without is None:
        low, high = seen.low(TAIL), seen.high(TAIL)
        if low > high:
            reason = f"{seen.decisive.words}: the intervals of two looks exclude each other."
            return replace(estimated, reason=f"{reason} {_look(estimated)}")
        verdict, p = claim.verdict(low, high), p_value(seen, claim.limit)
        found = replace(estimated, verdict=verdict, low=low, high=high, p=p)
        reason = _reason(claim, seen, verdict)
    if found.verdict == "undecided":
        ahead = seeds_to_decide(effect, TAIL, lambda *ends: claim.verdict(*ends) != "undecided")
        found = replace(found, decides_at=ahead)
        reason = f"{reason} {what_would_decide(found)}"
    return replace(found, reason=f"{reason} {_look(found)}".rstrip())


def unrun(claim: Claim, reason: str) -> Finding:
    """The finding on a claim that no runs belong to, with the reason."""
    return replace(_nothing(claim, "", ""), reason=reason)


def what_would_decide(finding: Finding) -> str:
    """What would decide a finding whose cells all have runs, in one sentence."""
    if finding.seeds < 2:
        return "An interval needs two seeds or more."
    if finding.decides_at is None:
        return f"If means and scatter stay as they are, even {LOOKS[-1]} seeds would not decide it."
    return f"If means and scatter stay as they are, {finding.decides_at} seeds would decide it."


def _nothing(claim: Claim, setting: str, label: str) -> Finding:
    return Finding(
        claim=claim,
        setting=setting,
        label=label,
        verdict="not run",
        effect=math.nan,
        low=math.nan,
        high=math.nan,
        unit=claim.unit,
        seeds=0,
        reason="",
    )


def _no_interval(number: Measured) -> str:
    if not number.seeds:
        return f"{number.words}: no seed that all cells have."
    if number.seeds < 2:
        return f"{number.words}: {count(number.seeds, 'seed')}, so there is no interval."
    return f"{number.words}: the same value at every seed, so there is no interval."


def _missing(needed: Sequence[str], most: int = 4) -> str:
    more = f"; and {len(needed) - most} more" if len(needed) > most else ""
    return f"No finished runs of: {'; '.join(needed[:most])}{more}."


def _look(finding: Finding) -> str:
    """Which look it was, if there may be several."""
    if not finding.looks:
        return ""
    return f"Look {finding.looks} of {len(LOOKS)}, at {LOOKS[finding.looks - 1]} seeds."


def _reason(claim: Claim, effect: Effect, verdict: Verdict) -> str:
    limit = f"the margin of {claim.limit:g}" if claim.limit else "0"
    others = len(effect.measured())
    among = f" (the decisive one of {others} differences)" if others > 1 else ""
    what = f"{effect.decisive.words}{among}: the interval"
    if verdict == "undecided":
        return f"{what} contains {limit}."
    above = (verdict == "confirmed") != claim.below
    return f"{what} is {'above' if above else 'below'} {limit}."
