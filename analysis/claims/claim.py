"""A claim of the paper, and what becomes of it in one setting."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from analysis.claims.effects import Effect, MissingCellsError
from analysis.comparison import Comparison, Part
from analysis.settings import count
from analysis.statistics import CONFIDENCE

Verdict = Literal["confirmed", "refuted", "undecided"]
TAIL = (1 - CONFIDENCE) / 2


@dataclass(frozen=True)
class Claim:
    """A finding of the paper that runs can confirm or refute.

    name: a slug. statement: one sentence. source: where the paper says it. artefacts: names in
    ARTEFACTS whose cells it rests on. test: what is estimated, and from which cells, in words.

    effect: what is estimated, from the tables of a comparison; raises MissingCellsError. The claim holds
    where this is above 0, or with a `margin` where it is below that, in points.
    """

    name: str
    statement: str
    source: str
    artefacts: tuple[str, ...]
    test: str
    effect: Callable[[Sequence[Part]], Effect]
    margin: float | None = None

    def verdict(self, low: float, high: float) -> Verdict:
        """By the interval of its effect: decided where the whole of it lies on one side."""
        limit = 0.0 if self.margin is None else self.margin
        if low <= limit <= high:
            return "undecided"
        return "confirmed" if (low > limit) == (self.margin is None) else "refuted"


@dataclass(frozen=True)
class Finding:
    """A claim in one setting.

    setting, label: of the setting and of its data; empty where there are no runs. effect: estimated,
    with the ends of its 95% interval; NaN where there is none. seeds: behind it, the fewest of its
    comparisons. reason: of the verdict, one sentence.
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


def find(claim: Claim, comparison: Comparison) -> Finding:
    """What becomes of the claim in one setting.

    Undecided wherever a cell is missing, where a comparison has fewer than two seeds, and where one
    is the same at every seed, which tells no interval.
    """
    try:
        effect = claim.effect(comparison.parts)
    except MissingCellsError as lacking:
        return _undecided(claim, comparison, _lacking(lacking.needed))
    parts = effect.parts()
    seeds = min(part.seeds for part in parts)
    mean = effect.mean if seeds else math.nan
    for part in parts:
        if part.seeds < 2:
            text = f"{count(part.seeds, 'seed')} in {part.words}; an interval takes two or more."
            return _undecided(claim, comparison, text, mean, seeds)
        if not part.scatters:
            text = f"{part.words} is the same at every seed, which tells no interval."
            return _undecided(claim, comparison, text, mean, seeds)
    low, high = effect.low(TAIL), effect.high(TAIL)
    verdict = claim.verdict(low, high)
    reason = _reason(claim, effect, verdict)
    setting = comparison.setting
    return Finding(
        *(claim, setting.description, setting.label, verdict, mean, low, high, "points"),
        *(seeds, reason),
    )


def unrun(claim: Claim, commands: Sequence[str]) -> Finding:
    """The claim where no runs belong to it. `commands` make them."""
    reason = f"No finished runs. Make them with: {' and '.join(commands)}"
    nothing = (math.nan,) * 3
    return Finding(claim, "", "", "undecided", *nothing, "points", 0, reason)


def _undecided(
    claim: Claim, comparison: Comparison, reason: str, mean: float = math.nan, seeds: int = 0
) -> Finding:
    setting = comparison.setting
    interval = (math.nan, math.nan)
    return Finding(
        *(claim, setting.description, setting.label, "undecided", mean, *interval, "points"),
        *(seeds, reason),
    )


def _lacking(needed: Sequence[str], most: int = 4) -> str:
    more = f"; and {len(needed) - most} more" if len(needed) > most else ""
    return f"No finished runs of: {'; '.join(needed[:most])}{more}."


def _reason(claim: Claim, effect: Effect, verdict: Verdict) -> str:
    limit = f"the margin of {claim.margin:g}" if claim.margin is not None else "0"
    above = (verdict == "confirmed") == (claim.margin is None)
    where = f"the interval is {'above' if above else 'below'} {limit}"
    if verdict == "undecided":
        where = f"the interval holds {limit}"
    others = len(effect.parts())
    among = f" (of {others} differences, the decisive one)" if others > 1 else ""
    return f"{effect.decisive.words}{among}: {where}."
