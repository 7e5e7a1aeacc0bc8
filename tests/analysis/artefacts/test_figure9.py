"""Figure 9 and Table B.1 from a store: the paper's numbers come back, and rules are not mixed."""

import math

import numpy as np
import pytest
from scipy import stats

import analysis
from analysis import paper
from analysis.artefacts import ARTEFACTS
from analysis.report import write

BARS = paper.cells("fig9_batch_size_epochs")
LINEAR, SQRT = (paper.cells("tableB1_lr_scaling", rule) for rule in ("linear", "sqrt"))


def fill(store, make, cells, rule="linear", lr=0.3, **changes):
    for (batch_size, epochs), top1 in cells.items():
        config = {
            "optimizer.batch_size": batch_size,
            "optimizer.epochs": epochs,
            "optimizer.lr_rule": rule,
            "optimizer.lr": lr,
        }
        make.put(store, make.experiment(**config, **changes), top1)


def printed(cells):
    rows = {}
    for (batch_size, _), value in cells.items():
        rows.setdefault(batch_size, [f"{batch_size:,}"]).append(f"{value:.1f}")
    return list(rows.values())


def test_the_papers_numbers_come_back_as_figure_9(tmp_path, make):
    fill(tmp_path / "runs", make, BARS)
    (report,) = ARTEFACTS["figure9"].reports(analysis.load(tmp_path / "runs"))
    ours, theirs = report.tables
    assert ours.rows == theirs.rows == printed(BARS)
    assert report.data["mean"].tolist() == report.data["paper"].tolist() == list(BARS.values())
    assert "60 of 60 cells" in report.caption
    assert report.title == "Figure 9 on shapes, ResNet-8"
    assert len(write(report, tmp_path / "out")) == 5


def test_the_papers_numbers_come_back_as_table_b1(tmp_path, make):
    fill(tmp_path / "runs", make, LINEAR)
    fill(tmp_path / "runs", make, SQRT, "sqrt", 0.075)
    (report,) = ARTEFACTS["tableB1"].reports(analysis.load(tmp_path / "runs"))
    assert [table.rows for table in report.tables] == [
        *[printed(LINEAR)] * 2,
        *[printed(SQRT)] * 2,
    ]
    assert report.data["mean"].tolist() == report.data["paper"].tolist()
    assert report.title == "Table B.1 on shapes, ResNet-8"
    assert "48 of 48 cells" in report.caption
    assert len(write(report, tmp_path / "out")) == 5


def test_table_b1_counts_the_cells_in_which_the_rules_clearly_differ(tmp_path, make):
    fill(tmp_path, make, LINEAR)
    fill(tmp_path, make, SQRT, "sqrt", 0.075)
    (report,) = ARTEFACTS["tableB1"].reports(analysis.load(tmp_path))
    needed = 1.96 * math.sqrt(2 * 65 * 35 / 50_000)  # on 50,000 images, near 65%
    gaps = [SQRT[place] - LINEAR[place] for place in LINEAR]
    better, worse = sum(gap > needed for gap in gaps), sum(gap < -needed for gap in gaps)
    assert (
        f"better (95% margin) in {better} and clearly worse in {worse} of the 24" in report.caption
    )


def test_rows_and_columns_are_those_of_the_runs_in_order(tmp_path, make):
    sizes, lengths = [256, 32, 1024, 64], [12, 3]
    cells = {(size, length): 50.0 for size in sizes for length in lengths}
    del cells[64, 12]
    fill(tmp_path, make, cells)
    (report,) = ARTEFACTS["figure9"].reports(analysis.load(tmp_path))
    ours, _ = report.tables
    assert ours.header == ["Batch size / Epochs", "3", "12"]
    assert [row[0] for row in ours.rows] == ["32", "64", "256", "1,024"]
    assert ours.rows[1] == ["64", "50.0", "–"]
    assert "Missing cells: 1 of 8: batch size 64, epochs 12." in report.summary
    assert "No cell can be ranked against the paper’s" in report.caption


def test_a_rule_without_the_other_is_figure_9_only(tmp_path, make):
    fill(tmp_path, make, LINEAR)
    runs = analysis.load(tmp_path)
    assert len(ARTEFACTS["figure9"].reports(runs)) == 1
    assert ARTEFACTS["tableB1"].reports(runs) == []


def test_rules_are_compared_only_where_their_learning_rates_meet(tmp_path, make):
    few = {(256, 3): 50.0, (512, 3): 51.0}
    fill(tmp_path, make, few, lr=5e-3)
    fill(tmp_path, make, {place: value - 10 for place, value in few.items()}, lr=1e-2)
    fill(tmp_path, make, {place: value + 10 for place, value in few.items()}, "sqrt", 3.125e-4)
    fill(tmp_path, make, few, "sqrt", 1.0)
    runs = analysis.load(tmp_path)
    (report,) = ARTEFACTS["tableB1"].reports(runs)
    assert report.name == "tableb1-shapes"
    by_part = report.data.groupby("part")["mean"].max()
    assert by_part.to_dict() == {"linear": 51.0, "square root": 61.0}
    assert len(ARTEFACTS["figure9"].reports(runs)) == 2


def test_table_b1_has_the_lengths_of_both_rules(tmp_path, make):
    fill(tmp_path, make, BARS)
    fill(tmp_path, make, SQRT, "sqrt", 0.075)
    (report,) = ARTEFACTS["tableB1"].reports(analysis.load(tmp_path))
    assert report.tables[0].header[1:] == ["100", "200", "400", "800"]


@pytest.mark.parametrize("key", ["precision", "optimizer.micro_batch", "encoder.width"])
def test_settings_are_not_mixed(tmp_path, make, key):
    other = {"precision": "bfloat16", "optimizer.micro_batch": 32, "encoder.width": 2}
    fill(tmp_path, make, {(256, 3): 50.0, (512, 3): 51.0})
    fill(tmp_path, make, {(256, 3): 30.0, (512, 3): 31.0}, **{key: other[key]})
    reports = ARTEFACTS["figure9"].reports(analysis.load(tmp_path))
    assert sorted(report.data["mean"].tolist()[:2] for report in reports) == [[30, 31], [50, 51]]
    assert all(report.data["mean"].notna().sum() == 2 for report in reports)
    assert len({report.name for report in reports}) == 2


def test_the_words_for_the_bars_name_the_best_cells(tmp_path, make):
    cells = dict(zip(BARS, np.random.default_rng().uniform(10, 60, len(BARS)), strict=True))
    cells[512, 300] = 60.7
    fill(tmp_path, make, cells)
    (report,) = ARTEFACTS["figure9"].reports(analysis.load(tmp_path))
    assert report.alt.startswith(
        "Bars of top-1 (%) by batch size and epochs, ours on shapes beside the paper’s. "
        "Highest: ours 60.7 (batch size 512, epochs 300); "
    )
    assert "; the paper’s 69.3 (batch size 2,048, epochs 1,000); Spearman’s ρ" in report.alt


def test_the_words_for_the_maps_name_the_best_cells_and_their_rule(tmp_path, make):
    for seed, best in enumerate((70.0, 72.0)):
        fill(tmp_path, make, {(256, 3): 50.0, (512, 3): 51.0}, lr=5e-3, seed=seed)
        fill(tmp_path, make, {(256, 3): best, (512, 3): 61.0}, "sqrt", 3.125e-4, seed=seed)
    (report,) = ARTEFACTS["tableB1"].reports(analysis.load(tmp_path))
    half = stats.t.ppf(0.975, 1) * 1.0
    assert report.alt == (
        "Heat maps of top-1 (%), rows: batch size, columns: epochs, ours on shapes beside the "
        f"paper’s. Highest: ours 71.0 ± {half:.1f} (batch size 256, epochs 3, square root); "
        "the paper’s 69.1 (batch size 4,096, epochs 800, square root)."
    )
