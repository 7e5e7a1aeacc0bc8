"""Table 6 and Figure 1 from a store: the paper's numbers come back, beside other methods and the supervised encoder."""

import math

import pytest
import torch

import analysis
from analysis import paper
from analysis.artefacts import ARTEFACTS, figure1, table6
from analysis.encoders import shape
from analysis.report import write
from simclr_ablate.models.sizes import parameters

PRINTED = [
    row
    for group in paper.entries()[table6.KEY]["groups"].values()
    for row in group
    if row[0] == table6.SIMCLR
]
BY_SGD = {"evaluation.protocol": "linear_sgd", "optimizer.epochs": 1000}


def put(store, make, architecture, top1, top5, **changes):
    depth, width = shape(architecture)
    encoder = {"encoder.architecture": f"resnet{depth}", "encoder.width": width}
    experiment = make.experiment(**encoder | {"encoder.stem": "imagenet"} | changes)
    metrics = {"top1": top1, "top5": top5, "validation_top1": top1}
    return make.put(store, experiment, metrics=metrics)


@pytest.fixture
def store(tmp_path, make):
    """The paper's three encoders, its supervised ones, and a random encoder."""
    for _, architecture, _, top1, top5 in PRINTED:
        put(tmp_path, make, architecture, top1, top5, **BY_SGD)
    supervised = {"objective": "supervised", "views.policy": "crop", "optimizer.epochs": 90}
    put(tmp_path, make, "ResNet-50", 76.5, 93.0, **supervised)
    random = {"objective": "none", "views.policy": "none", "evaluation.protocol": "linear_sgd"}
    put(tmp_path, make, "ResNet-50", 5.0, 12.0, **random)
    return tmp_path


def test_the_papers_numbers_come_back_as_table_6(store, tmp_path):
    (report,) = ARTEFACTS["table6"].reports(analysis.load(store))
    ours, theirs = report.tables
    simclr = [row for row in theirs.rows if row[0] == table6.SIMCLR]
    assert [row[3:] for row in ours.rows[:3]] == [row[3:] for row in simclr]
    assert [row[:2] for row in ours.rows] == [
        *([table6.SIMCLR, name] for _, name, *_ in PRINTED),
        [table6.SUPERVISED, "ResNet-50"],
        [table6.RANDOM, "ResNet-50"],
    ]
    assert ours.header == ["Method", "Architecture", "Parameters (M)", "Top-1 (%)", "Top-5 (%)"]
    for row in ours.rows:
        depth, width = shape(row[1])
        assert float(row[2]) == pytest.approx(
            parameters(f"resnet{depth}", width, "imagenet") / 1e6, abs=0.005
        )
    assert {path.suffix for path in write(report, tmp_path / "out")} == {
        *(".png", ".pdf", ".csv", ".md", ".tex"),
    }


def test_other_methods_are_the_papers_and_marked_as_published(store):
    (report,) = ARTEFACTS["table6"].reports(analysis.load(store))
    _, theirs = report.tables
    printed = [r for group in paper.entries()[table6.KEY]["groups"].values() for r in group]
    assert [row[:2] for row in theirs.rows] == [row[:2] for row in printed]
    for row, (_, _, size, *numbers) in zip(theirs.rows, printed, strict=True):
        assert row[2] == str(size)
        assert row[3:] == [f"{value:.1f}" if value is not None else "–" for value in numbers]
    assert "published" in theirs.title
    cells = report.data[report.data["kind"] == "cell"].set_index(["row", "column"])
    assert math.isnan(cells.loc[("MoCo ResNet-50", "Top-1 (%)"), "mean"])
    assert cells.loc[("MoCo ResNet-50", "Top-1 (%)"), "paper"] == 60.6
    assert "3 of 13 cells" in report.caption


def test_only_evaluations_by_sgd_and_the_supervised_classifier_count(store, make):
    runs = analysis.load(store)
    put(store, make, "ResNet-50", 1.0, 1.0, **{"optimizer.epochs": 1000})  # by L-BFGS
    put(store, make, "ResNet-50", 1.0, 1.0, **{"objective": "supervised"} | BY_SGD)
    before, after = (ARTEFACTS["table6"].reports(r)[0] for r in (runs, analysis.load(store)))
    assert before.tables == after.tables


def test_the_papers_points_come_back_as_figure_1(store):
    (report,) = ARTEFACTS["figure1"].reports(analysis.load(store))
    (comparison,) = ARTEFACTS["figure1"].comparisons(analysis.load(store))
    ours, theirs = figure1.panels(comparison)
    points = {curve.name: list(curve.y) for curve in theirs.curves}
    assert len(points[figure1.OTHERS]) == 14
    for curve in ours.curves:
        if curve.name in points:
            assert list(curve.y) == points[curve.name]
    assert sorted(curve.name for curve in ours.curves) == [
        *(table6.RANDOM, table6.SIMCLR, table6.SUPERVISED),
    ]
    printed = {f"{'ResNet-50'}{name}": y for name, y in (("", 69.3), (" (2x)", 74.2))}
    cells = report.data[report.data["kind"] == "cell"].set_index("row")
    for name, top1 in printed.items():
        assert cells.loc[f"SimCLR {name}", ["mean", "paper"]].tolist() == [top1, top1]
    assert report.alt.startswith("Points of top-1 (%) against parameters (millions)")


def test_one_encoder_is_enough(tmp_path, make):
    put(tmp_path, make, "ResNet-8", 40.0, 90.0, **BY_SGD)
    for name in ("table6", "figure1"):
        (report,) = ARTEFACTS[name].reports(analysis.load(tmp_path))
        assert "ResNet-8" in report.tables[0].rows[0][1] or "ResNet-8" in report.tables[0].rows[0]


IMPORTED = {
    "objective": "imported",
    "evaluation.protocol": "linear_sgd",
    "encoder.weights": "/somewhere",
    "encoder.fingerprint": "a" * 24,
    "encoder.label": "theirs",
}


def test_imported_encoders_stand_beside_simclrs(store, make):
    put(store, make, "ResNet-50", 80.0, 95.0, **IMPORTED)
    other = {"encoder.fingerprint": "b" * 24}
    put(store, make, "ResNet-18", 60.0, 85.0, **IMPORTED | other)
    (report,) = ARTEFACTS["table6"].reports(analysis.load(store))
    rows = [row[:2] for row in report.tables[0].rows]
    # The hash of their weights tells two encoders with one label apart.
    assert rows[3:5] == [["theirs (aaaaaa)", "ResNet-50"], ["theirs (bbbbbb)", "ResNet-18"]]
    assert report.tables[0].rows[4][2] == f"{parameters('resnet18', 1, 'imagenet') / 1e6:.2f}"
    (figure,) = ARTEFACTS["figure1"].reports(analysis.load(store))
    assert "theirs (aaaaaa)" in figure.alt


def test_imported_encoders_alone_have_a_table_and_a_figure(tmp_path, make):
    put(tmp_path, make, "ResNet-50", 80.0, 95.0, **IMPORTED)
    (report,) = ARTEFACTS["table6"].reports(analysis.load(tmp_path))
    assert [row[:2] for row in report.tables[0].rows] == [["theirs", "ResNet-50"]]
    assert "SimCLR:" not in report.caption
    assert len(ARTEFACTS["figure1"].reports(analysis.load(tmp_path))) == 1


def test_parameters_of_networks_that_are_not_ours_are_counted_from_their_weights(tmp_path, make):
    of = make.experiment(**IMPORTED | {"encoder.architecture": "mine:network"})
    numbers = {"top1": 70.0, "top5": 90.0, "validation_top1": 70.0}
    run = make.put(tmp_path, of, metrics=numbers)
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5))
    torch.save({"encoder": layer.state_dict()}, run.encoder_path)
    (report,) = ARTEFACTS["table6"].reports(analysis.load(tmp_path))
    expected = sum(p.numel() for p in layer.parameters()) / 1e6
    data = report.data[report.data["kind"] == "cell"].set_index("row")
    found = data.loc["theirs mine:network", "parameters_millions"].iloc[0]
    assert found == pytest.approx(expected)
