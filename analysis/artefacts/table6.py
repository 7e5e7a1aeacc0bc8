"""Table 6: linear evaluation by SGD after long training, by width of the encoder, beside other methods' numbers.

The other methods' numbers are the paper's, and are shown as such.
"""

from dataclasses import replace
from typing import Any

import pandas as pd

from simclr_ablate.terminal import count

from .. import paper
from ..comparison import Axis, Comparison, Part, Place, cells, constant, free_keys
from ..comparison import trained as finished
from ..encoders import (
    ENCODERS,
    IMAGENET,
    baseline,
    difference,
    label_of,
    method_name,
    millions_of,
    pretrained_for,
    size_order,
    sized,
    with_imported,
)
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import Setting, matching, settings
from ..statistics import Accuracies
from . import Artefact

KEY = "table6_linear_eval_sota"
METHODS = {"contrastive": "SimCLR", "supervised": "Supervised", "none": "Random encoder"}
SIMCLR, SUPERVISED, RANDOM = METHODS.values()
TOP1, TOP5 = "Top-1 (%)", "Top-5 (%)"
METRICS = {TOP1: "top1", TOP5: "top5"}


def _name(objective: str, architecture: str, width: int, label: str | None) -> tuple[str, str]:
    return method_name(METHODS, objective, label), label_of(architecture, width)


def _order(row: Any) -> tuple[int, str, tuple[int, int]]:
    """SimCLR first, then imported encoders by name."""
    method, encoder = row
    place = [SIMCLR, "", SUPERVISED, RANDOM]
    known = method in METHODS.values()
    return place.index(method if known else ""), "" if known else method, size_order(encoder)


ROWS = Axis(
    ["Method", "Architecture"],
    ["objective", *ENCODERS.keys, "encoder.label"],
    _name,
    order=_order,
)

NOTES = [
    "Other methods’ numbers are published ones, from the paper’s table: nothing of them was run here. Their encoders "
    "differ, as the paper’s table says.",
    "Parameters are those of the encoder f, without heads and classifiers. Ours are counted.",
    "The paper’s encoders were trained for 1000 epochs.",
    "Imported, supervised and random encoders are not in the paper’s table. Supervised is in its Figure 1.",
]


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which SimCLR's encoders were evaluated by SGD."""
    return [_report(each) for each in comparisons(artefact, runs)]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    result = []
    for setting in evaluated(artefact, runs):
        beside, remark = companions(artefact, runs, setting)
        together = pd.concat([setting.runs, *beside])
        whole = replace(setting, runs=together)
        columns = constant(TOP1, list(METRICS))
        measured: dict[Place, Accuracies] = {}
        for name, metric in METRICS.items():
            measured |= cells(together, ROWS, constant(name), metric)
        part = Part(
            name="",
            rows=ROWS,
            columns=columns,
            cells=measured,
            paper=published(),
            quantity="",
            untested=[TOP1, TOP5],
            unranked=[TOP5],
        )
        method = f"of a linear classifier by SGD, {epochs(setting)} on crops and flips, on frozen h"
        result.append(
            Comparison(
                artefact,
                whole,
                [part],
                remark=remark,
                method=method,
                printed_on=IMAGENET,
            )
        )
    return result


def evaluated(artefact: Artefact, runs: pd.DataFrame) -> list[Setting]:
    """The settings of SimCLR's and of imported encoders that were evaluated by SGD, of one or more encoders."""
    by_sgd = runs[runs["evaluation.protocol"] == "linear_sgd"]
    free = free_keys([ENCODERS])
    simclr = settings(finished(by_sgd), artefact.name, free)
    return with_imported(artefact, simclr, finished(by_sgd, "imported"), free)


def companions(
    artefact: Artefact, runs: pd.DataFrame, setting: Setting
) -> tuple[list[pd.DataFrame], str]:
    """The supervised and the random encoders beside a setting's, and how long which were trained, in words."""
    trained_for = pretrained_for(setting)
    length = setting.config["optimizer.epochs"] if trained_for else 0
    words = [f"{trained_for}."] if trained_for else []
    free = (*free_keys([ENCODERS]), "objective")
    random = runs[(runs["objective"] == "none") & (runs["evaluation.protocol"] == "linear_sgd")]
    beside = [matching(random, setting.config, free)]
    # A supervised encoder has its own classifier, which `linear` measures.
    supervised = finished(runs, "supervised")
    its_own = supervised[supervised["evaluation.protocol"] == "linear"]
    chosen = baseline(artefact, its_own, setting, length, ["evaluation"])
    if chosen is not None:
        beside.append(chosen.runs)
        words.append(difference(setting, chosen))
    return beside, " ".join(words)


def epochs(setting: Setting) -> str:
    """The length of the classifier's training: `90 epochs`."""
    return count(setting.config["evaluation.epochs"], "epoch")


def published() -> dict[Place, float]:
    return {
        ((method, architecture), name): float("nan" if value is None else value)
        for group in paper.entries()[KEY]["groups"].values()
        for method, architecture, _, *values in group
        for name, value in zip(METRICS, values, strict=True)
    }


def published_millions() -> dict[tuple[str, ...], float]:
    """The parameters of the paper's encoders, in millions, by method and architecture."""
    groups = paper.entries()[KEY]["groups"].values()
    return {(method, name): float(size) for group in groups for method, name, size, *_ in group}


def _report(comparison: Comparison) -> Report:
    """The report, with the parameters in its tables and data."""
    (part,) = comparison.parts
    drawn = [[panel] for panel in bars(comparison, part.only(TOP1))]
    made = bar_report(comparison, drawn, NOTES)
    ours, theirs = made.tables
    sizes = millions_of(comparison.setting.runs, ROWS)
    printed = published_millions()
    data = made.data.assign(
        parameters_millions=made.data["row"].map({" ".join(k): v for k, v in sizes.items()}),
        paper_parameters_millions=made.data["row"].map(
            {" ".join(k): v for k, v in printed.items()}
        ),
    )
    theirs = replace(theirs, title=f"{IMAGENET}, published numbers")
    tables = [sized(ours, sizes), sized(theirs, printed, digits=0)]
    return replace(made, tables=tables, data=data)
