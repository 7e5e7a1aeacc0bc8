"""Figure B.4: t-SNE of h and of z = g(h) for ten classes, and how well each separates them.

The paper shows only pictures, and says that classes are better separated in h.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simclr_ablate.store import Run
from simclr_ablate.terminal import printable

from ..cache import Arrays
from ..comparison import trained
from ..drawing import (
    LINE_HEIGHT,
    SMALL,
    add_axes,
    name_entries,
    page,
    set_title,
    shortened,
    style,
)
from ..panels import PAGE
from ..report import LeftOut, Report
from ..separation import CLASSES, IMAGES, neighbours, perplexity, separation
from ..settings import Setting, settings
from ..typesetting import Table, number
from ..weights import kept, with_results, with_weights
from . import Artefact

FEATURES = ("h", "z")
RESULT = "separation"


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report | LeftOut]:
    """One report for each data set with SimCLR's views, head and loss, or why there is none."""
    result: list[Report | LeftOut] = []
    for setting in chosen(artefact, runs):
        run = Run(Path(setting.runs["path"].iloc[0]))
        try:
            result.append(_report(artefact, setting, kept(run, RESULT, separation)))
        except (OSError, ValueError, RuntimeError) as error:
            reason = printable(f"run {run.run_id}: {error}")
            result.append(LeftOut(setting.description, reason))
    return result


def chosen(artefact: Artefact, runs: pd.DataFrame) -> list[Setting]:
    """For each data set, the setting with the most seeds, with its first seed as its only run.

    Ties go to the best top-1 on the validation split.
    """
    views = (runs["views.policy"] == "simclr") & runs["views.extra"].isna()
    on_h = (runs["head.kind"] == "nonlinear") & (runs["evaluation.features"] == "h")
    usable = trained(runs[views & on_h & (runs["loss.name"] == "nt_xent")])
    shown = []
    for _, of_one in usable.groupby(["data.name", "data.label", "data.fingerprint"], dropna=False):
        candidates = settings(of_one, artefact.name, ("seed", "evaluation"))
        there = [each for each in candidates if len(with_results(each.runs, RESULT))]
        if there:
            best = max(there, key=_preference)
            shown.append(with_results(best.runs, RESULT).sort_values("seed").iloc[[0]])
    return settings(pd.concat(shown), artefact.name, ("evaluation",)) if shown else []


def _preference(setting: Setting) -> tuple[int, float]:
    """Seeds without weights count only where no seed has any: in a pack, where they had them."""
    counted = with_weights(setting.runs)
    counted = setting.runs if counted.empty else counted
    validation = counted["validation_top1"].mean()
    return counted["seed"].nunique(), -math.inf if math.isnan(validation) else validation


def _report(artefact: Artefact, setting: Setting, measured: Arrays) -> Report:
    text = caption(setting, measured)
    with style():
        figure = draw(measured, text)
    return Report.of_setting(
        artefact,
        setting,
        caption=text,
        notes=notes(len(measured["labels"])),
        alt=alt(setting, measured),
        figure=figure,
        tables=[table(setting, measured)],
        data=data(setting, measured),
        summary=text.splitlines()[1:],
        intervals="test images",
    )


def notes(images: int) -> list[str]:
    """How the picture and the numbers are made from so many images."""
    return [
        f"At most {CLASSES} classes, with at most {IMAGES} test images each, are chosen with the data’s seed. t-SNE is "
        f"scikit-learn’s, with cosine distances and perplexity {perplexity(images):.3g}, started from the principal "
        "components. Its map distorts distances, so all measurements are made on h and z themselves.",
        f"kNN: the share of images whose class is the most common one among their {neighbours(images)} nearest other "
        "images, by cosine similarity. Silhouette: the mean over images, by cosine distance.",
        "The margin is over these images, paired; it does not cover how much another seed would differ.",
        "The run is the first seed of the setting with the most seeds, among those with SimCLR’s views, a nonlinear "
        "head and NT-Xent; ties go to the best on the validation split.",
    ]


def caption(setting: Setting, measured: Arrays) -> str:
    silhouette = [f"{float(measured[f'silhouette_{name}'][0]):.3f} in {name}" for name in FEATURES]
    return "\n".join(
        [
            f"{setting.description}, seed {setting.config['seed']}. t-SNE of h and of z = g(h), "
            f"{images_shown(measured)}.",
            f"{separated(measured)}. Silhouette: {', '.join(silhouette)}.",
            "The paper, on ten classes of ImageNet: better separated in h. It gives no numbers.",
        ]
    )


def alt(setting: Setting, measured: Arrays) -> str:
    """The alt text of the picture: what is drawn, and what was measured."""
    return (
        "Scatter plots of t-SNE’s maps of h and of z = g(h) side by side, a colour for each class: "
        f"{images_shown(measured)}, ours on {setting.label}. {separated(measured)}."
    )


def images_shown(measured: Arrays) -> str:
    return f"{len(measured['labels']):,} test images of {len(measured['classes'])} classes"


def separated(measured: Arrays) -> str:
    """How many images kNN gets right in h and in z, and which of them separates classes better, in words."""
    mean, half = lead(measured)
    verdict = "undecided which separates classes better"
    if abs(mean) > half:
        verdict = f"classes are better separated in {'h' if mean > 0 else 'z'}"
    return (
        f"kNN: {number(_percent(measured, 'h'))}% in h, {number(_percent(measured, 'z'))}% in "
        f"z; h - z: {number(mean, half)} points (95%): {verdict}"
    )


def lead(measured: Arrays) -> tuple[float, float]:
    """The lead of h over z in images that kNN gets right, in points, and half the width of its 95% interval."""
    h, z = (measured[f"right_{name}"].astype(float) for name in FEATURES)
    difference = 100 * (h - z)
    half = 1.96 * difference.std(ddof=1) / math.sqrt(len(difference))
    return float(difference.mean()), float(half)


def _percent(measured: Arrays, name: str) -> float:
    return float(100 * measured[f"right_{name}"].mean())


def table(setting: Setting, measured: Arrays) -> Table:
    rows = [
        [name, number(_percent(measured, name)), f"{float(measured[f'silhouette_{name}'][0]):.3f}"]
        for name in FEATURES
    ]
    header = ["Representation", "kNN (%)", "Silhouette"]
    difference = float(measured["silhouette_h"][0] - measured["silhouette_z"][0])
    rows.append(["h - z", number(*lead(measured)), f"{difference:.3f}"])
    return Table(f"Ours: {setting.label}, one run", header, rows)


def data(setting: Setting, measured: Arrays) -> pd.DataFrame:
    """One row for each image and representation."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "seed": setting.config["seed"],
                    "representation": name,
                    "class": measured["classes"][measured["labels"]],
                    "x": measured[f"map_{name}"][:, 0],
                    "y": measured[f"map_{name}"][:, 1],
                    "neighbours_agree": measured[f"right_{name}"],
                    "run_id": setting.runs["run_id"].iloc[0],
                }
            )
            for name in FEATURES
        ]
    )


SIDE, GAP, TITLE = 4.4, 0.2, 0.35
"""The side of a map, the gap between maps, and the room for their titles, inches."""
LEGEND_ROW, LEGEND_CHARACTER, LEGEND_CHARACTERS = 5, 0.061, 120
"""Names in a row, the width of a character in inches, and how many characters of a name are shown."""
SHAPES = "osD^vP*X<>"


def draw(measured: Mapping[str, NDArray[Any]], text: str) -> Figure:
    """The maps of h and z, with one legend for both."""
    classes = measured["classes"]
    names = [shortened(name, LEGEND_CHARACTERS) for name in classes.tolist()]
    columns = legend_columns(names)
    legend = LINE_HEIGHT * math.ceil(len(names) / columns) + 0.25
    figure, bottom = page(PAGE, TITLE + SIDE + legend, text)
    for column, (name, title) in enumerate([("h", "h"), ("z", "z = g(h)")]):
        left = PAGE / 2 - GAP / 2 - SIDE if column == 0 else PAGE / 2 + GAP / 2
        axes = add_axes(figure, left, bottom + legend, SIDE, SIDE)
        drawn = draw_map(axes, measured[f"map_{name}"], measured["labels"], len(names))
        set_title(axes, f"Ours: {title}")
    made = figure.legend(
        drawn,
        ["class"] * len(names),
        loc="lower center",
        bbox_to_anchor=(0.5, (bottom + 0.05) / figure.get_size_inches()[1]),
        ncols=columns,
        fontsize=SMALL,
        frameon=False,
        handletextpad=0.2,
        borderpad=0,
    )
    name_entries(made, names)
    return figure


def legend_columns(names: Sequence[str]) -> int:
    """As many columns as the longest name leaves room for, but no more than LEGEND_ROW."""
    of_each = 0.4 + LEGEND_CHARACTER * max(map(len, names))
    return max(1, min(LEGEND_ROW, int(PAGE / of_each)))


def draw_map(
    axes: Axes, points: NDArray[np.float64], labels: NDArray[np.int64], classes: int
) -> list[PathCollection]:
    """Draws the points of each class, without ticks, since the axes have no meaning. points: (N, 2)."""
    drawn = []
    for label in range(classes):
        x, y = points[labels == label].T
        look: dict[str, Any] = {"color": colormaps["tab10"](label), "marker": SHAPES[label]}
        drawn.append(axes.scatter(x, y, s=13, linewidths=0.3, edgecolors="white", **look))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color="#bbbbbb", linewidth=0.6)
    return drawn
