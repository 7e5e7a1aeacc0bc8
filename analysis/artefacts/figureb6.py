"""Figure B.6: training on few labels against linear evaluation, over encoders; see Figure B.5."""

import pandas as pd

from ..comparison import Comparison
from ..encoders import ENCODERS
from ..report import Report
from . import Artefact
from .figureb5 import correlated, correlation_report


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting with three or more encoders."""
    return [correlation_report(each) for each in comparisons(artefact, runs)]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    return correlated(artefact, runs, ENCODERS)
