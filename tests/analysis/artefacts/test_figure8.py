"""Figure 8 from a store: the paper's numbers come back, and h stands against z."""

import numpy as np
import pytest
from scipy import stats

import analysis
from analysis import paper
from analysis.artefacts import ARTEFACTS, figure8
from analysis.report import write
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.schema import Encoder

PRINTED = paper.cells("fig8_projection_head")
KINDS = {"Linear": "linear", "Non-linear": "nonlinear", "None": "none"}
RESNET50 = {"encoder.architecture": "resnet50"}


def put(store, make, kind, dim, top1, **changes):
    make.put(store, make.experiment(**{"head.kind": kind, "head.dim": dim}, **changes), top1)


@pytest.fixture
def paper_store(tmp_path, make):
    for (row, column), value in PRINTED.items():
        if value == value:
            # Without a head its dimension means nothing.
            dim = column if row != "None" else 128
            put(tmp_path / "runs", make, KINDS[row], dim, value, **RESNET50)
    return tmp_path / "runs"


def test_the_papers_numbers_come_back_as_figure_8(tmp_path, paper_store):
    (report,) = ARTEFACTS["figure8"].reports(analysis.load(paper_store))
    ours, theirs = report.tables[:2]
    table = paper.table("fig8_projection_head")
    printed = [[row, *map("{:.1f}".format, table.loc[row])] for row in ("Linear", "Non-linear")]
    assert ours.rows[:2] == theirs.rows[:2] == printed
    assert ours.rows[2] == ["None", *[""] * 6, "50.2"]
    assert theirs.rows[2] == ["None", *["–"] * 6, "50.2"]
    assert ours.header[1:] == ["32", "64", "128", "256", "512", "1,024", "2,048"]
    cells = report.data[report.data["part"] == ""]
    assert cells["mean"].tolist() == cells["paper"].tolist()
    assert len(cells) == 15
    assert "15 of 15 cells" in report.caption
    gap = np.mean(table.loc["Non-linear"] - table.loc["Linear"])
    assert f"nonlinear over linear {gap:.1f} (paper: about 3)" in report.caption
    assert len(write(report, tmp_path / "out")) == 5


def test_h_against_z_is_a_difference_within_seeds(tmp_path, make):
    h, z = np.random.default_rng(0).uniform(20, 60, (2, 3, 2)).round(2)
    for seed in range(3):
        for place, dim in enumerate([8, 16]):
            put(tmp_path, make, "nonlinear", dim, float(h[seed, place]), seed=seed)
            on_z = {"evaluation.features": "z", "seed": seed}
            put(tmp_path, make, "nonlinear", dim, float(z[seed, place]), **on_z)
    make.put(tmp_path, make.random_encoder(), 10.0)
    (report,) = ARTEFACTS["figure8"].reports(analysis.load(tmp_path))
    rows = report.data[report.data["row"] == "h - z"]
    half = stats.t.ppf(0.975, 2) * (h - z).std(axis=0, ddof=1) / np.sqrt(3)
    assert rows["mean"].to_numpy() == pytest.approx((h - z).mean(axis=0))
    assert rows["half_interval"].to_numpy() == pytest.approx(half)
    assert "Random encoder: 10.0" in report.caption
    assert f"h over z {(h - z).mean():.1f} ±" in report.caption
    # z is another representation than the random encoder's h.
    assert report.data.loc[report.data["row"] == "z", "above_random"].isna().all()


def test_where_nothing_is_to_be_run_nothing_is_missing(tmp_path, make):
    put(tmp_path, make, "linear", 8, 50.0)
    put(tmp_path, make, "nonlinear", 16, 52.0)
    (report,) = ARTEFACTS["figure8"].reports(analysis.load(tmp_path))
    missing = [row[1:] for row in report.tables[0].rows]
    assert missing == [["50.0", "–", "–"], ["–", "52.0", "–"], ["", "", "–"]]
    assert report.tables[0].header[1:] == ["8", "16", "128"]


def test_one_head_is_no_figure(tmp_path, make):
    for temperature in (0.1, 0.5):
        make.put(tmp_path, make.experiment(**{"loss.temperature": temperature}), 50.0)
    assert ARTEFACTS["figure8"].reports(analysis.load(tmp_path)) == []


def test_the_width_of_h_is_the_encoders():
    architectures = Encoder.__dataclass_fields__["architecture"].metadata["choices"]
    for architecture, width in [*((name, 1) for name in architectures), ("resnet8", 2)]:
        dim = build_encoder(architecture, width, "cifar").dim
        assert figure8.dimension("none", 1, architecture, width) == dim
        assert figure8.dimension("linear", 1, architecture, width) == 1
