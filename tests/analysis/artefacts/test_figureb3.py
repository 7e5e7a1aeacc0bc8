"""Figure B.3 from runs with weights: eigenvalues, effective ranks, and which heads qualify."""

import os

import numpy as np
import pytest
import torch
from scipy import stats

import analysis
from analysis import eigenvalues
from analysis.artefacts import ARTEFACTS, figureb3
from analysis.report import LeftOut, write

SQUARE = {"head.kind": "linear", "head.dim": 128}


def put(store, make, matrix=None, **changes):
    """A finished run whose linear head has the matrix."""
    experiment = make.experiment(**(SQUARE | changes))
    run = make.put(store, experiment, 50.0)
    _, head = make.keep_weights(run, experiment, seed=experiment.seed)
    if matrix is not None:
        head.output.weight.data = torch.tensor(matrix, dtype=torch.float32)
        torch.save({"encoder": {}, "head": head.state_dict()}, run.encoder_path)
    return run, head.output.weight.detach().double().numpy()


def spectrum(squares):
    return figureb3.Spectrum(0, "run", np.asarray(squares, dtype=float))


def test_the_eigenvalues_are_those_that_the_matrix_was_built_of(tmp_path, make):
    """Blocks [[a, b], [-b, a]] have eigenvalues a ± ib."""
    rng = np.random.default_rng()
    real, imaginary = rng.uniform(0.5, 2, (2, 64))
    blocks = np.zeros((128, 128))
    for place, (a, b) in enumerate(zip(real, imaginary, strict=True)):
        corner = slice(2 * place, 2 * place + 2)
        blocks[corner, corner] = [[a, b], [-b, a]]
    turned, _ = np.linalg.qr(rng.normal(size=(128, 128)))
    put(tmp_path, make, turned @ blocks @ turned.T)
    (report,) = ARTEFACTS["figureB3"].reports(analysis.load(tmp_path))
    expected = np.sort(np.repeat(real**2, 2))[::-1]
    assert report.data["squared_real_part"].to_numpy() == pytest.approx(expected, rel=1e-4)
    rank = expected.sum() ** 2 / (expected**2).sum()
    assert report.data["effective_rank"].to_numpy() == pytest.approx(np.full(128, rank), rel=1e-4)
    assert f"Effective rank: {rank:.1f} of 128" in report.caption
    assert report.alt.startswith("Lines of squared real part on linear and logarithmic axes")
    assert report.alt.endswith(f"ours on shapes. Effective rank: {rank:.1f} of 128.")
    assert "few large eigenvalues, approximately low rank" in report.caption


def test_seeds_have_a_line_each_and_their_mean_its_interval(tmp_path, make):
    ranks = []
    for seed in range(3):
        squares = np.linalg.eigvals(put(tmp_path, make, seed=seed)[1]).real ** 2
        ranks.append(squares.sum() ** 2 / (squares**2).sum())
    (report,) = ARTEFACTS["figureB3"].reports(analysis.load(tmp_path))
    half = stats.t.ppf(0.975, 2) * np.std(ranks, ddof=1) / np.sqrt(3)
    assert [row[0] for row in report.tables[0].rows] == ["0", "1", "2", "mean"]
    assert report.tables[0].rows[-1][1] == f"{np.mean(ranks):.1f} ± {half:.1f}"
    assert len(report.figure.axes[0].lines) == len(report.figure.axes[1].lines) == 3
    assert [axes.get_yscale() for axes in report.figure.axes] == ["linear", "log"]
    assert len(write(report, tmp_path / "out")) == 5


def test_a_matrix_of_normal_draws_has_half_the_rank_that_it_could_have():
    matrix = np.random.default_rng(0).normal(size=(600, 600))
    squares = np.sort(np.linalg.eigvals(matrix).real ** 2)[::-1]
    assert spectrum(squares).rank == pytest.approx(300, rel=0.05)


def test_ranks_of_known_spectra():
    equal, single = spectrum([2.0] * 10), spectrum([3.0] + [0.0] * 9)
    assert (equal.rank, equal.holding_most, equal.largest) == (10, 9, 10)
    assert (single.rank, single.holding_most, single.largest) == (1, 1, 100)


@pytest.mark.parametrize(
    "changes",
    [{"head.dim": 64}, {"head.kind": "nonlinear"}, {"encoder.width": 2}, {"objective": "none"}],
)
def test_other_heads_have_no_such_figure(tmp_path, make, changes):
    put(tmp_path, make, **changes)
    assert ARTEFACTS["figureB3"].reports(analysis.load(tmp_path)) == []


def test_a_run_that_kept_no_weights_has_none_either(tmp_path, make):
    make.put(tmp_path, make.experiment(**SQUARE), 50.0)
    assert ARTEFACTS["figureB3"].reports(analysis.load(tmp_path)) == []


def test_two_evaluations_of_a_run_are_one_seed(tmp_path, make):
    put(tmp_path, make)
    make.put(tmp_path, make.experiment(**SQUARE, **{"evaluation.features": "z"}), 40.0)
    (report,) = ARTEFACTS["figureB3"].reports(analysis.load(tmp_path))
    assert len(report.data) == 128


def test_what_is_remembered_is_of_the_weights_that_are_there(tmp_path, make, monkeypatch):
    run, _ = put(tmp_path, make)
    (first,) = ARTEFACTS["figureB3"].reports(analysis.load(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(eigenvalues, "load_weights", lambda run: pytest.fail("computed again"))
        (again,) = ARTEFACTS["figureB3"].reports(analysis.load(tmp_path))
    assert first.data.equals(again.data)
    put(tmp_path, make, np.eye(128))
    os.utime(run.encoder_path, (1, 1))
    (other,) = ARTEFACTS["figureB3"].reports(analysis.load(tmp_path))
    assert set(other.data["squared_real_part"]) == {1.0}


def test_weights_that_cannot_be_read_are_told(tmp_path, make):
    run, _ = put(tmp_path, make)
    run.encoder_path.write_bytes(run.encoder_path.read_bytes()[:1000])
    (found,) = ARTEFACTS["figureB3"].reports(analysis.load(tmp_path))
    assert isinstance(found, LeftOut)
    assert found.setting.startswith("shapes, ")
    assert f"{run.run_id}/encoder.pt is damaged" in found.reason


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_matrix_without_a_spectrum_is_told(tmp_path, make, value):
    run, _ = put(tmp_path, make)
    weights = torch.load(run.encoder_path, weights_only=True)
    weights["head"]["output.weight"].fill_(value)
    torch.save(weights, run.encoder_path)
    (found,) = ARTEFACTS["figureB3"].reports(analysis.load(tmp_path))
    assert isinstance(found, LeftOut)
    assert run.run_id in found.reason
