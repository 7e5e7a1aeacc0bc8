"""Tables 8 and B.5 from a store: the paper's numbers come back with their bold marks, made of results on each image."""

import numpy as np
import pytest
from scipy import stats

import analysis
from analysis import paper
from analysis.artefacts import ARTEFACTS, table8, tableb5
from analysis.report import write
from simclr_ablate.identity import evaluation_key

IMAGES = 4_000
SIDES = {"table8": (table8.KEY, 4), "tableB5": (tableb5.KEY, 1)}
COUNTS = {"table8": (5, 2, 5), "tableB5": (1, 6, 5)}
"""Fine-tuned: better, worse and tied; as the text of Section 6 says, and as Table B.5 marks."""
METRIC = {"top-1": "top1", "mean per-class accuracy": "mean_per_class", "11-point mAP": "map11"}
METRICS = {
    name: METRIC[metric] for name, metric in paper.entries()["transfer_protocol"]["metric"].items()
}
OBJECTIVES = {name: objective for objective, name in table8.METHODS.items()}
PROTOCOLS = {name: protocol for protocol, name in table8.PARTS.items()}
NAMES = {name: key for key, name in table8.SETS.items()}


def evaluated_on(column, **changes):
    """The keys of an evaluation on a data set: a folder of that label, so that no set has to be known."""
    data = {"name": "image_folder", "root": "/images", "size": 32, "validation": 100}
    data |= {"on_error": "raise", "seed": 0, "label": column, "fingerprint": column}
    data |= {"metric": METRICS.get(column, "top1")}
    return {f"evaluation.data.{key}": value for key, value in (data | changes).items()}


def put(store, make, method, protocol, column, value, right=None, labels=None, **changes):
    keys = evaluated_on(column) | {"evaluation.protocol": protocol, "objective": OBJECTIVES[method]}
    if method == table8.RANDOM:
        keys |= {"views.policy": "none", "evaluation.steps": 40_000, "evaluation.lr_max": 1.0}
    experiment = make.experiment(**keys | changes)
    metric = experiment.evaluation.data.metric
    numbers = {"top1": value, "top5": value, metric: value, f"validation_{metric}": value}
    run = make.put(store, experiment, metrics=numbers, test_images=IMAGES)
    if right is not None:
        labels = np.zeros(len(right), dtype=int) if labels is None else labels
        folder = run.evaluating(evaluation_key(experiment))
        folder.write_examples({"label": labels, "prediction": np.where(right, labels, -1)})
        config = experiment.to_config()["evaluation"]
        folder.write_result(config, numbers | {"test_images": IMAGES})


def named_as_the_paper(monkeypatch):
    """Folders named like the paper's sets stand for them: their images are not at hand."""
    own = table8._named
    monkeypatch.setattr(
        table8,
        "_named",
        lambda name, label, limit: label if label in NAMES else own(name, label, limit),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SIDES)
def test_the_papers_numbers_and_bold_marks_come_back(tmp_path, make, monkeypatch, name):
    named_as_the_paper(monkeypatch)
    key, width = SIDES[name]
    entry = paper.entries()[key]
    order = np.random.default_rng().permutation(IMAGES)
    for part, values in ((part, entry[table8.PRINTED[part]]) for part in PROTOCOLS):
        marks = entry["bold_not_significantly_worse_than_best"][table8.PRINTED[part]]
        for k, column in enumerate(entry["columns"]):
            for method, numbers in values.items():
                # Those that are bold are right about as many images, and others about far fewer.
                right = order < IMAGES * (0.8 if marks[method][k] else 0.6)
                changes = {"encoder.width": width}
                put(
                    tmp_path / "runs",
                    make,
                    method,
                    PROTOCOLS[part],
                    column,
                    numbers[k],
                    right,
                    **changes,
                )
    (report,) = ARTEFACTS[name].reports(analysis.load(tmp_path / "runs"))
    assert (
        ARTEFACTS[{"table8": "tableB5", "tableB5": "table8"}[name]].reports(
            analysis.load(tmp_path / "runs")
        )
        == []
    )
    linear, linear_paper, tuned, tuned_paper = report.tables
    for ours, theirs in ((linear, linear_paper), (tuned, tuned_paper)):
        assert ours.header == theirs.header == ["Method / Data set", *entry["columns"]]
        assert ours.rows == theirs.rows
        assert [[type(cell) for cell in row] for row in ours.rows] == [
            [type(cell) for cell in row] for row in theirs.rows
        ]
    better, worse, tied = COUNTS[name]
    assert (
        f"Fine-tuned: SimCLR is significantly better than supervised training on {better} of 12 data sets, worse on "
        f"{worse}, and neither on {tied}." in report.caption
    )
    assert [row[0] for row in linear.rows] == [table8.SIMCLR, table8.SUPERVISED]
    assert [row[0] for row in tuned.rows] == list(OBJECTIVES)
    files = {path.suffix: path for path in write(report, tmp_path / "out")}
    best = entry["linear"]["SimCLR" if width == 4 else "Supervised"][0]
    assert f"**{best}**" in files[".md"].read_text()
    assert f"\\textbf{{{best}}}" in files[".tex"].read_text()


def two(store, make, one, other, labels=None, seeds=1, column="Flowers (subset)", **changes):
    """SimCLR and supervised training, right about these images at each seed."""
    for method, rights in ((table8.SIMCLR, one), (table8.SUPERVISED, other)):
        for seed in range(seeds):
            right = rights[seed] if seeds > 1 else rights
            classes = np.zeros(len(right), int) if labels is None else labels
            value = 100 * np.mean([right[classes == c].mean() for c in np.unique(classes)])
            put(store, make, method, "linear", column, value, right, labels, seed=seed, **changes)


def marks(store):
    (report,) = ARTEFACTS["tableB5"].reports(analysis.load(store))
    return report, [type(row[1]).__name__ for row in report.tables[0].rows]


def test_bold_are_those_that_mcnemars_test_does_not_tell_apart(tmp_path, make):
    rng = np.random.default_rng()
    for number in range(6):
        one, other = rng.random(300) < 0.7, rng.random(300) < 0.63 - 0.03 * number
        store = tmp_path / str(number)
        two(store, make, one, other)
        gained, lost = (one & ~other).sum(), (other & ~one).sum()
        p = stats.binomtest(int(gained), int(gained + lost)).pvalue
        if abs(p - 0.05) < 0.005:
            continue
        first_is_best = one.mean() >= other.mean()
        alike = p > 0.05
        assert marks(store)[1] == [
            "Bold" if first_is_best or alike else "str",
            "Bold" if not first_is_best or alike else "str",
        ]


def test_of_several_seeds_all_count(tmp_path, make):
    """A small lead that a single seed cannot show is one of three seeds that agree."""
    rng = np.random.default_rng(1)
    hard = rng.random(2_000)
    one = [hard < 0.72 + 0.02 * rng.random(2_000) for _ in range(3)]
    other = [hard < 0.70 + 0.02 * rng.random(2_000) for _ in range(3)]
    two(tmp_path, make, one, other, seeds=3)
    report, bold = marks(tmp_path)
    assert bold == ["Bold", "str"]
    assert "±" in report.tables[0].rows[0][1]


def test_without_results_on_single_images_nothing_is_bold(tmp_path, make):
    put(tmp_path, make, table8.SIMCLR, "linear", "DTD (subset)", 60.0)
    put(tmp_path, make, table8.SUPERVISED, "linear", "DTD (subset)", 50.0)
    assert marks(tmp_path)[1] == ["str", "str"]


def test_own_files_never_stand_in_a_column_of_the_papers(tmp_path, make):
    for column in ("Flowers", "DTD (subset)", "Birdsnap"):
        put(tmp_path, make, table8.SIMCLR, "linear", column, 60.0)
    (report,) = ARTEFACTS["tableB5"].reports(analysis.load(tmp_path))
    assert report.tables[0].header[1:] == ["Birdsnap", "DTD (subset)", "Flowers (own files)"]


def test_parts_of_a_set_are_named_as_such_and_versions_are_kept_apart(tmp_path, make):
    own = {"name": "cifar10", "root": None, "label": None, "fingerprint": None}
    for changes in ({}, {"limit": 500}, {"size": 64, "limit": 500}):
        keys = evaluated_on("x", **own | changes)
        put(tmp_path, make, table8.SIMCLR, "linear", "x", 60.0, **keys)
    (report,) = ARTEFACTS["tableB5"].reports(analysis.load(tmp_path))
    assert report.tables[0].header[1:] == [
        *("CIFAR10", "CIFAR10 (500 images) size=32", "CIFAR10 (500 images) size=64"),
    ]


def imported(label, fingerprint="abc", **changes):
    return {
        "objective": "imported",
        "encoder.weights": f"/{fingerprint}",
        "encoder.fingerprint": fingerprint,
        "encoder.label": label,
    } | changes


@pytest.mark.parametrize("beside", [True, False], ids=["beside SimCLR", "alone"])
def test_imported_encoders_have_rows_of_their_own(tmp_path, make, beside):
    right = np.random.default_rng(0).random(200) < 0.8
    for protocol in table8.PARTS:
        if beside:
            put(tmp_path, make, table8.SIMCLR, protocol, "DTD (subset)", 50.0, right)
        of = imported("resnet50.V2", **{"encoder.architecture": "resnet50"})
        put(tmp_path, make, table8.SIMCLR, protocol, "DTD (subset)", 70.0, right, **of)
        put(tmp_path, make, table8.RANDOM, protocol, "DTD (subset)", 20.0, ~right)
    (report,) = ARTEFACTS["tableB5"].reports(analysis.load(tmp_path))
    linear, _, tuned, _ = report.tables
    simclr = [table8.SIMCLR] if beside else []
    assert [row[0] for row in linear.rows] == [*simclr, "resnet50.V2", table8.SUPERVISED]
    assert [row[0] for row in tuned.rows] == [
        *simclr,
        "resnet50.V2",
        table8.SUPERVISED,
        table8.RANDOM,
    ]
    cells = {row[0]: row[1] for row in tuned.rows}
    assert cells["resnet50.V2"] == "70.0"
    assert type(cells["resnet50.V2"]).__name__ == "Bold"
    assert type(cells[table8.RANDOM]).__name__ == "str"
