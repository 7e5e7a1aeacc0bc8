"""Figure 7 from a store: the paper's numbers come back, at parameters that are counted."""

import numpy as np
import pytest
import torch
from scipy import stats

import analysis
from analysis import paper
from analysis.artefacts import ARTEFACTS, figure7
from analysis.encoders import shape
from analysis.report import write
from simclr_ablate.models.encoder import build_encoder

ENTRY = paper.entries()[figure7.KEY]
EPOCHS = {figure7.SHORT: 100, figure7.LONG: 1000, figure7.SUPERVISED: 90}
NAMES = {"R18": "resnet18", "R34": "resnet34", "R50": "resnet50", "R101": "resnet101"}
NAMES |= {"R152": "resnet152"}


def cell(model, training, top1, **changes):
    architecture, _, width = model.removesuffix("x)").partition("(")
    changes = {"optimizer.epochs": EPOCHS[training], "top1": top1} | changes
    if training == figure7.SUPERVISED:
        changes = {"objective": "supervised", "views.policy": "crop"} | changes
    changes["encoder.architecture"] = NAMES.get(architecture, architecture)
    return changes | {"encoder.width": int(width or 1)}


def paper_cells():
    return [
        cell(model, training, top1)
        for key, training in figure7.PRINTED.items()
        for model, _, top1 in ENTRY[key]
    ]


def running_statistics(name):
    """Millions of numbers that an encoder's batch norms keep, which the paper counts, too."""
    depth, width = shape(name)
    with torch.device("meta"):
        encoder = build_encoder(f"resnet{depth}", width, "imagenet")
    return sum(kept.numel() for kept in encoder.buffers() if kept.dim()) / 1e6


def rows_of(*, training=figure7.SHORT, top1=50.0, **changes):
    return [cell(model, training, top1, **changes) for model in ("resnet8", "resnet8(2x)")]


def test_the_papers_numbers_come_back_as_figure_7(tmp_path, rewritten):
    (report,) = ARTEFACTS["figure7"].reports(
        rewritten(paper_cells(), **{"encoder.stem": "imagenet"})
    )
    ours, theirs = report.tables
    assert ours.header[1:] == ["Parameters (M)", *EPOCHS]
    names = [row[0] for row in ours.rows]
    assert names[:3] == ["ResNet-18", "ResNet-18 (2x)", "ResNet-18 (4x)"]
    assert names[-1] == "ResNet-152 (2x)"
    assert len(names) == 13
    assert [row[2:] for row in ours.rows[6:9]] == [row[2:] for row in theirs.rows[6:9]]
    assert ours.rows[6][2:] == ["64.5", "69.3", "76.5"]
    printed = report.data["paper"].notna()
    assert printed.sum() == 19
    assert report.data["mean"][printed].tolist() == report.data["paper"][printed].tolist()
    rows = report.data[printed].drop_duplicates("row")
    counted = rows["parameters_millions"] + [running_statistics(name) for name in rows["row"]]
    # Read off a logarithmic axis.
    assert counted.tolist() == pytest.approx(rows["paper_parameters_millions"].tolist(), rel=5e-4)
    assert "19 of 19 cells" in report.caption
    assert "100 epochs and 1,000 epochs" in report.caption
    assert "Missing cells: 0 of 19" in report.summary[1]
    assert len(write(report, tmp_path / "out")) == 5


def test_cells_are_found_by_encoder_and_training(rewritten):
    drawn = np.random.default_rng().uniform(20, 60, (3, 2)).round(2)
    rows = [
        cell(model, figure7.SHORT, float(drawn[seed, place]), seed=seed)
        for seed in range(3)
        for place, model in enumerate(["resnet8(2x)", "resnet8"])
    ]
    (found,) = ARTEFACTS["figure7"].comparisons(rewritten(rows))
    for place, name in enumerate(["ResNet-8 (2x)", "ResNet-8"]):
        estimate = found.parts[0].cells[name, figure7.SHORT].estimate()
        assert estimate.mean == pytest.approx(drawn[:, place].mean())
        half = stats.t.ppf(0.975, 2) * drawn[:, place].std(ddof=1) / np.sqrt(3)
        assert estimate.half == pytest.approx(half)
    assert len(found.parts[0].cells) == 2


def test_lengths_of_one_encoder_alone_are_neither_short_nor_long(rewritten):
    """Other sweeps train one encoder for other lengths."""
    rows = rows_of() + rows_of(training=figure7.LONG)
    rows += [cell("resnet8", figure7.SHORT, 99.0, **{"optimizer.epochs": e}) for e in (5, 5000)]
    (report,) = ARTEFACTS["figure7"].reports(rewritten(rows))
    assert "SimCLR: 100 epochs and 1,000 epochs." in report.caption
    assert "99.0" not in str(report.tables[0].rows)


def test_the_words_for_the_picture_name_the_best_encoders(rewritten):
    rows = [*rows_of(top1=40.0), cell("resnet8(4x)", figure7.SHORT, 77.7)]
    (report,) = ARTEFACTS["figure7"].reports(rewritten(rows))
    assert report.alt == (
        "Points of top-1 (%) against parameters (millions) on a logarithmic axis (SimCLR, short; "
        "SimCLR, long; Supervised), ours on shapes beside the paper’s. Highest: ours 77.7 (encoder "
        "ResNet-8 (4x), training SimCLR, short); the paper’s 78.4 (encoder ResNet-50 (4x), "
        "training Supervised)."
    )


def test_one_length_has_the_other_missing(rewritten):
    (report,) = ARTEFACTS["figure7"].reports(rewritten(rows_of()))
    assert [row[2:] for row in report.tables[0].rows] == [["50.0", "–", "–"]] * 2
    assert "SimCLR: 100 epochs." in report.caption


def test_one_encoder_is_no_figure(rewritten):
    rows = [cell("resnet8", figure7.SHORT, 50.0, **{"optimizer.epochs": e}) for e in (3, 6)]
    assert (
        ARTEFACTS["figure7"].reports(rewritten(rows + rows_of(training=figure7.SUPERVISED))) == []
    )


def test_depths_that_were_trained_in_one_way_have_nothing_missing_in_others(rewritten):
    rows = rows_of() + rows_of(training=figure7.LONG) + [cell("R18", figure7.SHORT, 60.0)]
    (report,) = ARTEFACTS["figure7"].reports(rewritten(rows))
    assert report.tables[0].rows[-1] == ["ResNet-18", "11.17", "60.0", "", ""]
    assert "Missing cells: 2 of 7" in report.summary[1]


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        # More encoders, then crops alone, then the length nearest to SimCLR's short one.
        ([{"views.policy": "simclr"}], "50.0"),
        ([{"optimizer.epochs": 500}], "50.0"),
        ([{"optimizer.epochs": 95}], "70.0"),
        ([{"optimizer.lr": 0.5, "encoder.width": 1}], "50.0"),
    ],
)
def test_one_way_of_supervised_training_stands_beside_simclr(rewritten, others, chosen):
    rows = rows_of() + rows_of(training=figure7.SUPERVISED)
    for changes in others:
        fewer = rows_of(training=figure7.SUPERVISED, top1=70.0)
        rows += [row | changes for row in fewer]
    (report,) = ARTEFACTS["figure7"].reports(rewritten(rows))
    assert {row[4] for row in report.tables[0].rows} == {chosen}


@pytest.mark.parametrize(
    "changes", [{"data.limit": 500}, {"encoder.stem": "cifar"}, {"precision": "bfloat16"}]
)
def test_supervised_runs_on_other_data_or_stems_are_not_beside_it(rewritten, changes):
    rows = rows_of() + rows_of(training=figure7.SUPERVISED, **changes)
    (report,) = ARTEFACTS["figure7"].reports(rewritten(rows))
    assert {row[4] for row in report.tables[0].rows} == {"–"}


def test_what_else_differs_parts_figures(rewritten):
    rows = rows_of() + rows_of(top1=30.0, **{"loss.temperature": 0.7})
    reports = ARTEFACTS["figure7"].reports(rewritten(rows))
    assert sorted(report.tables[0].rows[0][2] for report in reports) == ["30.0", "50.0"]
    assert len({report.name for report in reports}) == 2


def test_a_stored_sweep_is_read(tmp_path, make):
    for width in (1, 2, 4):
        shape = {"encoder.width": width}
        make.put(tmp_path, make.experiment(**shape), 40.0 + width)
        make.put(tmp_path, make.experiment(objective="supervised", **shape), 70.0 + width)
    (report,) = ARTEFACTS["figure7"].reports(analysis.load(tmp_path))
    ours = [row[2:] for row in report.tables[0].rows]
    assert ours == [[f"{40 + w:.1f}", "–", f"{70 + w:.1f}"] for w in (1, 2, 4)]


def test_networks_that_are_not_ours_come_last_by_their_own_names(rewritten):
    others = [
        cell(name, figure7.SHORT, 60.0) | {"encoder.architecture": name}
        for name in ("timm:vit_tiny_patch16_224", "mine:f")
    ]
    (report,) = ARTEFACTS["figure7"].reports(rewritten([*others, *rows_of()]))
    names = [row[0] for row in report.tables[0].rows]
    assert names[:2] == ["ResNet-8", "ResNet-8 (2x)"]
    assert set(names[2:]) == {"timm:vit_tiny_patch16_224", "mine:f"}
