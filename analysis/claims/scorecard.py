"""All claims in all settings."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import pandas as pd

from ..absence import absence
from ..artefacts import ARTEFACTS
from ..command_line import store_of
from ..comparison import Comparison
from ..own import own_artefacts
from .catalogue import CLAIMS
from .claim import Claim, Finding, find, unrun
from .multiplicity import corrected
from .own import claims_of


def scorecard(runs: pd.DataFrame) -> list[Finding]:
    """The findings on every claim in `runs` (see `analysis.load`), claim by claim; the user's own come last.

    A claim has one finding for each setting of its artefacts. Settings that lack cells are left out if another one on
    the same data is complete. A claim without runs has one finding, with an empty setting.
    """
    own = own_artefacts(store_of(runs))
    claims = [*CLAIMS, *(claim for each in own.values() for claim in claims_of(each))]
    names = dict.fromkeys(name for claim in claims for name in claim.artefacts)
    artefacts = [({**ARTEFACTS, **own})[name] for name in names]
    comparisons = {each.name: each.comparisons(runs) for each in artefacts}
    absences = {each.name: absence(each, runs) for each in artefacts if not comparisons[each.name]}
    looked_at = frozenset(runs["run_id"][runs["looked_at"]])
    return judge(comparisons, absences, looked_at, claims)


def judge(
    comparisons: Mapping[str, Sequence[Comparison]],
    absences: Mapping[str, str] = MappingProxyType({}),
    looked_at: Collection[str] = frozenset(),
    claims: Sequence[Claim] = CLAIMS,
) -> list[Finding]:
    """The scorecard, from the comparisons of each artefact that `claims` rest on.

    absences: by artefact, why it has no comparison. looked_at: see `find`.
    """
    return corrected(
        [
            finding
            for claim in claims
            for finding in of_claim(claim, comparisons, absences, looked_at)
        ]
    )


def of_claim(
    claim: Claim,
    comparisons: Mapping[str, Sequence[Comparison]],
    absences: Mapping[str, str],
    looked_at: Collection[str] = frozenset(),
) -> list[Finding]:
    """The findings on one claim in every setting."""
    every = [comparison for name in claim.artefacts for comparison in comparisons[name]]
    if not every:
        reasons = dict.fromkeys(absences.get(name, "") for name in claim.artefacts)
        return [unrun(claim, " ".join(filter(None, reasons)))]
    by_label: dict[str, list[Comparison]] = {}
    for comparison in every:
        by_label.setdefault(comparison.setting.label, []).append(comparison)
    return [finding for group in by_label.values() for finding in _telling(claim, group, looked_at)]


def _telling(
    claim: Claim, comparisons: Sequence[Comparison], looked_at: Collection[str]
) -> list[Finding]:
    """The findings on one data set that have an effect, each once.

    If there are none, it is the one with the most cells among those that are run, or among all. Comparisons that differ
    only in cells that the claim does not rest on give the same runs, and so the same finding.
    """
    fullest = sorted(comparisons, key=_size, reverse=True)
    findings = [find(claim, comparison, looked_at) for comparison in fullest]
    by_runs: dict[tuple[str, ...], Finding] = {}
    for finding in findings:
        if finding.seeds:
            by_runs.setdefault(finding.run_ids, finding)
    return list(by_runs.values()) or sorted(findings, key=_not_run)[:1]


def _not_run(finding: Finding) -> bool:
    return finding.verdict == "not run"


def _size(comparison: Comparison) -> int:
    return sum(len(part.cells) for part in comparison.parts)
