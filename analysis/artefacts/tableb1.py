"""Table B.1: batch size and length of training, with linear and square-root learning rate scaling.

The two rules are compared only if their learning rates are equal at one of the batch sizes, as the paper's are at 4096.
"""

import math

import pandas as pd

from .. import paper
from ..comparison import Comparison, Part, cells, free_keys, trained, varied
from ..presentation import map_report
from ..report import Report
from ..settings import Setting, pairs, random_encoder
from ..statistics import Accuracies, margin
from . import Artefact
from .figure9 import BATCH_SIZE, EPOCHS

RULES = {"linear": "linear", "sqrt": "square root"}
RULE_FREE = ("optimizer.lr_rule", "optimizer.lr")


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting that has both rules."""
    return [map_report(each, NOTES) for each in comparisons(artefact, runs)]


NOTES = ["The paper’s two learning rates, 0.3 B / 256 and 0.075 √B, are equal at B = 4096."]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    finished, axes = trained(runs), [BATCH_SIZE, EPOCHS]
    linear, sqrt = (
        varied(finished[finished["optimizer.lr_rule"] == rule], artefact, axes) for rule in RULES
    )
    result = []
    for setting in pairs(artefact.name, linear, sqrt, free_keys(axes, RULE_FREE), "sqrt", meet):
        parts = [part(rule, setting.runs) for rule in RULES]
        random = random_encoder(runs, setting)
        result.append(Comparison(artefact, setting, parts, random, remark(*parts)))
    return result


def part(rule: str, runs: pd.DataFrame) -> Part:
    """The table of one rule, at the lengths that were run with the square root. Figure 9 has linear's other lengths."""
    rules = runs["optimizer.lr_rule"]
    lengths = set(runs["optimizer.epochs"][rules == "sqrt"])
    chosen = runs[(rules == rule) & runs["optimizer.epochs"].isin(lengths)]
    measured = cells(chosen, BATCH_SIZE, EPOCHS)
    return Part(RULES[rule], BATCH_SIZE, EPOCHS, measured, paper.cells("tableB1_lr_scaling", rule))


def meet(linear: Setting, sqrt: Setting) -> bool:
    """Whether lr B / 256 and lr' √B are equal at a batch size B of both settings."""
    equal_at = (256 * sqrt.config["optimizer.lr"] / linear.config["optimizer.lr"]) ** 2
    sizes = [set(setting.runs["optimizer.batch_size"]) for setting in (linear, sqrt)]
    return any(math.isclose(equal_at, size, rel_tol=1e-6) for size in set.intersection(*sizes))


def remark(linear: Part, sqrt: Part) -> str:
    """How many cells are clearly better or worse with the square root, in words."""
    common = [place for place in linear.places if place in linear.cells and place in sqrt.cells]
    ahead = [difference(sqrt.cells[place], linear.cells[place]) for place in common]
    return (
        f"The square root is clearly better (95% margin) in {ahead.count(1)} and clearly worse in "
        f"{ahead.count(-1)} of the {len(common)} cells that both have."
    )


def difference(sample: Accuracies, other: Accuracies) -> int:
    """1 if the sample is clearly above the other, -1 if it is clearly below, else 0."""
    gap = sample.estimate().mean - other.estimate().mean
    return int(math.copysign(1, gap)) if abs(gap) > margin(sample, other) else 0
