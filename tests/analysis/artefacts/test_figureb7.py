"""Figures B.7 and B.8 from a store: means, standard deviations and the best, compared with numpy's and pandas'."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import paper
from analysis.artefacts import ARTEFACTS, figureb8
from analysis.report import write
from analysis.spread import spread_bars

ENTRY = paper.entries()["appendix_b9_cifar10"]
SIZES, LRS, TEMPERATURES = [32, 128, 512], [0.5, 1.0, 1.5], [0.1, 0.5, 1.0]
LENGTHS = [100, 300, 400, 1000]
NAMES = {
    "batch": "optimizer.batch_size",
    "epochs": "optimizer.epochs",
    "tau": "loss.temperature",
    "lr": "optimizer.lr",
    "seed": "seed",
}
TABLES = ["mean over learning rates", "spread over learning rates", "best learning rate"]
MORE = ["mean over learning rates and lengths", "spread over learning rates and lengths"]


def put(store, make, top1, validation=None, **values):
    named = {NAMES.get(name, name): value for name, value in values.items()}
    experiment = make.experiment(**{"optimizer.lr_rule": "linear"} | named)
    found = {"top1": top1, "top5": 99.0, "validation_top1": validation or top1}
    make.put(store, experiment, test_images=2000, metrics=found)


def fill(store, make, seeds=1, lengths=LENGTHS, without=()):
    """Runs of the whole grid, with random accuracies, as a table. without: places, (batch, epochs, tau, lr, seed)."""
    draw = np.random.default_rng()
    grid = itertools.product(SIZES, lengths, TEMPERATURES, LRS, range(seeds))
    rows = [
        dict(zip(NAMES, place, strict=True))
        | {"top1": draw.uniform(40, 90), "validation": draw.uniform(40, 90)}
        for place in grid
        if place not in without
    ]
    for row in rows:
        put(store, make, **row)
    return pd.DataFrame(rows)


def report_of(name, store):
    (report,) = ARTEFACTS[name].reports(analysis.load(store))
    return report


def numbers(report, part, column="mean"):
    rows = report.data[report.data["part"] == part]
    return {(row, at): value for row, at, value in rows[["row", "column", column]].to_numpy()}


def expected(found, by):
    """A number for each place, as the report's data name places."""
    return {tuple(f"{label:g}" for label in place): value for place, value in found.groupby(by)}


@pytest.mark.parametrize("seeds", [1, 3])
def test_figure_b7_averages_over_the_learning_rates_of_temperature_a_half(tmp_path, make, seeds):
    drawn = fill(tmp_path, make, seeds)
    report = report_of("figureB7", tmp_path)
    groups = expected(drawn[drawn["tau"] == 0.5], ["batch", "epochs"])
    means = {place: of.groupby("seed")["top1"].mean() for place, of in groups.items()}
    assert numbers(report, TABLES[0]) == pytest.approx({p: m.mean() for p, m in means.items()})
    within = {place: of.groupby("seed")["top1"].std().mean() for place, of in groups.items()}
    assert numbers(report, TABLES[1]) == pytest.approx(within)
    best = {}
    for place, of in groups.items():
        of_rate = of.groupby("lr")[["top1", "validation"]].mean()
        best[place] = of_rate["top1"][of_rate["validation"].idxmax()]
    assert numbers(report, TABLES[2]) == pytest.approx(best)
    halves = numbers(report, TABLES[0], "half_interval")
    if seeds > 1:
        # Student's t with two degrees of freedom.
        wanted = {p: 4.302653 * m.std() / math.sqrt(3) for p, m in means.items()}
        assert halves == pytest.approx(wanted, rel=1e-5)
    else:
        assert all(map(math.isnan, halves.values()))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2])
def test_figure_b8_averages_over_learning_rates_and_lengths_in_two_panels(tmp_path, make, seeds):
    drawn = fill(tmp_path, make, seeds)
    report = report_of("figureB8", tmp_path)
    for name, chosen in ((figureb8.SHORT, [100, 300]), (figureb8.LONG, [400, 1000])):
        of_panel = drawn[drawn["epochs"].isin(chosen)]
        groups = expected(of_panel, ["batch", "tau"])
        means = {place: of["top1"].mean() for place, of in groups.items()}
        assert numbers(report, f"{name}, {MORE[0]}") == pytest.approx(means)
        within = {place: of.groupby("seed")["top1"].std().mean() for place, of in groups.items()}
        assert numbers(report, f"{name}, {MORE[1]}") == pytest.approx(within)
        best = {}
        for place, of in groups.items():
            of_run = of.groupby(["lr", "epochs"])[["top1", "validation"]].mean()
            best[place] = of_run["top1"][of_run["validation"].idxmax()]
        assert numbers(report, f"{name}, best learning rate and length") == pytest.approx(best)


def test_error_bars_are_standard_deviations_and_named_so(tmp_path, make):
    drawn = fill(tmp_path, make, 2)
    for name, by, lengths in (
        ("figureB7", "epochs", LENGTHS),
        ("figureB8", "tau", [100, 300]),
    ):
        (comparison,) = ARTEFACTS[name].comparisons(analysis.load(tmp_path))
        panel = spread_bars(comparison, comparison.parts[:3])
        chosen = drawn[drawn["epochs"].isin(lengths)]
        chosen = chosen[chosen["tau"] == 0.5] if name == "figureB7" else chosen
        within = chosen.groupby([by, "batch", "seed"])["top1"].std().groupby([by, "batch"]).mean()
        halves = [bar.half for series in panel.bars for bar in series]
        assert halves == pytest.approx(within.tolist())
        assert "Error bars: their standard deviation, not an interval over seeds." in (
            comparison.remark
        )


def test_the_papers_best_comes_back_beside_ours(tmp_path, make):
    """App. B.9's two printed numbers; the accuracies of the other runs are below."""
    best, printed = ENTRY["best_linear"], ENTRY["supervised_same_arch_batch"]
    for batch, lr, tau in itertools.product(ENTRY["grid"]["batch"], LRS, TEMPERATURES):
        is_best = (batch, lr, tau) == (best["batch"], 1.0, 0.5)
        top1 = best["top1"] if is_best else 90.0
        put(tmp_path / "runs", make, top1, batch=batch, lr=lr, tau=tau, epochs=1000)
    supervised = {"objective": "supervised", "optimizer.batch_size": best["batch"]}
    make.put(tmp_path / "runs", make.experiment(**supervised), printed)
    for name in ("figureB7", "figureB8"):
        report = report_of(name, tmp_path / "runs")
        assert (
            "Best on the validation split: 94.0 (batch size 1,024, epochs 1,000, temperature 0.5, learning rate 1). "
            "The paper’s best on CIFAR-10: 94.0 (batch size 1,024)."
        ) in report.caption
        assert (
            "Supervised with batch size 1,024 (the paper’s on CIFAR-10, with 1,024: 95.1): 95.1."
            in report.caption
        )
        assert "The paper publishes no numbers for Figure B." in report.caption
        assert report.data["paper"].isna().all()
        assert f"{best['top1']:.1f}" in {
            cell for table in report.tables for row in table.rows for cell in row
        }
        assert report.title.endswith("on shapes, ResNet-8")
        assert len(write(report, tmp_path / "out")) == 5


def test_the_best_is_that_of_the_validation_split(tmp_path, make):
    for lr, (top1, validation) in {0.5: (50.0, 80.0), 1.0: (60.0, 70.0)}.items():
        put(tmp_path, make, top1, validation, lr=lr, tau=0.5)
        put(tmp_path, make, top1 - 20, validation - 20, lr=lr, tau=1.0)
    report = report_of("figureB7", tmp_path)
    assert list(numbers(report, TABLES[2]).values()) == [50.0]
    for name in ("figureB7", "figureB8"):
        assert "Best on the validation split: 50.0 (" in report_of(name, tmp_path).caption


def test_a_cell_without_all_learning_rates_is_missing(tmp_path, make):
    fill(
        tmp_path,
        make,
        2,
        without={(32, 100, 0.5, 1.0, seed) for seed in (0, 1)} | {(128, 300, 0.5, 1.5, 1)},
    )
    report = report_of("figureB7", tmp_path)
    cells = report.data[report.data["part"] == TABLES[0]].set_index(["row", "column"])
    assert math.isnan(cells["mean"]["32", "100"])
    assert cells["seeds"]["128", "300"] == 1
    assert cells["mean"].isna().sum() == 1
    assert (cells["seeds"] == 2).sum() == len(SIZES) * len(LENGTHS) - 2
    assert (
        "Missing cells (mean over learning rates): 1 of 12: batch size 32, epochs 100."
        in report.summary
    )
    both = numbers(report_of("figureB8", tmp_path), f"{figureb8.SHORT}, {MORE[0]}")
    assert [place for place, mean in both.items() if math.isnan(mean)] == [("32", "0.5")]


def test_a_panel_without_runs_is_named(tmp_path, make):
    fill(tmp_path, make, lengths=[3, 6])
    report = report_of("figureB8", tmp_path)
    assert len(report.figure.axes) == 1
    assert len(report.tables) == 3
    assert "(up to 300 epochs: 3, 6; more than 300 epochs: not run)" in report.caption


def test_the_mean_and_the_best_are_tested_against_the_random_encoder(tmp_path, make):
    for lr in LRS:
        put(tmp_path, make, 60.0 + lr, tau=0.5, lr=lr)
        put(tmp_path, make, 40.0 + lr, tau=0.5, lr=lr, batch=32)
    make.put(tmp_path, make.random_encoder(), 50.0, test_images=2000)
    report = report_of("figureB7", tmp_path)
    above = {part: list(numbers(report, part, "above_random").values()) for part in TABLES}
    assert above[TABLES[0]] == above[TABLES[2]] == [False, True]
    assert above[TABLES[1]] == [None, None]
    assert "2 of 4 cells" in report.caption
    assert report.alt.endswith(
        "Highest: ours 61.0 (batch size 256, epochs 6, mean over learning rates)."
    )


@pytest.mark.parametrize(
    ("name", "varied"), [("figureB7", {"lr": LRS}), ("figureB8", {"tau": TEMPERATURES})]
)
def test_without_two_values_to_average_or_compare_there_is_no_figure(tmp_path, make, name, varied):
    ((key, values),) = varied.items()
    base = {"tau": 0.5, "lr": 1.0}
    for size in SIZES:
        put(tmp_path / "one", make, 50.0, batch=size, **base)
    assert ARTEFACTS[name].reports(analysis.load(tmp_path / "one")) == []
    for value in values:
        put(tmp_path / "several", make, 50.0, **base | {key: value})
    assert len(ARTEFACTS[name].reports(analysis.load(tmp_path / "several"))) == 1


def test_settings_are_not_mixed(tmp_path, make):
    for lr in LRS:
        put(tmp_path, make, 60.0, tau=0.5, lr=lr)
        put(tmp_path, make, 40.0, tau=0.5, lr=lr, precision="bfloat16")
    reports = ARTEFACTS["figureB7"].reports(analysis.load(tmp_path))
    assert sorted(report.data["mean"].iloc[0] for report in reports) == [40.0, 60.0]


def test_the_supervised_network_is_one_with_the_same_views(tmp_path, make):
    for lr in LRS:
        put(tmp_path, make, 60.0, tau=0.5, lr=lr)
    make.put(tmp_path, make.experiment(**{"objective": "supervised", "views.strength": 1.0}), 80.0)
    assert "Supervised" not in report_of("figureB7", tmp_path).caption
    make.put(tmp_path, make.experiment(objective="supervised"), 81.0)
    report = report_of("figureB7", tmp_path)
    assert (
        "Supervised with batch size 256 (the paper’s on CIFAR-10, with 1,024: 95.1): 81.0."
        in report.caption
    )
    assert (report.data["mean"] == 81.0).sum() == 1
    # Two that differ in the length of training are no reference.
    make.put(tmp_path, make.experiment(**{"objective": "supervised", "optimizer.epochs": 12}), 82.0)
    assert "Supervised" not in report_of("figureB7", tmp_path).caption
