"""Figure B.1 from a store: top-5 of Figure 9's runs, without a place for numbers that the paper does not publish."""

import math

import numpy as np
import pytest

import analysis
from analysis import paper
from analysis.artefacts import ARTEFACTS
from analysis.artefacts.figureb1 import part
from analysis.page import section
from analysis.presentation import bars, maps, tables
from analysis.report import write

ENTRY = paper.entries()["figB1_top5_batch_epochs"]
PLACES = [(size, epochs) for size in ENTRY["rows"] for epochs in ENTRY["columns"]]


def put(store, make, batch_size, epochs, top5, rule="linear", **changes):
    config = {
        "optimizer.batch_size": batch_size,
        "optimizer.epochs": epochs,
        "optimizer.lr_rule": rule,
    }
    found = {"top1": top5 / 2, "top5": top5, "validation_top1": top5 / 2}
    make.put(store, make.experiment(**config, **changes), metrics=found)


def fill(store, make, seeds=1):
    drawn = np.random.default_rng().uniform(60, 90, (seeds, len(PLACES)))
    for seed, values in enumerate(drawn):
        for place, top5 in zip(PLACES, values, strict=True):
            put(store, make, *place, float(top5), seed=seed)
    return drawn


def random_encoder(store, make, top5):
    make.put(store, make.random_encoder(), metrics={"top1": 1.0, "top5": top5})


def test_the_numbers_are_top_5(tmp_path, make):
    drawn = fill(tmp_path / "runs", make, 2)
    (report,) = ARTEFACTS["figureB1"].reports(analysis.load(tmp_path / "runs"))
    cells = report.data[report.data["kind"] == "cell"]
    assert cells["mean"].to_numpy() == pytest.approx(drawn.mean(axis=0))
    assert cells["column"].tolist() == [str(epochs) for _, epochs in PLACES]
    assert report.title == "Figure B.1 on shapes, ResNet-8"
    assert "Top-5 (%) on 50,000 test images of a linear classifier" in report.caption
    assert len(write(report, tmp_path / "out")) == 5


def test_what_the_paper_does_not_publish_has_no_place_anywhere(tmp_path, make):
    fill(tmp_path / "runs", make)
    runs = analysis.load(tmp_path / "runs")
    artefact = ARTEFACTS["figureB1"]
    (comparison,) = artefact.comparisons(runs)
    (drawn,) = bars(comparison, comparison.parts[0])
    assert drawn.title == "Ours: shapes"
    assert [each.title for each in maps(comparison)] == ["Ours: shapes"]
    assert len(tables(comparison, comparison.parts[0])) == 1
    (report,) = artefact.reports(runs)
    (panel,) = report.figure.axes
    assert panel.get_title(loc="left") + panel.get_title() == "Ours: shapes"
    (table,) = report.tables
    assert table.title == "Ours: shapes, top-5 (%)"
    assert report.data["paper"].isna().all()
    assert set(report.data["row"]) == {str(size) for size in ENTRY["rows"]}
    assert "The paper publishes no numbers for Figure B.1." in report.summary
    html = section(artefact, report, write(report, tmp_path / "out"), runs, []).html
    texts = [report.caption, report.alt, *report.notes, *report.summary, html]
    for text in texts:
        for words in ("ρ", "The paper:", "the paper’s", "not published"):
            assert words not in text


def test_top_5_is_tested_against_the_random_encoders(tmp_path, make):
    random_encoder(tmp_path, make, 70.0)
    needed = 1.96 * math.sqrt(2 * 0.7 * 0.3 / 50_000) * 100
    above = {32: 70 + 1.1 * needed, 64: 70 + 0.9 * needed, 128: 50.0}
    for size, top5 in above.items():
        put(tmp_path, make, size, 3, top5)
    (report,) = ARTEFACTS["figureB1"].reports(analysis.load(tmp_path))
    cells = report.data[report.data["kind"] == "cell"]
    assert cells["above_random"].tolist() == [True, False, False]
    assert "Random encoder: 70.0. Not clearly above it (○, 95% margin): 2 of 3 cells." in (
        report.caption
    )


def test_square_root_scaling_and_runs_without_top_5_have_no_bar(tmp_path, make):
    put(tmp_path, make, 256, 3, 80.0)
    put(tmp_path, make, 512, 3, 81.0)
    put(tmp_path, make, 256, 6, 90.0, rule="sqrt")
    per_class = make.experiment(**{"optimizer.batch_size": 1024, "optimizer.lr_rule": "linear"})
    make.put(tmp_path, per_class, metrics={"top1": 40.0})
    (report,) = ARTEFACTS["figureB1"].reports(analysis.load(tmp_path))
    assert report.data["mean"].tolist() == [80.0, 81.0]


def test_its_runs_are_figure_9s(tmp_path, make):
    fill(tmp_path, make)
    runs = analysis.load(tmp_path)
    (top5,), (top1,) = (ARTEFACTS[name].comparisons(runs) for name in ("figureB1", "figure9"))
    assert top5.setting.config == top1.setting.config
    ids = [{p: c.run_ids for p, c in each.parts[0].cells.items()} for each in (top5, top1)]
    assert ids[0] == ids[1]
    assert part(runs).paper == {}
