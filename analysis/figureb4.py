"""Figure B.4: t-SNE of h and of z = g(h) for ten classes, and how well each separates them.

The paper shows pictures only, and says that classes are better separated in h.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.artefacts import ARTEFACTS
from analysis.comparison import trained
from analysis.drawing import (
    LINE_HEIGHT,
    SMALL,
    add_axes,
    name_entries,
    page,
    set_title,
    shortened,
    style,
)
from analysis.panels import PAGE
from analysis.report import LeftOut, Report
from analysis.settings import Setting, settings, shown
from analysis.typesetting import Table, number
from analysis.weights import Arrays, kept, load_weights, with_weights
from simclr_ablate.store import Run
from simclr_ablate.terminal import count, printable

if TYPE_CHECKING:
    from simclr_ablate.schema import Data

CLASSES, IMAGES = 10, 100
"""How many classes are shown at most, and of each how many test images at most."""
LEAST = 4
"""Images on a map."""
NEIGHBOURS, PERPLEXITY = 10, 30.0
"""At most; fewer where there are few images."""
FEATURES = ("h", "z")


def reports(runs: pd.DataFrame) -> list[Report | LeftOut]:
    """One report for each data set with SimCLR's views, head and loss, or why there is none."""
    found: list[Report | LeftOut] = []
    for setting in chosen(runs):
        run = Run(Path(setting.runs["path"].iloc[0]))
        try:
            found.append(_report(setting, kept(run, "separation", separation)))
        except (OSError, ValueError, RuntimeError) as error:
            reason = printable(f"of its run {run.run_id}: {error}")
            found.append(LeftOut(setting.description, reason))
    return found


def chosen(runs: pd.DataFrame) -> list[Setting]:
    """Of each data set the setting with the most seeds, with its first seed as its only run.

    Of several, that with the best top-1 on the validation split.
    """
    views = (runs["views.policy"] == "simclr") & runs["views.extra"].isna()
    on_h = (runs["head.kind"] == "nonlinear") & (runs["evaluation.features"] == "h")
    found = with_weights(trained(runs[views & on_h & (runs["loss.name"] == "nt_xent")]))
    shown = []
    for _, of_one in found.groupby(["data.name", "data.label", "data.fingerprint"], dropna=False):
        candidates = settings(of_one, "figureB4", ("seed", "evaluation"))
        best = max(candidates, key=_preference)
        shown.append(best.runs.sort_values("seed").iloc[[0]])
    return settings(pd.concat(shown), "figureB4", ("evaluation",)) if shown else []


def _preference(setting: Setting) -> tuple[int, float]:
    validation = setting.runs["validation_top1"].mean()
    return setting.runs["seed"].nunique(), -math.inf if math.isnan(validation) else validation


def separation(run: Run) -> Arrays:
    """The picture and what is measured, on test images that the data's seed chooses.

    labels: (N,), which of `classes`. For h and z: map_, (N, 2), t-SNE's; right_, (N,), whether the
    image's neighbours name its class; silhouette_, (1,). Near is similar in cosine. Raises ValueError where there is
    too little to map or to measure.
    """
    # Here, so that nothing else waits for it.
    from sklearn.metrics import silhouette_score

    features, labels, classes = embed(run)
    check_features(features, labels)
    result: dict[str, NDArray[Any]] = {"labels": labels, "classes": np.array(classes)}
    for name, x in features.items():
        result[f"map_{name}"] = flat_map(x)
        result[f"right_{name}"] = neighbours_agree(x, labels)
        result[f"silhouette_{name}"] = np.array([silhouette_score(x, labels, metric="cosine")])
    return result


def check_features(features: Mapping[str, NDArray[np.float64]], labels: NDArray[np.int64]) -> None:
    """Raises ValueError where neighbours or silhouettes of classes would mean nothing."""
    images, classes = len(labels), len(np.unique(labels))
    if classes < 2 or images < max(LEAST, classes + 1):
        raise ValueError(
            f"a map of classes takes two of them, two images of one, and {LEAST} images at least; the test split "
            f"has {count(images, 'image')} of {'1 class' if classes == 1 else f'{classes} classes'}"
        )
    for name, x in features.items():
        if not np.isfinite(x).all():
            raise ValueError(f"{name} is not finite")


def flat_map(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """t-SNE's map of x, (N, D), from its principal components where it has two: (N, 2)."""
    from sklearn.manifold import TSNE

    varies = x.shape[1] > 1 and bool(np.ptp(x, axis=0).any())
    start = "pca" if varies else "random"
    near = perplexity(len(x))
    found: NDArray[np.float32] = TSNE(
        metric="cosine", init=start, perplexity=near, random_state=0
    ).fit_transform(x)
    return found


def perplexity(images: int) -> float:
    """t-SNE's, which looks at three times as many neighbours: fewer than there are other images."""
    return min(PERPLEXITY, (images - 1) / 3)


def embed(run: Run) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64], list[str]]:
    """h and z, (N, D) each, of some test images; their labels (N,); the labels' classes."""
    import torch

    from simclr_ablate.cores import available_cores
    from simclr_ablate.data.splits import open_data
    from simclr_ablate.evaluation.features import FEATURE_BATCH, extract
    from simclr_ablate.paths import default_cache
    from simclr_ablate.schema import Experiment
    from simclr_ablate.tasks.networks import build_models

    experiment = Experiment.from_config(run.config())
    check_images(experiment.data)
    encoder, head = build_models(experiment, torch.device("cpu"))
    weights = load_weights(run)
    encoder.load_state_dict(weights["encoder"])
    head.load_state_dict(weights["head"])
    cache = Path(default_cache()).expanduser()
    test = open_data(experiment.data, cache, available_cores()).test
    picked, rows = choose(test.labels.numpy(), experiment.data.seed)
    few = test.subset(torch.from_numpy(rows))
    h, z = (extract(encoder, few.batches(FEATURE_BATCH), head=used) for used in (None, head))
    labels = np.searchsorted(picked, h.labels.numpy())
    features = {"h": h.features.double().numpy(), "z": z.features.double().numpy()}
    return features, labels, [shown(str(test.classes[label])) for label in picked]


def check_images(data: "Data") -> None:
    """Raises ValueError where the images cannot be those that the run had."""
    from simclr_ablate.config import is_own
    from simclr_ablate.data.listing import fingerprint, list_images

    if is_own(data.name):
        raise ValueError(f"images of {data.name} are made by code that the analysis does not call")
    if (
        data.name == "imagenet" and data.root is not None
    ):  # other folders are opened by their fingerprint
        found = fingerprint(list_images(data.root, data.name, data.on_error), data.on_error)
        if data.fingerprint not in (None, found):
            raise ValueError(f"the images in {data.root} have changed since")


def choose(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At most CLASSES of the labels, in their order, and at most IMAGES rows of each."""
    rng = np.random.default_rng(seed)
    known = np.unique(labels)
    shown = np.sort(rng.permutation(known)[:CLASSES])
    rows = [rng.permutation(np.flatnonzero(labels == label))[:IMAGES] for label in shown]
    return shown, np.sort(np.concatenate(rows))


def neighbours_agree(x: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the commonest class of each row's nearest other rows is its own; ties: the lowest.

    x: (N, D). Near is similar in cosine.
    """
    # A row of zeros is as far from all others.
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(float).tiny)
    similarity = x @ x.T
    np.fill_diagonal(similarity, -np.inf)
    near = neighbours(len(x))
    nearest = np.argpartition(-similarity, near - 1, axis=1)[:, :near]
    votes = np.eye(labels.max() + 1)[labels[nearest]].sum(1)
    return votes.argmax(1) == labels


def neighbours(images: int) -> int:
    """How many of the others name an image's class."""
    return min(NEIGHBOURS, images - 1)


def _report(setting: Setting, measured: Arrays) -> Report:
    text = caption(setting, measured)
    with style():
        figure = draw(measured, text)
    return Report.of_setting(
        ARTEFACTS["figureB4"],
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
    """How the picture and the numbers are made, of so many images."""
    return [
        f"At most {CLASSES} classes and {IMAGES} test images of each, chosen by the data’s seed. t-SNE: "
        f"scikit-learn’s, of cosine distances, perplexity {perplexity(images):.3g}, from the principal components. Its "
        "map distorts distances, so what is measured is measured on h and on z themselves.",
        f"kNN: how many images have their own class as the commonest of their {neighbours(images)} neighbours among "
        "the others, by cosine. Silhouette: mean over images, by cosine distance.",
        "The margin is of these images, paired; how much another seed would differ is not in it.",
        "The run: of the settings with SimCLR’s views and a nonlinear head, that with the most seeds, and of these "
        "the best on the validation split; its first seed.",
    ]


def caption(setting: Setting, measured: Arrays) -> str:
    silhouette = [f"{float(measured[f'silhouette_{name}'][0]):.3f} in {name}" for name in FEATURES]
    return "\n".join(
        [
            f"{setting.description}, seed {setting.config['seed']}. t-SNE of h and of z = g(h), "
            f"{images_shown(measured)}.",
            f"{separated(measured)}. Silhouette: {', '.join(silhouette)}.",
            "The paper, of ten classes of ImageNet: better separated in h. It gives no numbers.",
        ]
    )


def alt(setting: Setting, measured: Arrays) -> str:
    """For whoever does not see the picture: what is drawn, and what was measured of it."""
    return (
        "Scatter plots of t-SNE’s maps of h and of z = g(h) side by side, a colour for each class: "
        f"{images_shown(measured)}, ours on {setting.label}. {separated(measured)}."
    )


def images_shown(measured: Arrays) -> str:
    return f"{len(measured['labels']):,} test images of {len(measured['classes'])} classes"


def separated(measured: Arrays) -> str:
    """How many images kNN has right in h and in z, and which separates classes better, in words."""
    mean, half = lead(measured)
    verdict = "undecided which separates classes better"
    if abs(mean) > half:
        verdict = f"classes are better separated in {'h' if mean > 0 else 'z'}"
    return (
        f"kNN: {number(_percent(measured, 'h'))}% in h, {number(_percent(measured, 'z'))}% in "
        f"z; h - z: {number(mean, half)} points (95%): {verdict}"
    )


def lead(measured: Arrays) -> tuple[float, float]:
    """How many points more of the images h has right than z, and half the 95% interval of it."""
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
    """A row for each image and representation."""
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
"""Of a map, between maps, and above them, inches."""
LEGEND_ROW, LEGEND_CHARACTER, LEGEND_CHARACTERS = 5, 0.061, 120
"""How many names stand side by side, how wide a character is, inches, and how many of a name are shown."""
SHAPES = "osD^vP*X<>"


def draw(measured: Mapping[str, NDArray[Any]], text: str) -> Figure:
    """The two maps, h's and z's, with one legend."""
    classes = measured["classes"]
    names = [shortened(name, LEGEND_CHARACTERS) for name in classes.tolist()]
    columns = legend_columns(names)
    legend = LINE_HEIGHT * math.ceil(len(names) / columns) + 0.25
    figure, bottom = page(PAGE, TITLE + SIDE + legend, text)
    for place, (name, title) in enumerate([("h", "h"), ("z", "z = g(h)")]):
        left = PAGE / 2 - GAP / 2 - SIDE if place == 0 else PAGE / 2 + GAP / 2
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
    """As many as the longest name leaves room for, and no more than LEGEND_ROW."""
    of_each = 0.4 + LEGEND_CHARACTER * max(map(len, names))
    return max(1, min(LEGEND_ROW, int(PAGE / of_each)))


def draw_map(
    axes: Axes, places: NDArray[np.float64], labels: NDArray[np.int64], classes: int
) -> list[PathCollection]:
    """The points of each class. places: (N, 2). Neither axis has a meaning, so none is marked."""
    drawn = []
    for label in range(classes):
        x, y = places[labels == label].T
        look: dict[str, Any] = {"color": colormaps["tab10"](label), "marker": SHAPES[label]}
        drawn.append(axes.scatter(x, y, s=13, linewidths=0.3, edgecolors="white", **look))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color="#bbbbbb", linewidth=0.6)
    return drawn
