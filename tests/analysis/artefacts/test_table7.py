"""Tables 7 and B.4 from a store: the paper's numbers come back, with the baseline on the same labels beside them."""

import math

import numpy as np
import pytest
from scipy import stats

import analysis
from analysis.artefacts import ARTEFACTS, table7, tableb4
from analysis.encoders import shape
from analysis.report import write

ARTEFACT = {"table7": ("top5", table7.published()), "tableB4": ("top1", tableb4.published())}
SHARES = {name: share for share, name in table7.SHARES.items()}


def put(store, make, architecture, labels, top1, top5, **changes):
    depth, width = shape(architecture)
    few = {"evaluation.protocol": "few_labels", "evaluation.labels": labels, "evaluation.lr": 0.05}
    few["evaluation.epochs"] = 60 if labels == 0.01 else 30
    encoder = {"encoder.architecture": f"resnet{depth}", "encoder.width": width}
    experiment = make.experiment(**encoder | few | changes)
    make.put(store, experiment, metrics={"top1": top1, "top5": top5, "validation_top1": top1})


def fill(store, make):
    """SimCLR's numbers of both tables, and the baseline's at two learning rates."""
    top5, top1 = ARTEFACT["table7"][1], ARTEFACT["tableB4"][1]
    for (row, share), value in top5.items():
        method, architecture = row
        if method == table7.SIMCLR:
            put(store, make, architecture, SHARES[share], top1[row, share], value)
        if method == table7.BASELINE:
            for lr, less in ((0.05, 0.0), (0.5, 3.0)):
                random = {"objective": "none", "views.policy": "none", "evaluation.lr": lr}
                numbers = top1[row, share] - less, value - less
                put(store, make, architecture, SHARES[share], *numbers, **random)


@pytest.mark.parametrize("name", ARTEFACT)
def test_the_papers_numbers_come_back(tmp_path, make, name):
    fill(tmp_path / "runs", make)
    (report,) = ARTEFACTS[name].reports(analysis.load(tmp_path / "runs"))
    ours, theirs = report.tables
    for row in ours.rows:
        method = row[0]
        if method == table7.SIMCLR:
            assert row in theirs.rows
        elif method.endswith("lr 0.05"):
            assert [table7.BASELINE, *row[1:]] in theirs.rows
    assert [row[0] for row in ours.rows] == [
        *[table7.SIMCLR] * 3,
        f"{table7.BASELINE}, lr 0.05",
        f"{table7.BASELINE}, lr 0.5",
    ]
    assert len(theirs.rows) == len({row for row, _ in ARTEFACT[name][1]})
    assert ours.header == ["Method", "Architecture", "1%", "10%"]
    assert "60 epochs on 1% and 30 epochs on 10% of the labels" in report.caption
    assert {path.suffix for path in write(report, tmp_path / "out")} == {
        *(".png", ".pdf", ".csv", ".md", ".tex"),
    }


@pytest.mark.parametrize("name", ARTEFACT)
def test_unpublished_numbers_stay_so_and_simclr_alone_is_ranked(tmp_path, make, name):
    fill(tmp_path, make)
    (report,) = ARTEFACTS[name].reports(analysis.load(tmp_path))
    cells = report.data[report.data["kind"] == "cell"].set_index(["row", "column"])
    assert math.isnan(cells.loc[("UDA (w. RandAug) ResNet-50", "1%"), "paper"])
    assert "6 of " in report.caption.splitlines()[-1]
    assert "1.00" in report.caption.splitlines()[-1]


def test_intervals_are_over_seeds(tmp_path, make):
    drawn = np.random.default_rng().uniform(20, 60, 4)
    for seed, top1 in enumerate(drawn):
        put(tmp_path, make, "ResNet-8", 0.1, top1, top1 + 10, seed=seed)
    (report,) = ARTEFACTS["tableB4"].reports(analysis.load(tmp_path))
    cells = report.data[report.data["kind"] == "cell"].set_index(["row", "column"])
    half = stats.t.ppf(0.975, 3) * drawn.std(ddof=1) / 2
    cell = cells.loc[("SimCLR ResNet-8", "10%")]
    assert cell["mean"] == pytest.approx(drawn.mean())
    assert cell["half_interval"] == pytest.approx(half)


def test_other_shares_and_other_data_are_no_part_of_it(tmp_path, make):
    fill(tmp_path, make)
    before = ARTEFACTS["table7"].reports(analysis.load(tmp_path))[0].tables
    put(tmp_path, make, "ResNet-50", 0.5, 99.0, 99.0)
    other = {"data.limit": 1000, "objective": "none", "views.policy": "none"}
    put(tmp_path, make, "ResNet-50", 0.1, 99.0, 99.0, **other)
    assert ARTEFACTS["table7"].reports(analysis.load(tmp_path))[0].tables == before


def test_imported_encoders_have_rows_of_their_own(tmp_path, make):
    fill(tmp_path, make)
    of = {"objective": "imported", "encoder.weights": "/x", "encoder.fingerprint": "a" * 24}
    put(tmp_path, make, "ResNet-50", 0.1, 70.0, 90.0, **of, **{"encoder.label": "theirs"})
    for name, expected in (("table7", "90.0"), ("tableB4", "70.0")):
        (report,) = ARTEFACTS[name].reports(analysis.load(tmp_path))
        assert report.tables[0].rows[3] == ["theirs", "ResNet-50", "–", expected]
