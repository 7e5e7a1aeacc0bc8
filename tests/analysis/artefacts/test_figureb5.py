"""Figures B.5 and B.6 from a store: points, and correlations that are scipy's."""

import numpy as np
import pytest
from scipy import stats

import analysis
from analysis.artefacts import ARTEFACTS, figureb5
from analysis.report import write

LENGTHS = (50, 100, 200, 400, 800)
ENCODERS = tuple((f"resnet{depth}", width) for depth in (18, 34, 50) for width in (1, 2))
SHARES = {"1%": 0.01, "10%": 0.1}


def put(store, make, column, top1, **changes):
    if column == figureb5.LINEAR:
        evaluation = {"evaluation.protocol": "linear_sgd"}
    else:
        evaluation = {"evaluation.protocol": "few_labels", "evaluation.labels": SHARES[column]}
        evaluation |= {"evaluation.lr": 0.05, "evaluation.epochs": 60 if column == "1%" else 30}
    make.put(store, make.experiment(**evaluation | changes), top1)


ROWS = {
    "figureB5": [{"optimizer.epochs": length} for length in LENGTHS],
    "figureB6": [
        {"encoder.architecture": depth, "encoder.width": width} for depth, width in ENCODERS
    ],
}


@pytest.mark.parametrize("name", ROWS)
def test_correlations_are_scipys_of_the_means_over_seeds(tmp_path, make, name):
    rng = np.random.default_rng()
    rows = ROWS[name]
    drawn = {column: rng.uniform(40, 70, (len(rows), 2)) for column in (figureb5.LINEAR, *SHARES)}
    for column, values in drawn.items():
        for changes, of_row in zip(rows, values, strict=True):
            for seed, top1 in enumerate(of_row):
                put(tmp_path / "runs", make, column, top1, seed=seed, **changes)
    (report,) = ARTEFACTS[name].reports(analysis.load(tmp_path / "runs"))
    found = report.data[report.data["kind"].isin(["pearson", "spearman"])]
    found = found.set_index(["column", "kind"])["mean"]
    linear = drawn[figureb5.LINEAR].mean(axis=1)
    for share in SHARES:
        other = drawn[share].mean(axis=1)
        r, rho = stats.pearsonr(linear, other).statistic, stats.spearmanr(linear, other).statistic
        assert found[share, "pearson"] == pytest.approx(r)
        assert found[share, "spearman"] == pytest.approx(rho)
        assert f"Pearson’s r {r:.2f} (" in report.caption
        assert f"Spearman’s ρ {rho:.2f} (" in report.caption
    assert {path.suffix for path in write(report, tmp_path / "out")} == {
        *(".png", ".pdf", ".csv", ".md", ".tex"),
    }


def test_points_are_where_both_evaluations_are(tmp_path, make):
    for length in LENGTHS:
        put(tmp_path, make, figureb5.LINEAR, length / 20, **{"optimizer.epochs": length})
    for length in LENGTHS[:3]:
        put(tmp_path, make, "1%", length / 40, **{"optimizer.epochs": length})
    (comparison,) = ARTEFACTS["figureB5"].comparisons(analysis.load(tmp_path))
    (part,) = comparison.parts
    panel = figureb5.panel(part, "1%")
    assert list(panel.curves[0].x) == [2.5, 5, 10]
    assert list(panel.curves[0].y) == [1.25, 2.5, 5]
    assert [text for *_, text in panel.labels] == ["50", "100", "200"]
    assert "over 3 points: Pearson’s r 1.00 (too few points for an interval)" in comparison.remark


def test_two_points_are_no_figure(tmp_path, make):
    for length in LENGTHS[:2]:
        for column in (figureb5.LINEAR, "1%"):
            put(tmp_path, make, column, 50.0 + length, **{"optimizer.epochs": length})
    assert ARTEFACTS["figureB5"].reports(analysis.load(tmp_path)) == []
    assert ARTEFACTS["figureB6"].reports(analysis.load(tmp_path)) == []
