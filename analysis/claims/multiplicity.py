"""Many findings at once: how many verdicts to expect by chance, and which hold with a correction for their number."""

from collections.abc import Sequence
from dataclasses import replace

from .claim import TAIL, Finding


def number_tested(findings: Sequence[Finding]) -> int:
    """How many findings have an interval; each counts in every setting."""
    return sum(finding.tested for finding in findings)


def by_chance(findings: Sequence[Finding]) -> float:
    """How many false confirmations to expect at most: as many as if every finding that was tested were at its limit.

    As many false refutations are to be expected at most.
    """
    return TAIL * number_tested(findings)


def corrected(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, with `holm` set on those whose verdict holds with Holm's correction (Holm, 1979).

    Confirmations and refutations are two families of as many one-sided tests as there are findings that were tested.
    In each, the risk of even one false verdict is at most TAIL, however the findings depend on each other; so both
    together have the 5% of one interval.
    """
    number, holding = number_tested(findings), set()
    for verdict in ("confirmed", "refuted"):
        own = [place for place, each in enumerate(findings) if each.verdict == verdict]
        for before, place in enumerate(sorted(own, key=lambda place: findings[place].p)):
            if findings[place].p > TAIL / (number - before):
                break
            holding.add(place)
    return [replace(each, holm=place in holding) for place, each in enumerate(findings)]
