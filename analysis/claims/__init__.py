"""The paper's findings, each with a stated test, and the verdicts on them in the runs of a store."""

from analysis.claims.catalogue import CLAIMS
from analysis.claims.claim import Claim, Finding
from analysis.claims.scorecard import judge, scorecard

__all__ = ["CLAIMS", "Claim", "Finding", "judge", "scorecard"]
