"""Learning curves: what the store says, each run in the panel of its cells, on the page and in a file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import learning
from analysis.artefacts import ARTEFACTS
from analysis.learning import POINTS, learning_curves
from analysis.writing import write_artefact
from simclr_ablate.store import Run
from tests.analysis.conftest import pair, put, random_encoder

STEPS, EVERY = 1_400, 10


def lines(draw: np.random.Generator, online: bool = False) -> list[dict[str, float]]:
    """The metrics of a run's steps, as it writes them."""
    steps = np.arange(EVERY, STEPS + 1, EVERY)
    measured = {"loss": draw.uniform(2, 6, len(steps)), "accuracy": draw.uniform(0, 1, len(steps))}
    if online:
        measured["online_top1"] = draw.uniform(20, 60, len(steps))
    return [
        {"step": int(step), "epoch": 1, **{name: float(each[k]) for name, each in measured.items()}}
        for k, step in enumerate(steps)
    ]


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng()


@pytest.fixture
def store(tmp_path: Path, draw: np.random.Generator) -> Path:
    """Pairs with metrics of steps, one of them measured online, one with a history alone, and the random encoder."""
    folder = tmp_path / "runs"
    for place, (first, second) in enumerate(
        [("crop", "color"), ("color", "crop"), ("crop", "crop")]
    ):
        run = put(folder, pair(first, second), top1=40.0 + place)
        run.metrics.append(lines(draw, online=place == 0))
    early = put(folder, pair("color", "color"), top1=35.0)
    rows = pd.DataFrame({"epoch": [1, 2, 3], "loss": [5.0, 4.0, 3.5], "accuracy": [0.1, 0.2, 0.25]})
    rows.to_csv(early.history_path, index=False)
    put(folder, random_encoder(), top1=30.0)
    return folder


def report_of(store: Path):
    (report,) = ARTEFACTS["figure5"].reports(analysis.load(store))
    return report


def run_of(store: Path, first: str, second: str) -> Run:
    runs = analysis.load(store)
    there = runs[(runs["views.first"] == first) & (runs["views.second"] == second)]
    return Run(Path(there["path"].iloc[0]))


def panels(store: Path) -> dict[tuple[int, int], list[np.ndarray]]:
    """The points of each line, by row and column of its panel."""
    figure = learning_curves(report_of(store), analysis.load(store))
    assert figure is not None
    drawn = [axes for axes in figure.axes if axes.lines]
    places = [axes.get_position() for axes in drawn]
    rows = sorted({round(place.y0, 4) for place in places}, reverse=True)
    columns = sorted({round(place.x0, 4) for place in places})
    return {
        (rows.index(round(place.y0, 4)), columns.index(round(place.x0, 4))): [
            line.get_xydata() for line in axes.lines
        ]
        for axes, place in zip(drawn, places, strict=True)
    }


def test_a_panel_has_the_runs_of_its_row_and_the_means_of_their_steps(store: Path) -> None:
    shown = panels(store)
    # Rows: loss, accuracy, online top-1. Columns: crop and color, in the order of Figure 5.
    assert {place: len(curves) for place, curves in shown.items()} == {
        **{(0, 0): 2, (0, 1): 2, (1, 0): 2, (1, 1): 2},
        (2, 0): 1,
    }
    run = run_of(store, "crop", "color")
    written = pd.DataFrame(run.metrics.read())
    epochs = written["step"] * run.config()["optimizer"]["epochs"] / STEPS
    for row, (name, factor) in enumerate([("loss", 1), ("accuracy", 100), ("online_top1", 1)]):
        sizes = [len(part) for part in np.array_split(written[name], POINTS)]
        share = np.repeat(np.arange(POINTS), sizes)
        expected = np.column_stack(
            [epochs.groupby(share).mean(), factor * written[name].groupby(share).mean()]
        )
        assert any(np.allclose(curve, expected) for curve in shown[row, 0]), name


def test_without_metrics_of_steps_the_history_is_drawn(store: Path) -> None:
    expected = np.array([[1, 5.0], [2, 4.0], [3, 3.5]])
    assert any(
        curve.shape == (3, 2) and np.allclose(curve, expected) for curve in panels(store)[0, 1]
    )


def test_many_rows_share_one_panel(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MOST_COLUMNS", 1)
    assert {place: len(curves) for place, curves in panels(store).items()} == {
        (0, 0): 4,
        (1, 0): 4,
        (2, 0): 1,
    }


def test_most_runs_are_those_of_the_first_seeds(
    store: Path, draw: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, pair("crop", "color", seed=7), top1=41.0).metrics.append(lines(draw))
    monkeypatch.setattr(learning, "MOST_RUNS", 4)
    figure = learning_curves(report_of(store), analysis.load(store))
    assert figure is not None
    assert "Shown are 4 of 5 trained runs" in figure.texts[0].get_text().replace("\n", " ")
    assert sum(len(curves) for (row, _), curves in panels(store).items() if row == 0) == 4


def test_damaged_files_cost_only_their_run(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_of(store, "color", "color").history_path.write_text("epoch,loss\n1,high\n")
    run_of(store, "crop", "crop").metrics.path.write_text("none of metrics\n")
    assert {place: len(curves) for place, curves in panels(store).items() if not place[0]} == {
        (0, 0): 1,
        (0, 1): 1,
    }
    assert "history.csv" in caplog.text
    assert "metrics.jsonl" in caplog.text


def test_runs_that_kept_nothing_have_no_picture(tmp_path: Path) -> None:
    put(tmp_path / "runs", pair("crop", "color"), top1=40.0)
    assert learning_curves(report_of(tmp_path / "runs"), analysis.load(tmp_path / "runs")) is None


@pytest.mark.slow
def test_the_page_shows_them_and_the_folder_has_them(store: Path, tmp_path: Path) -> None:
    outcome = write_artefact(ARTEFACTS["figure5"], tmp_path / "out", analysis.load(store))
    assert outcome.problem == ""
    (written,) = outcome.written
    names = {path.name for path in written.files}
    assert {f"{report_of(store).name}-learning.{end}" for end in ("png", "pdf")} <= names
    assert all(path.is_file() for path in written.files)
    assert '<details class="curves"><summary>Learning curves</summary>' in written.section.html
