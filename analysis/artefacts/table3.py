"""Table 3: how well a small network predicts a transformation from h and from z = g(h).

The views of a row's pretraining include its transformation; colour distortion is in all of them.
"""

from dataclasses import replace

import pandas as pd

from .. import paper
from ..comparison import Comparison, Part, Place, cells, constant, listed, varied
from ..presentation import bar_report, bars
from ..report import Report
from ..statistics import Accuracies
from . import Artefact

GUESS, H, Z = "Random guess", "h", "g(h)"
COLUMNS = [GUESS, H, Z]

ROWS = listed(
    ["What to predict?"],
    ["evaluation.probe", "views.extra"],
    {
        ("color", None): "Color vs grayscale",
        ("rotation", "rotate"): "Rotation",
        ("noise", "noise"): "Orig. vs corrupted",
        ("sobel", "sobel"): "Orig. vs Sobel filtered",
    },
)
GUESSED = replace(constant(GUESS, COLUMNS), titles=["Representation"])
FEATURES = listed(["Representation"], ["evaluation.features"], {"h": H, "z": Z})


def published() -> dict[Place, float]:
    names = {"random_guess": GUESS, "h": H, "g(h)": Z}
    printed = paper.cells("table3_transformation_prediction")
    return {(row, names[column]): value for (row, column), value in printed.items()}


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report]:
    """One report for each setting in which the transformation or the representation varies."""
    return [
        # One above the other, since the names of transformations are long.
        bar_report(each, [[panel] for panel in panels], NOTES)
        for each in comparisons(artefact, runs)
        for panels in [bars(each, each.parts[0])]
    ]


NOTES = [
    "Random guess: the accuracy, on the test images, of always naming the most frequent label in "
    "training. One image in five is grey, one in four has each rotation, and one in two is "
    "corrupted by Gaussian noise, or Sobel filtered.",
    "Except in the first row, pretraining applies the row’s transformation too, to some images.",
]


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    probed = runs[(runs["objective"] == "contrastive") & runs["probe_accuracy"].notna()]
    return [
        Comparison(
            artefact,
            setting,
            [part(setting.runs)],
            quantity="Accuracy (%)",
            method="of a network with one hidden layer on the frozen h or g(h)",
        )
        for setting in varied(probed, artefact, [ROWS, FEATURES])
    ]


def part(runs: pd.DataFrame) -> Part:
    """The table. The guess is not ranked: it is the same for h and g(h), and no finding."""
    accuracies: dict[Place, Accuracies] = cells(runs, ROWS, FEATURES, "probe_accuracy")
    guesses = cells(runs, ROWS, GUESSED, "probe_guess")
    return Part(
        name="",
        rows=ROWS,
        columns=GUESSED,
        cells=accuracies | guesses,
        paper=published(),
        quantity="accuracy (%)",
        untested=COLUMNS,
        unranked=[GUESS],
    )
