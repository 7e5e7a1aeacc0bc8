"""Table B.5: linear evaluation and fine-tuning on other data sets, of the encoder of standard width; see Table 8."""

import pandas as pd

from ..comparison import Comparison
from ..report import Report
from . import Artefact
from .table8 import report, transfer

KEY = "tableB5_transfer_resnet50_1x"


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which an encoder of standard width was evaluated on other data."""
    return [report(each) for each in comparisons(artefact, runs)]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    return transfer(artefact, runs, KEY, lambda width: width == 1)
