"""Many findings at once: Holm's correction against the definition that it abbreviates, and what to expect by chance."""

import itertools
import math

import numpy as np
import pytest

from analysis.claims import CLAIMS, Finding
from analysis.claims.multiplicity import by_chance, corrected, number_tested

RISK = 0.025


def finding(verdict, p=math.nan, low=0.1):
    low = math.nan if verdict == "not run" else low
    effect = (1.0, low, 2.0, "points", 3, "r")
    return Finding(CLAIMS[0], "s", "l", verdict, *effect, p=p)


def closed(p):
    """Which hypotheses Bonferroni's test rejects in every intersection that they are part of: Holm's, by definition."""
    every = range(len(p))
    subsets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(every, size)]
    kept = [s for s in subsets if min(p[place] for place in s) > RISK / len(s)]
    return [not any(place in s for s in kept) for place in every]


@pytest.mark.parametrize("verdict", ["confirmed", "refuted"])
@pytest.mark.parametrize("scale", [0.003, 0.01, 0.03])
def test_holm_is_the_closure_of_bonferroni(verdict, scale):
    generator = np.random.default_rng()
    other = {"confirmed": "refuted", "refuted": "confirmed"}[verdict]
    for _ in range(20):
        p = generator.exponential(scale, 8).clip(max=0.5)
        # To this side's tests, what was decided on the other side is a large p-value.
        opposite = generator.random(8) < 0.3
        findings = [
            finding("undecided" if each > RISK else other if turned else verdict, each)
            for each, turned in zip(p, opposite, strict=True)
        ]
        own = [each if f.verdict == verdict else 0.9 for each, f in zip(p, findings, strict=True)]
        found = [f.holm and f.verdict == verdict for f in corrected(findings)]
        assert found == closed(own)


def test_what_was_not_tested_corrects_nothing():
    untested = [finding("not run"), finding("undecided", low=math.nan)] * 20
    (one, *rest) = corrected([finding("confirmed", 0.02), *untested])
    assert one.holm
    assert not any(each.holm for each in rest)
    assert number_tested([one, *rest]) == 1
    two = corrected([finding("confirmed", 0.02), finding("undecided", 0.2)])
    assert not any(each.holm for each in two)


def test_one_in_forty_is_expected_by_chance():
    findings = [finding(verdict, 0.02) for verdict in ("confirmed", "refuted", "undecided")] * 40
    assert by_chance([*findings, *[finding("not run")] * 99]) == pytest.approx(3)
