"""Table 3 from a store: the paper's numbers come back, and nobody else takes probes for top-1."""

import numpy as np
import pytest
from scipy import stats

import analysis
from analysis import paper
from analysis.artefacts import ARTEFACTS, table3
from analysis.report import write
from tests.analysis.printed import EXTRA

PRINTED = paper.table("table3_transformation_prediction")


def put(store, make, probe, features, accuracy, guess, **changes):
    """A stored evaluation of a probe, as its protocol leaves it."""
    keys = {"evaluation.probe": probe, "evaluation.features": features}
    experiment = make.experiment(**(keys | {"views.extra": EXTRA[probe]} | changes))
    metrics = {
        "probe_accuracy": accuracy,
        "probe_validation_accuracy": accuracy + 0.5,
        "probe_guess": guess,
    }
    make.put(store, experiment, test_images=10_000, metrics=metrics)


@pytest.fixture
def paper_store(tmp_path, make):
    for probe, (_, row) in zip(EXTRA, PRINTED.iterrows(), strict=True):
        put(tmp_path / "runs", make, probe, "h", row["h"], row["random_guess"])
        put(tmp_path / "runs", make, probe, "z", row["g(h)"], row["random_guess"])
    return tmp_path / "runs"


def test_the_papers_numbers_come_back_as_table_3(tmp_path, paper_store):
    (report,) = ARTEFACTS["table3"].reports(analysis.load(paper_store))
    ours, theirs = report.tables
    printed = [[name, *map("{:.1f}".format, row)] for name, row in PRINTED.iterrows()]
    assert ours.rows == theirs.rows == printed
    assert ours.header[1:] == ["Random guess", "h", "g(h)"]
    assert report.data["mean"].tolist() == report.data["paper"].tolist()
    assert len(report.data) == 12
    assert "8 of 8 cells" in report.caption
    assert "Accuracy (%) on 10,000 test images of a network with one hidden" in report.caption
    assert "op-1" not in report.caption
    assert len(write(report, tmp_path / "out")) == 5


def test_cells_are_means_over_seeds_with_their_intervals(tmp_path, make):
    drawn = np.random.default_rng().uniform(40, 90, (3, 2)).round(2)
    for seed, (h, z) in enumerate(drawn):
        put(tmp_path, make, "rotation", "h", float(h), 25.0 + seed, seed=seed)
        put(tmp_path, make, "rotation", "z", float(z), 25.0 + seed, seed=seed)
    (found,) = ARTEFACTS["table3"].comparisons(analysis.load(tmp_path))
    cells = found.parts[0].cells
    half = stats.t.ppf(0.975, 2) * drawn.std(axis=0, ddof=1) / np.sqrt(3)
    for place, column in enumerate([table3.H, table3.Z]):
        estimate = cells["Rotation", column].estimate()
        assert estimate.mean == pytest.approx(drawn[:, place].mean())
        assert estimate.half == pytest.approx(half[place])
    guess = cells["Rotation", table3.GUESS]
    assert guess.by_seed == {0: 25.0, 1: 26.0, 2: 27.0}
    assert len(set(guess.run_ids)) == len(guess.run_ids) == 3


def test_a_probe_for_what_pretraining_did_not_know_is_not_in_it(tmp_path, paper_store, make):
    put(paper_store, make, "rotation", "h", 99.9, 25.0, **{"views.extra": None})
    put(paper_store, make, "color", "h", 99.9, 80.0, **{"views.extra": "noise"})
    (report,) = ARTEFACTS["table3"].reports(analysis.load(paper_store))
    assert "99.9" not in str(report.tables[0].rows)


def test_missing_cells_are_named(tmp_path, make):
    put(tmp_path, make, "noise", "h", 80.0, 50.0)
    put(tmp_path, make, "noise", "z", 60.0, 50.0)
    (report,) = ARTEFACTS["table3"].reports(analysis.load(tmp_path))
    assert report.tables[0].rows[2] == ["Orig. vs corrupted", "50.0", "80.0", "60.0"]
    assert (
        "Missing cells: 9 of 12: what to predict? Color vs grayscale, representation Random"
        in report.summary[1]
    )


def test_other_artefacts_do_not_take_probes_for_their_runs(paper_store, make):
    make.put(paper_store, make.experiment(), 50.0)
    runs = analysis.load(paper_store)
    for name, artefact in ARTEFACTS.items():
        found = artefact.reports(runs) if artefact.sweep else []
        assert bool(found) == (name == "table3"), name
    assert len(runs) == 9


def test_top1_alone_is_no_table(tmp_path, make):
    for extra in (None, "rotate"):
        make.put(tmp_path, make.experiment(**{"views.extra": extra}), 50.0)
    assert ARTEFACTS["table3"].reports(analysis.load(tmp_path)) == []
