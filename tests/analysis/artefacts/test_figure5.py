"""Figure 5 from a store: the paper's own numbers come back, and what is not known is said."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib import image
from scipy import stats

import analysis
from analysis import paper
from analysis.artefacts import ARTEFACTS, figure5
from analysis.presentation import agreement, caption, maps
from analysis.report import write
from analysis.typesetting import latex_tables, markdown_table
from simclr_ablate.identity import run_id
from simclr_ablate.schema import OPERATION_NAMES
from simclr_ablate.store import Store

PRINTED = paper.table("fig5_augmentation_grid")
OPERATIONS = [name.capitalize() for name in OPERATION_NAMES]
CELLS = {
    (first, second): float(PRINTED.at[first, second])
    for first in OPERATIONS
    for second in OPERATIONS
}


def fill(store, make, accuracies, **changes):
    for (first, second), top1 in accuracies.items():
        make.put(store, make.pair(first.lower(), second.lower(), **changes), top1)


def compared(store):
    """The figure's comparisons, one for each setting in the store."""
    return ARTEFACTS["figure5"].comparisons(analysis.load(store))


def table_rows(text, start, separator):
    """The body of the table after `start`: row name -> its cells as printed."""
    body = text[text.index(start) :]
    rows = {}
    for line in body.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").rstrip("\\").split(separator)]
        if len(cells) == 9 and cells[0] in PRINTED.index and cells[0] not in rows:
            rows[cells[0]] = cells[1:]
    return pd.DataFrame.from_dict(rows, orient="index", columns=PRINTED.columns)


@pytest.fixture(scope="module")
def paper_store(tmp_path_factory, make):
    """The paper's numbers as if they were runs."""
    store = tmp_path_factory.mktemp("paper")
    fill(store, make, CELLS)
    return store


@pytest.fixture(scope="module")
def paper_report(paper_store, tmp_path_factory):
    """The report on it, and its files by ending."""
    (report,) = ARTEFACTS["figure5"].reports(analysis.load(paper_store))
    paths = write(report, tmp_path_factory.mktemp("reports"))
    return report, {path.suffix: path for path in paths}


@pytest.mark.slow
def test_the_papers_numbers_come_back_as_figure_5(paper_report):
    report, paths = paper_report
    assert set(paths) == {".png", ".pdf", ".csv", ".md", ".tex"}

    printed = PRINTED.map("{:.1f}".format)
    csv = pd.read_csv(paths[".csv"]).set_index(["kind", "row", "column"])
    for place, value in CELLS.items():
        row = csv.loc[("cell", *place)]
        assert (row["mean"], row["paper"]) == (value, value)
    markdown, latex = paths[".md"].read_text(), paths[".tex"].read_text()
    for text, separator in ((markdown, "|"), (latex, "&")):
        ours = table_rows(text, "Ours: shapes", separator)
        theirs = table_rows(text, "The paper: ImageNet", separator)
        assert theirs.equals(printed)
        assert ours.drop(columns="Average").equals(printed.drop(columns="Average"))
        # Cells and averages are printed to 0.1, so an average of printed cells may be 0.1 off.
        off = ours["Average"].astype(float) - PRINTED["Average"]
        assert off[off.abs() > 1e-9].round(6).to_dict() == {"Noise": 0.1}
    assert (
        "prints 15.5 as the average of Noise; the mean of its printed cells is 15.557" in markdown
    )
    assert "Spearman’s ρ with the paper: 1.00 (" in report.caption
    assert "49 of 49 cells" in report.caption


def test_picture_is_darker_where_the_papers_number_is_higher(paper_report):
    report, paths = paper_report
    pixels = image.imread(paths[".png"])[..., :3]
    printed = PRINTED.to_numpy().ravel()
    elsewhere = [float(value) for row in report.tables[2].rows for value in row[1:]]
    for axes, numbers in zip(report.figure.axes[::2], [printed, printed, elsewhere], strict=True):
        light = []
        for row, column in np.ndindex(7, 8):
            x, y = axes.transData.transform((column + (0.33 if column == 7 else 0.08), row + 0.92))
            light.append(pixels[len(pixels) - 1 - round(y), round(x)].mean())
        assert stats.spearmanr(light, numbers).statistic < -0.995


def test_correlation_is_that_of_the_cells_without_averages(tmp_path, make):
    generator = np.random.default_rng(0)
    ours = {pair: round(generator.uniform(10, 60), 1) for pair in CELLS}
    fill(tmp_path, make, ours)
    (grid,) = compared(tmp_path)
    expected = stats.spearmanr(list(ours.values()), list(CELLS.values())).statistic
    assert grid.correlation.rho == pytest.approx(expected)
    assert f"{expected:.2f} (95% bootstrap interval" in agreement(grid)


def test_the_words_for_the_picture_name_the_best_pairs(tmp_path, make):
    generator = np.random.default_rng()
    ours = {pair: round(generator.uniform(10, 60), 1) for pair in CELLS}
    best = max(ours, key=ours.get)
    ours[best] = 61.3
    fill(tmp_path, make, ours)
    (report,) = ARTEFACTS["figure5"].reports(analysis.load(tmp_path))
    rho = stats.spearmanr(list(ours.values()), list(CELLS.values())).statistic
    assert report.alt == (
        "Heat maps of top-1 (%), rows: 1st transformation, columns: 2nd transformation, ours on "
        "shapes beside the paper’s. Highest: "
        f"ours 61.3 (1st transformation {best[0]}, 2nd transformation {best[1]}); "
        "the paper’s 56.3 (1st transformation Crop, 2nd transformation Color); "
        f"Spearman’s ρ with the paper {rho:.2f}."
    )


def test_missing_cells_are_missing_everywhere(tmp_path, make):
    absent = [("Noise", "Blur"), ("Rotate", "Rotate")]
    fill(tmp_path / "runs", make, {p: v for p, v in CELLS.items() if p not in absent})
    # Planned is not finished.
    unfinished = make.pair("noise", "blur")
    Store(tmp_path / "runs").run(run_id(unfinished)).create(unfinished.to_config())

    (report,) = ARTEFACTS["figure5"].reports(analysis.load(tmp_path / "runs"))

    ours = table_rows("Ours\n" + markdown_table(report.tables[0]), "Ours", "|")
    dashes = {(row, column) for row, column in ours.stack().index if ours.at[row, column] == "–"}
    # A row without all its cells has no average.
    assert dashes == {
        ("Noise", "Blur"),
        ("Noise", "Average"),
        ("Rotate", "Rotate"),
        ("Rotate", "Average"),
    }
    latex = table_rows(latex_tables(report.tables, "", ""), "Ours", "&")
    assert (latex == "--").equals(ours == "–")
    csv = report.data[report.data["mean"].isna()]
    assert set(zip(csv["row"], csv["column"], strict=True)) == dashes
    assert (
        "Missing cells: 2 of 49: 1st transformation Noise, 2nd transformation Blur; "
        "1st transformation Rotate, 2nd transformation Rotate." in report.summary
    )
    assert "47 of 49 cells" in report.caption


def test_seeds_are_averaged_with_their_interval(tmp_path, make):
    generator = np.random.default_rng(1)
    drawn = {pair: generator.normal(40, 3, 3).round(2) for pair in CELLS}
    for seed in range(3):
        fill(tmp_path, make, {p: float(v[seed]) for p, v in drawn.items()}, seed=seed)
    (report,) = ARTEFACTS["figure5"].reports(analysis.load(tmp_path))

    data = report.data.set_index(["row", "column"])
    quantile = stats.t.ppf(0.975, 2)
    for pair, values in drawn.items():
        assert data.at[pair, "mean"] == pytest.approx(values.mean())
        half = quantile * values.std(ddof=1) / math.sqrt(3)
        assert data.at[pair, "half_interval"] == pytest.approx(half)
    for first in OPERATIONS:
        by_seed = np.mean([drawn[first, second] for second in OPERATIONS], axis=0)
        half = quantile * by_seed.std(ddof=1) / math.sqrt(3)
        assert data.at[(first, "Average"), "mean"] == pytest.approx(by_seed.mean())
        assert data.at[(first, "Average"), "half_interval"] == pytest.approx(half)
    assert (data["seeds"] == 3).all()
    assert ", 3 seeds." in report.caption
    ours, first = report.tables[0], drawn["Crop", "Crop"]
    half = quantile * first.std(ddof=1) / math.sqrt(3)
    assert ours.rows[0][1] == f"{first.mean():.1f} ± {half:.1f}"


def test_cells_with_fewer_seeds_say_so(tmp_path, make):
    fill(tmp_path, make, CELLS)
    fill(tmp_path, make, {("Crop", "Color"): 57.0}, seed=1)
    (grid,) = compared(tmp_path)
    notes = [[cell.note for cell in row] for row in maps(grid)[0].cells]
    assert notes[0][2].startswith("±")
    assert notes[1] == ["1 seed"] * 8
    assert "1 to 2 seeds per cell" in caption(grid)
    (part,) = grid.parts
    row = [part.estimate(("Crop", second)).mean for second in OPERATIONS]
    average = part.estimate(("Crop", "Average"))
    assert (average.mean, average.seeds) == (pytest.approx(np.mean(row)), 1)


def test_settings_are_not_mixed(tmp_path, make):
    fill(tmp_path, make, CELLS)
    halves = {pair: value / 2 for pair, value in CELLS.items()}
    fill(tmp_path, make, halves, **{"optimizer.epochs": 12})
    make.put(tmp_path, make.random_encoder(), 5.0)
    make.put(tmp_path, make.random_encoder(precision="bfloat16"), 50.0)
    short, long = sorted(
        compared(tmp_path), key=lambda grid: grid.setting.config["optimizer.epochs"]
    )
    means = [grid.parts[0].estimate(("Crop", "Color")).mean for grid in (short, long)]
    assert means == [56.3, 56.3 / 2]
    assert short.setting.name != long.setting.name
    for grid in (short, long):
        assert grid.random.values == [5.0]


def marked_cells(report):
    ours = pd.DataFrame([row[1:-1] for row in report.tables[0].rows]).to_numpy()
    pairs = list(CELLS)
    return {pairs[i] for i in np.flatnonzero([text.endswith("○") for text in ours.ravel()])}


def test_cells_within_the_test_splits_error_of_the_random_encoder_are_marked(tmp_path, make):
    images, reference = 2_000, 30.0
    generator = np.random.default_rng(2)
    ours = {pair: round(generator.uniform(25, 38), 2) for pair in CELLS}
    for pair, top1 in ours.items():
        make.put(tmp_path, make.pair(*map(str.lower, pair)), top1, images)
    make.put(tmp_path, make.random_encoder(), reference, images)
    (report,) = ARTEFACTS["figure5"].reports(analysis.load(tmp_path))

    def error(top1):
        return math.sqrt(top1 * (100 - top1) / images)

    expected = {
        pair
        for pair, top1 in ours.items()
        if top1 - reference <= stats.norm.ppf(0.975) * math.hypot(error(top1), error(reference))
    }
    assert 10 < len(expected) < 45
    assert marked_cells(report) == expected
    data = report.data[report.data["kind"] == "cell"].set_index(["row", "column"])
    assert {pair for pair in ours if not data.at[pair, "above_random"]} == expected
    assert f"Random encoder: 30.0. Not clearly above it (○, 95% margin): {len(expected)} of 49" in (
        report.caption
    )


def test_with_seeds_cells_are_marked_by_their_scatter(tmp_path, make):
    steady, scattered = ("Crop", "Color"), ("Crop", "Blur")
    for seed, noise in enumerate([-1.0, 0.0, 1.0]):
        fill(tmp_path, make, {steady: 40 + 0.1 * noise, scattered: 40 + 8 * noise}, seed=seed)
        make.put(tmp_path, make.random_encoder(seed=seed), 35 + 0.1 * noise)
    (report,) = ARTEFACTS["figure5"].reports(analysis.load(tmp_path))
    assert marked_cells(report) == {scattered}


def test_without_a_random_encoder_nothing_is_marked_and_that_is_said(paper_report):
    report, _ = paper_report
    assert marked_cells(report) == set()
    assert "No random encoder was evaluated" in report.caption


def test_reference_runs_are_those_of_the_same_data_encoder_and_evaluation(tmp_path, make):
    make.put(tmp_path, make.pair("crop", "color"), 50.0)
    make.put(tmp_path, make.experiment(), 52.4)
    make.put(tmp_path, make.experiment(**{"optimizer.epochs": 60}), 70.0)
    make.put(tmp_path, make.random_encoder(), 31.0)
    make.put(tmp_path, make.random_encoder(**{"encoder.width": 2}), 33.0)
    make.put(tmp_path, make.random_encoder(**{"evaluation.features": "z"}), 20.0)
    (report,) = ARTEFACTS["figure5"].reports(analysis.load(tmp_path))
    data = report.data.set_index("kind")["mean"]
    assert data["random encoder"] == 31.0
    assert data[figure5.SIMCLR] == 52.4
    assert "SimCLR’s views on both branches: 52.4." in report.caption


@pytest.mark.parametrize(("features", "matches"), [("h", True), ("z", False)])
def test_another_head_makes_another_reference_for_z_only(tmp_path, make, features, matches):
    on = {"evaluation.features": features}
    make.put(tmp_path, make.pair("crop", "color", **on), 50.0)
    make.put(tmp_path, make.random_encoder(**on, **{"head.dim": 32}), 20.0)
    (grid,) = compared(tmp_path)
    assert (grid.random is not None) == matches


def test_each_number_names_its_runs(tmp_path, make):
    made = [make.put(tmp_path, make.pair("crop", "color", seed=seed), 50.0) for seed in range(2)]
    random = make.put(tmp_path, make.random_encoder(), 30.0)
    (report,) = ARTEFACTS["figure5"].reports(analysis.load(tmp_path))
    data = report.data.fillna({"row": "", "column": ""}).set_index(["kind", "row", "column"])
    ids = data["run_ids"].str.split()
    assert sorted(ids["cell", "Crop", "Color"]) == sorted(run.run_id for run in made)
    assert ids["random encoder", "", ""] == [random.run_id]
    assert ids["cell", "Crop", "Crop"] == []


def test_an_unknown_number_of_test_images_leaves_cells_untested(tmp_path, make):
    make.put(tmp_path, make.pair("crop", "color"), 50.0, math.nan)
    make.put(tmp_path, make.random_encoder(), 30.0, math.nan)
    (grid,) = compared(tmp_path)
    assert grid.tests() == [None]
    assert "the number of test images is unknown" in caption(grid)


def test_cells_that_are_all_above_the_random_encoder_are_not_marked(tmp_path, make):
    make.put(tmp_path, make.pair("crop", "color"), 50.0)
    make.put(tmp_path, make.random_encoder(), 30.0)
    (grid,) = compared(tmp_path)
    assert grid.tests() == [True]
    assert "Every cell is clearly above it" in caption(grid)


def test_a_store_without_pairs_has_no_figure(tmp_path, make):
    make.put(tmp_path, make.experiment(), 52.4)
    make.put(tmp_path, make.random_encoder(), 31.0)
    assert ARTEFACTS["figure5"].reports(analysis.load(tmp_path)) == []


def test_the_embedded_images_have_our_grid_on_photographs_beside_them(tmp_path, make):
    measured = json.loads(figure5.MEASURED.read_text())
    there = {
        (first.capitalize(), second.capitalize()): top1
        for first, of_row in measured["top1"].items()
        for second, top1 in of_row.items()
    }
    assert there.keys() == CELLS.keys()
    generator = np.random.default_rng()
    ours = {pair: round(generator.uniform(10, 60), 1) for pair in CELLS if pair[0] != "Blur"}
    fill(tmp_path / "now", make, ours)
    (grid,) = compared(tmp_path / "now")
    rho = stats.spearmanr(list(ours.values()), [there[pair] for pair in ours]).statistic
    assert f" With {measured['name']}, " in agreement(grid)
    assert f": {rho:.2f} (95% bootstrap interval" in agreement(grid).partition("With")[2]
    assert "42 of 49 cells" in agreement(grid).partition("With")[2]

    beside = maps(grid)[2]
    assert measured["name"] in beside.title
    rows = {
        name: [cell.value for cell in row]
        for name, row in zip(beside.rows, beside.cells, strict=True)
    }
    for name, (*cells, average) in rows.items():
        assert cells == [there[name, second] for second in OPERATIONS]
        assert average == pytest.approx(np.mean(cells))
    (report,) = ARTEFACTS["figure5"].reports(analysis.load(tmp_path / "now"))
    assert measured["name"] in report.tables[2].title
    csv = report.data.set_index(["kind", "row", "column"])
    (column,) = [name for name in csv.columns if measured["name"] in name]
    assert csv.loc[("cell", "Crop", "Color"), column] == there["Crop", "Color"]

    fill(tmp_path / "before", make, ours, **{"data.version": 1})
    (grid,) = compared(tmp_path / "before")
    assert len(maps(grid)) == 2
    assert "With" not in agreement(grid)


def test_the_summary_names_the_highest_cells(paper_report):
    report, _ = paper_report
    where = "(1st transformation Crop, 2nd transformation Color)"
    assert f"Highest: ours 56.3 {where}; the paper’s 56.3 {where}." in report.summary
