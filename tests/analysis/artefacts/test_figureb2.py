"""Figure B.2 from a store: Table B.1's numbers come back, and so does what the paper has no numbers for."""

import itertools

import numpy as np
import pytest

import analysis
from analysis import paper
from analysis.artefacts import ARTEFACTS
from analysis.report import write
from simclr_ablate.identity import run_id
from simclr_ablate.store import Store

SQRT = paper.cells("tableB1_lr_scaling", "sqrt")


def fill(store, make, cells, rule="sqrt", **changes):
    made = []
    for (batch_size, epochs), top1 in cells.items():
        config = {
            "optimizer.batch_size": batch_size,
            "optimizer.epochs": epochs,
            "optimizer.lr_rule": rule,
        }
        made.append(make.experiment(**config, **changes))
        make.put(store, made[-1], top1)
    return list(map(run_id, made))


def test_the_papers_numbers_come_back_as_figure_b2(tmp_path, make):
    fill(tmp_path / "runs", make, SQRT)
    (report,) = ARTEFACTS["figureB2"].reports(analysis.load(tmp_path / "runs"))
    ours, theirs = report.tables
    table = paper.entries()["tableB1_lr_scaling"]
    printed = [
        [f"{size:,}", *map("{:.1f}".format, values)]
        for size, values in zip(table["rows"], table["sqrt"], strict=True)
    ]
    assert ours.rows == theirs.rows == printed
    assert report.data["mean"].tolist() == report.data["paper"].tolist()
    assert "Spearman’s ρ with the paper: 1.00" in report.caption
    assert report.title == "Figure B.2 on shapes, ResNet-8"
    assert len(write(report, tmp_path / "out")) == 5


def test_what_goes_beyond_table_b1_has_no_number_of_the_papers(tmp_path, make):
    sizes, lengths = [256 * 2**k for k in range(8)], [50 * 2**k for k in range(7)]
    drawn = np.random.default_rng().uniform(50, 70, len(sizes) * len(lengths))
    cells = dict(zip(itertools.product(sizes, lengths), map(float, drawn), strict=True))
    fill(tmp_path, make, cells)
    (report,) = ARTEFACTS["figureB2"].reports(analysis.load(tmp_path))
    ours, theirs = report.tables
    assert ours.header[1:] == [f"{length:,}" for length in lengths]
    assert theirs.header[1:] == ["100", "200", "400", "800"]
    assert [row[0] for row in theirs.rows][-1] == "8,192"
    assert "24 of 24 cells" in report.caption
    assert "Its only printed numbers are those of Table B.1." in report.caption
    beyond = ~report.data["row"].isin(str(size) for size, _ in SQRT)
    beyond |= ~report.data["column"].isin(str(length) for _, length in SQRT)
    assert beyond.sum() == len(cells) - len(SQRT)
    assert report.data["paper"][beyond].isna().all()
    assert report.data["mean"].tolist() == pytest.approx(list(cells.values()))


def test_linear_scaling_and_the_runs_of_table_b1_alone_are_not_in_it(tmp_path, make):
    long = {(256, 3): 50.0, (256, 48): 60.0}
    ids = fill(tmp_path, make, long)
    others = fill(tmp_path, make, {(512, 3): 40.0, (512, 6): 41.0})
    others += fill(tmp_path, make, {(256, 3): 30.0, (256, 48): 31.0}, rule="linear")
    Store(tmp_path).record_sweep("long_training", ids)
    Store(tmp_path).record_sweep("batch_size", [ids[0], *others])
    runs = analysis.load(tmp_path)
    (report,) = ARTEFACTS["figureB2"].reports(runs)
    assert report.data["mean"].dropna().tolist() == [50.0, 60.0]
    assert "No cell can be ranked" in report.caption
    (linear,) = ARTEFACTS["figure9"].reports(runs)
    assert linear.data["mean"].dropna().tolist() == [30.0, 31.0]
