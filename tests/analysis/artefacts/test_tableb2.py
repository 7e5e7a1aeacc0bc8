"""Table B.2 and the text of App. B.2 from a store: the paper's numbers come back."""

import math

import pytest

import analysis
from analysis.artefacts import ARTEFACTS, tableb2
from analysis.encoders import shape
from analysis.report import write

SHARES = {"1%": 0.01, "10%": 0.1, "100%": None}
EXTRA = {tableb2.DEFAULT: None, tableb2.BROADER: "broader"}


def put(store, make, encoder, views, metrics, **changes):
    depth, width = shape(encoder)
    of = {"encoder.architecture": f"resnet{depth}", "encoder.width": width}
    of |= {"views.extra": EXTRA[views], "optimizer.epochs": 1000}
    top1 = metrics["top1"]
    numbers = {"top5": math.nan, "validation_top1": top1} | metrics
    make.put(store, make.experiment(**of | changes), metrics=numbers)


def fill(store, make):
    for (row, _), top1 in tableb2.linear_published().items():
        put(store, make, *row, {"top1": top1}, **{"evaluation.protocol": "linear_sgd"})
    tuned = {}
    for (row, column), value in tableb2.published().items():
        share, metric = column.split()
        tuned.setdefault((row, share), {})[tableb2.METRICS[metric]] = value
    for (row, share), metrics in tuned.items():
        few = {"evaluation.protocol": "few_labels", "evaluation.labels": SHARES[share]}
        few |= {"evaluation.epochs": 60 if share == "1%" else 30, "evaluation.lr": 0.05}
        put(store, make, *row, metrics, **few)


def test_the_papers_numbers_come_back(tmp_path, make):
    fill(tmp_path / "runs", make)
    (report,) = ARTEFACTS["tableB2"].reports(analysis.load(tmp_path / "runs"))
    linear, linear_paper, tuned, tuned_paper = report.tables
    assert linear.rows == linear_paper.rows
    assert [row for row in tuned.rows if row[1] == tableb2.BROADER] == [
        row for row in tuned_paper.rows if row[1] == tableb2.BROADER
    ]
    widest = ["ResNet-50 (4x)", tableb2.DEFAULT]
    assert [r for r in tuned.rows if r[:2] == widest] == [
        r for r in tuned_paper.rows if r[:2] == widest
    ]
    assert linear.header == ["Encoder", "Augmentations", "Top-1 (%)"]
    assert tuned.header[2:] == [f"{share} {m}" for share in SHARES for m in tableb2.METRICS]
    assert report.data["mean"].count() == 6 + 18 + 2
    both = report.data.dropna(subset=["mean", "paper"])
    assert both["mean"].tolist() == pytest.approx(both["paper"].tolist())
    assert {path.suffix for path in write(report, tmp_path / "out")} == {
        *(".png", ".pdf", ".csv", ".md", ".tex"),
    }


def test_the_texts_gain_is_the_difference():
    printed = tableb2.linear_published()
    gains = [
        round(printed[(encoder, tableb2.BROADER), "Top-1 (%)"] - top1, 1)
        for ((encoder, views), _), top1 in printed.items()
        if views == tableb2.DEFAULT
    ]
    assert gains == [0.7, 0.2, 0.3]


def test_default_augmentations_alone_are_no_report(tmp_path, make):
    put(tmp_path, make, "ResNet-8", tableb2.DEFAULT, {"top1": 40.0})
    by_sgd = {"evaluation.protocol": "linear_sgd"}
    for encoder in ("ResNet-8", "ResNet-18"):
        put(tmp_path, make, encoder, tableb2.DEFAULT, {"top1": 40.0}, **by_sgd)
    assert ARTEFACTS["tableB2"].reports(analysis.load(tmp_path)) == []


def test_linear_evaluation_alone_is_enough(tmp_path, make):
    by_sgd = {"evaluation.protocol": "linear_sgd"}
    for views, top1 in ((tableb2.DEFAULT, 40.0), (tableb2.BROADER, 41.0)):
        put(tmp_path, make, "ResNet-8", views, {"top1": top1}, **by_sgd)
    (report,) = ARTEFACTS["tableB2"].reports(analysis.load(tmp_path))
    assert [row[2] for row in report.tables[0].rows] == ["40.0", "41.0"]
