"""Table 8: linear evaluation and fine-tuning on other data sets, of the wide encoder; Table B.5 has the narrow one's.

SimCLR's encoder, one trained with supervision on the same images and views, and random weights. The best of each data
set and those that a permutation test does not tell from it are bold, as in the paper.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from simclr_ablate.terminal import count

from .. import paper
from ..comparison import Axis, Comparison, Label, Part, Place, free_keys
from ..encoders import IMAGENET, OF_TRAINING, method_name, pretrained_for, with_imported
from ..examples import Rights, not_worse_than_best, p_value, rights
from ..permutation import LEVEL
from ..presentation import bar_report, bars
from ..report import Report
from ..settings import (
    Setting,
    accuracies,
    fixed_keys,
    matching,
    pairs,
    plain_values,
    settings,
    shown,
)
from ..statistics import Accuracies
from . import Artefact

KEY = "table8_transfer_resnet50_4x"
LINEAR, FINETUNED = "linear evaluation", "fine-tuned"
PARTS = {"linear": LINEAR, "finetune": FINETUNED}
PRINTED = {LINEAR: "linear", FINETUNED: "finetuned"}
METHODS = {"contrastive": "SimCLR", "supervised": "Supervised", "none": "Random init"}
SIMCLR, SUPERVISED, RANDOM = METHODS.values()
BIRDSNAP = "Birdsnap"
SETS = {
    "food101": "Food",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "birdsnap": BIRDSNAP,
    "sun397": "SUN397",
    "stanford_cars": "Cars",
    "fgvc_aircraft": "Aircraft",
    "voc2007": "VOC2007",
    "dtd": "DTD",
    "oxford_iiit_pet": "Pets",
    "caltech101": "Caltech-101",
    "flowers102": "Flowers",
}
"""The paper's names of the data sets, in its order. There is no download of Birdsnap: it is a folder of that label."""
OF_DATA = "evaluation.data"
NAMED = ("name", "label", "limit")
"""The keys of the data that name a column."""
METRICS = {"top1": "top-1", "mean_per_class": "mean per-class accuracy", "map11": "11-point mAP"}

NOTES = [
    "Bold: the best of a data set, and those that are not significantly worse (p > 0.05) by a permutation test of two "
    "models’ results on each test image, with 100,000 draws, without correction for the number of tests. The test "
    "covers the choice of test images, not that of seeds: several seeds of a model change places together. Nothing is "
    "bold if results on single images are missing.",
    "Metrics: mean per-class accuracy for Aircraft, Pets, Caltech-101 and Flowers, 11-point mAP for VOC2007, and top-1 "
    "for the rest; of VOC2007, the test is of accuracies.",
    "Supervised: an encoder that was trained on the labels of the pretraining set with SimCLR’s views. Random init: "
    "the same encoder, fine-tuned from random weights for longer, with learning rates and decays of its own.",
]


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which an encoder wider than the standard one was evaluated on other data."""
    return [report(each) for each in comparisons(artefact, runs)]


def report(comparison: Comparison) -> Report:
    panels = [[panel] for part in comparison.parts for panel in bars(comparison, part, "rows")]
    return bar_report(comparison, panels, NOTES)


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    return transfer(artefact, runs, KEY, lambda width: width > 1)


def transfer(
    artefact: Artefact, runs: pd.DataFrame, key: str, wanted: Callable[[int], bool]
) -> list[Comparison]:
    """The table in each setting. key: the paper's table. wanted: which widths of the encoder it has."""
    elsewhere = runs[runs[f"{OF_DATA}.name"].notna() & runs["encoder.width"].map(wanted)]
    free = free_keys([], [OF_DATA])
    linear, finetuned = (
        with_imported(
            artefact,
            settings(_of(elsewhere, "contrastive", protocol), artefact.name, free),
            _of(elsewhere, "imported", protocol),
            free,
        )
        for protocol in PARTS
    )
    both = pairs(artefact.name, linear, finetuned, (*free, "evaluation"), FINETUNED, alone=True)
    result = []
    for setting in both:
        runs_of = {p: _together(artefact, elsewhere, setting, p) for p in PARTS}
        found = [_part(key, protocol, together) for protocol, together in runs_of.items()]
        made = [(part, counted) for part, counted in found if part.cells]
        lines = [_lengths(setting, runs_of.values()), *(counted for _, counted in made)]
        result.append(
            Comparison(
                artefact,
                setting,
                [part for part, _ in made],
                remark="\n".join(filter(None, lines)),
                quantity="Accuracy (%)",
                method="by the metric of each data set",
                printed_on=IMAGENET,
            )
        )
    return result


def _of(runs: pd.DataFrame, objective: str, protocol: str) -> pd.DataFrame:
    return runs[(runs["objective"] == objective) & (runs["evaluation.protocol"] == protocol)]


def _together(
    artefact: Artefact, runs: pd.DataFrame, setting: Setting, protocol: str
) -> pd.DataFrame:
    """SimCLR's and imported encoders' evaluations by the protocol, and those of the encoders beside them."""
    own = setting.runs[setting.runs["evaluation.protocol"] == protocol]
    if own.empty:
        return own
    simclr = own[own["objective"] == "contrastive"]
    alike, free = (own, [OF_DATA, "encoder"]) if simclr.empty else (simclr, [OF_DATA])
    (of_protocol,) = settings(alike, artefact.name, free_keys([], free))
    ways = [
        _way(artefact, _of(runs, objective, protocol), of_protocol, also)
        for objective, also in (("supervised", ()), ("none", ("evaluation",)))
    ]
    return pd.concat([own, *(way.runs for way in ways if way is not None)])


def _way(
    artefact: Artefact, runs: pd.DataFrame, setting: Setting, also: tuple[str, ...]
) -> Setting | None:
    """The encoders beside a setting's, all made in one way: on most data sets, then with SimCLR's views, then longest.

    also: what may differ besides the training.
    """
    free = free_keys([], [OF_DATA])
    alike = matching(runs, setting.config, (*free, *OF_TRAINING, *also))

    def preference(way: Setting) -> tuple[int, bool, int]:
        sets = len(set(plain_values(way.runs, _keys_of_data())))
        views = way.config["views.policy"] == setting.config["views.policy"]
        epochs = way.config["optimizer.epochs"]
        return sets, views, epochs if isinstance(epochs, int) else 0

    return max(settings(alike, artefact.name, free), key=preference, default=None)


def _keys_of_data() -> list[str]:
    """The keys that tell data sets apart."""
    kept = set(fixed_keys((OF_DATA,)))
    return [key for key in fixed_keys(()) if key not in kept]


def _lengths(setting: Setting, together: Iterable[pd.DataFrame]) -> str:
    """How long the encoders were trained, in words."""
    trained_for = pretrained_for(setting)
    words = f"{trained_for}." if trained_for else ""
    epochs = {
        int(length)
        for runs in together
        for length in runs.loc[runs["objective"] == "supervised", "optimizer.epochs"]
    }
    lengths = " and ".join(count(length, "epoch") for length in sorted(epochs))
    return f"{words} Supervised: {lengths}.".strip() if epochs else words


def _part(key: str, protocol: str, runs: pd.DataFrame) -> tuple[Part, str]:
    """The table of a protocol, and how SimCLR compares with supervised training, in words."""
    name = PARTS[protocol]
    entry = paper.entries()[key]
    marks = entry["bold_not_significantly_worse_than_best"][PRINTED[name]]
    printed = {
        (method, column): float(value)
        for method, values in entry[PRINTED[name]].items()
        for column, value in zip(entry["columns"], values, strict=True)
    }
    bold = [
        (method, column)
        for method, values in marks.items()
        for column, is_bold in zip(entry["columns"], values, strict=True)
        if is_bold
    ]
    names = [
        method_name(METHODS, *of_run)
        for of_run in plain_values(runs, ["objective", "encoder.label"])
    ]
    published = [method for method in METHODS.values() if method in entry[PRINTED[name]]]
    imported = sorted(set(names) - set(METHODS.values()))
    methods = [SIMCLR, *imported, *(method for method in published if method != SIMCLR)]
    members: dict[Place, list[int]] = defaultdict(list)
    for row, place in enumerate(zip(names, _columns(runs), strict=True)):
        if place[0] in methods:
            members[place].append(row)
    measured = _measured({place: runs.iloc[rows] for place, rows in members.items()})
    part = Part(
        name=name,
        rows=Axis(["Method"], ["objective"], METHODS.get, _shown(methods, members), methods.index),
        columns=Axis(["Data set"], [], str, order=_order),
        cells={place: each.accuracies for place, each in measured.items()},
        paper=printed,
        quantity="accuracy (%)",
        untested=methods,
        unranked=[],
        bold=_bold(measured),
        paper_bold=bold,
    )
    return part, _count(name, measured)


def _shown(methods: Sequence[str], members: Iterable[Place]) -> list[str]:
    """The rows that are always there: all, but SimCLR's only if it was run, in case others' weights stand alone."""
    run = {method for method, _ in members}
    return [method for method in methods if method != SIMCLR or method in run]


def _columns(runs: pd.DataFrame) -> list[Label]:
    """The column of each evaluation: the paper's name of its data set, or what tells it apart from others."""
    named = [
        _named(*values) for values in plain_values(runs, [f"{OF_DATA}.{key}" for key in NAMED])
    ]
    of_name = defaultdict(set)
    keys = _keys_of_data()
    values = plain_values(runs, keys)
    for name, these in zip(named, values, strict=True):
        of_name[name].add(these)
    result: list[Label] = []
    for name, these in zip(named, values, strict=True):
        telling = [
            f"{key.rpartition('.')[2]}={value}"
            for k, (key, value) in enumerate(zip(keys, these, strict=True))
            if len({others[k] for others in of_name[name]}) > 1
        ]
        result.append(" ".join([name, *map(shown, telling)]))
    return result


def _named(name: str, label: str | None, limit: int | None) -> str:
    """The paper's name of a whole data set; a part of a set, and own files other than Birdsnap, never get one."""
    if name in SETS and limit is None:
        return SETS[name]
    text = shown(label or SETS.get(name, name))
    if limit is not None:
        text += f" ({limit:,} images)"
    return f"{text} (own files)" if text in SETS.values() and text != BIRDSNAP else text


def _order(column: Any) -> tuple[int, str]:
    names = list(SETS.values())
    return (names.index(column), "") if column in names else (len(names), column)


@dataclass(frozen=True)
class Model:
    """What was measured of one model on one data set. per_class: whether it is the mean accuracy over classes."""

    accuracies: Accuracies
    rights: Rights | None
    per_class: bool


def _measured(of_place: Mapping[Place, pd.DataFrame]) -> dict[Place, Model]:
    result = {}
    for place, runs in of_place.items():
        metric = runs[f"{OF_DATA}.metric"].iloc[0]
        measured = accuracies(runs, metric) if metric in runs else None
        if measured is not None:
            result[place] = Model(measured, rights(runs), metric == "mean_per_class")
    return result


def _bold(measured: Mapping[Place, Model]) -> set[Place]:
    """The best of each column, and those that the test does not tell from it."""
    bold: set[Place] = set()
    for column in {column for _, column in measured}:
        here = {place: model for place, model in measured.items() if place[1] == column}
        bold |= not_worse_than_best(
            {place: model.accuracies.estimate().mean for place, model in here.items()},
            {place: model.rights for place, model in here.items()},
            any(model.per_class for model in here.values()),
        )
    return bold


def _count(name: str, measured: Mapping[Place, Model]) -> str:
    """On how many data sets SimCLR is better than supervised training, worse or neither, in words; empty if unknown."""
    better = worse = neither = 0
    for (method, column), simclr in measured.items():
        other = measured.get((SUPERVISED, column))
        if method != SIMCLR or other is None:
            continue
        p = p_value(simclr.rights, other.rights, simclr.per_class)
        if p != p:
            continue
        lead = simclr.accuracies.estimate().mean - other.accuracies.estimate().mean
        better += p <= LEVEL and lead > 0
        worse += p <= LEVEL and lead < 0
        neither += p > LEVEL
    total = better + worse + neither
    if not total:
        return ""
    return (
        f"{name.capitalize()}: SimCLR is significantly better than supervised training on {better} of "
        f"{count(total, 'data set')}, worse on {worse}, and neither on {neither}."
    )
