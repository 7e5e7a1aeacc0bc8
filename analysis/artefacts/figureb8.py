"""Figure B.8: top-1 on CIFAR-10 by temperature and batch size, for short and for long training (App. B.9).

Each bar averages over learning rates and lengths of training. The paper's bars have no printed numbers.
"""

from collections.abc import Sequence

import pandas as pd

from ..comparison import Axis, Comparison, Part, trained, varied
from ..presentation import bar_report
from ..report import Report
from ..settings import random_encoder
from ..spread import spread_bars, spread_parts, spreads
from . import Artefact
from .figure9 import BATCH_SIZE
from .figureb7 import LR, NAMES, READING, best_run, spelt, supervised

MOST = 300
"""The most epochs of the paper's first panel."""
SHORT, LONG = f"up to {MOST} epochs", f"more than {MOST} epochs"
OVER = ["learning rate", "length"]
LENGTH = "optimizer.epochs"
TEMPERATURE = Axis(["Temperature"], ["loss.temperature"], lambda temperature: temperature)


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting with two or more temperatures."""
    result = []
    for each in comparisons(artefact, runs):
        drawn = [spread_bars(each, parts, name) for name, parts in panels(each.parts).items()]
        result.append(bar_report(each, [drawn], NOTES))
    return result


NOTES = [
    *READING,
    "A cell is missing unless it has every learning rate and length of the other cells of its panel.",
    f"The paper has one panel for up to {MOST} epochs of training and one for more, and averages over its lengths in "
    "each.",
]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    result = []
    for setting in varied(trained(runs), artefact, [BATCH_SIZE, TEMPERATURE], also=[LR, LENGTH]):
        short = setting.runs[LENGTH] <= MOST
        parts, words = [], []
        for name, chosen in ((SHORT, setting.runs[short]), (LONG, setting.runs[~short])):
            found = spreads(chosen, BATCH_SIZE, TEMPERATURE, [LR, LENGTH])
            if found:
                parts += spread_parts(found, BATCH_SIZE, TEMPERATURE, OVER, name)
                words.append(f"{name}: {spelt(chosen, LENGTH)}")
            else:
                words.append(f"{name}: not run")
        if not parts or setting.runs["loss.temperature"].nunique() < 2:
            continue
        text = (
            f"Means over learning rates ({spelt(setting.runs, LR)}) and lengths of training ({'; '.join(words)}). "
            "Error bars: their standard deviation, not an interval over seeds. "
            f"{best_run(setting.runs, list(NAMES))}"
        )
        random, references = random_encoder(runs, setting), supervised(runs, setting)
        result.append(Comparison(artefact, setting, parts, random, text, references=references))
    return result


def panels(parts: Sequence[Part]) -> dict[str, list[Part]]:
    """The three tables of each panel that was run, by its name."""
    names = [name for name in (SHORT, LONG) if any(part.name.startswith(name) for part in parts)]
    return {name: [part for part in parts if part.name.startswith(name)] for name in names}
