"""The paper's findings, each with a stated test, and the verdicts on them in the runs of a store."""

from .catalogue import CLAIMS
from .claim import Claim, Finding
from .scorecard import judge, scorecard

__all__ = ["CLAIMS", "Claim", "Finding", "judge", "scorecard"]
