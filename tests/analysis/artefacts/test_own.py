"""Artefacts of the user's own: their numbers, what is beside them, and what others have put into their definitions."""

import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import analysis
from analysis import paper
from analysis.__main__ import main
from analysis.artefacts import ARTEFACTS
from analysis.own import artefacts_of, own_artefacts
from analysis.report import Report
from simclr_ablate.artefact import Definition
from simclr_ablate.identity import run_id, values_of
from simclr_ablate.store import Store
from simclr_ablate.store.packing import pack

TAUS, SIZES, LOSSES = (0.1, 0.5, 1.0), (64, 32, 1024), ("nt_xent", "mine:decoupled")
SECTION = {
    "title": "Temperature and batch size",
    "rows": ["loss.name", "loss.temperature"],
    "columns": "optimizer.batch_size",
    "labels": {"mine:decoupled": "Decoupled", 1.0: "hot"},
}


def record(section, experiments, **more):
    """What the launch of a sweep with these experiments keeps of the artefact that it defines."""
    definition = Definition.read(section)
    values = [values_of(each.to_config()) for each in experiments]
    places = [definition.place(each) for each in values]
    chosen = dict.fromkeys(place for place in places if place is not None)
    listed = [[list(row), list(column)] for row, column in chosen]
    return {**definition.to_record(), "places": listed, **more}


def launch(store, name, section, experiments, **more):
    ids = [run_id(each) for each in experiments]
    made = record(section, experiments, **more)
    return Store(store).record_sweep(name, ids, [f"sweep={name}.yaml"], artefact=made)


def grid(make, seeds=3):
    return [
        make.experiment(
            **{
                "loss.name": loss,
                "loss.temperature": tau,
                "optimizer.batch_size": size,
                "seed": seed,
            }
        )
        for loss, tau, size, seed in itertools.product(LOSSES, TAUS, SIZES, range(seeds))
        if (tau, size) != (1.0, 32)  # the sweep does not have this cell
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory, make):
    """The runs of such a sweep, but for one cell, and a random encoder, with drawn accuracies."""
    root = tmp_path_factory.mktemp("own") / "runs"
    generator = np.random.default_rng(0)
    experiments = grid(make)
    for each in experiments:
        if (each.loss.name, each.loss.temperature, each.optimizer.batch_size) != (
            "nt_xent",
            0.5,
            64,
        ):
            make.put(root, each, generator.uniform(40, 60), accuracy=generator.uniform(0, 1))
    make.put(root, make.random_encoder(), 30.0)
    launch(root, "decoupled", SECTION, experiments)
    return root


def report_of(store, name) -> Report:
    (report,) = own_artefacts(store)[name].reports(analysis.load(store))
    return report


def copied(store, tmp_path, change):
    """A copy of the store, with its one launch's artefact changed."""
    there = tmp_path / "runs"
    shutil.copytree(store, there)
    (path,) = (there / ".sweeps").glob("*.json")
    content = json.loads(path.read_text())
    change(content["artefact"])
    path.write_text(json.dumps(content))
    return there


def test_the_table_has_the_means_that_pandas_has(store):
    report = report_of(store, "decoupled")
    runs = analysis.load(store)
    trained = runs[runs["objective"] == "contrastive"]
    keys = ["loss.name", "loss.temperature", "optimizer.batch_size"]
    expected = trained.groupby(keys)["top1"].agg(["mean", "std", "count"])
    data = report.data[report.data["kind"] == "cell"].set_index(["row", "column"])
    names = {"nt_xent": "nt_xent", "mine:decoupled": "Decoupled"}
    taus = {0.1: "0.1", 0.5: "0.5", 1.0: "hot"}
    assert data["mean"].notna().sum() == len(expected) == 15
    for (loss, tau, size), row in expected.iterrows():
        cell = data.loc[f"{names[loss]} {taus[tau]}", str(size)]
        assert cell["mean"] == pytest.approx(row["mean"])
        half = stats.t.ppf(0.975, 2) * row["std"] / np.sqrt(3)
        assert cell["half_interval"] == pytest.approx(half)
        assert cell["seeds"] == row["count"] == 3
    table = report.tables[0]
    assert table.header == ["Loss", "Temperature", "32", "64", "1,024"]
    # In the order of the sweep, numbers by size; a dash is missing, and what is empty was never asked for.
    assert [row[:2] for row in table.rows] == [
        [loss, tau] for loss in ("nt_xent", "Decoupled") for tau in ("0.1", "0.5", "hot")
    ]
    assert table.rows[1][3] == "–"
    assert [table.rows[k][2] for k in (2, 5)] == ["", ""]
    assert "Missing cells: 1 of 16: loss nt_xent, temperature 0.5, batch size 64." in report.summary
    assert "Random encoder: 30.0." in report.caption
    assert report.title == "Temperature and batch size on shapes, ResNet-8, 6 epochs"


@pytest.mark.parametrize("kind", ["heat_map", "bars", "curves"])
def test_every_kind_is_drawn_beside_its_reference(store, tmp_path, kind):
    numbers = {(tau, size): tau + size for tau in TAUS for size in SIZES}
    cells = [[[tau], [size], number] for (tau, size), number in numbers.items()]

    def change(artefact):
        artefact.update(kind=kind, rows=["loss.temperature"], places=[], findings=[])
        artefact.update(labels=[], reference={"title": "Others: here", "cells": cells})
        artefact.update(metric="pretraining.accuracy")

    there = copied(store, tmp_path, change)
    reports = own_artefacts(there)["decoupled"].reports(analysis.load(there))
    assert len(reports) == 2  # each loss is a setting
    for report in reports:
        data = report.data.set_index(["row", "column"])
        assert {
            (float(row), int(column)): value for (row, column), value in data["reference"].items()
        } == numbers
        _, theirs = report.tables
        assert theirs.title == "Others: here, accuracy in pretraining (%)"
        assert [row[0] for row in theirs.rows] == ["0.1", "0.5", "1"]
        both = data.dropna(subset="mean")
        rho = stats.spearmanr(both["mean"], both["reference"]).statistic
        assert f"Spearman’s ρ with the reference: {rho:.2f}" in report.caption
        assert "andom encoder" not in report.caption  # it has no accuracy in pretraining
        assert data["mean"].max() <= 100 > data["mean"].min() > 1
        titles = [axes.get_title(loc="left") for axes in report.figure.axes]
        assert any(title.startswith("Ours: shapes") for title in titles)
        assert "Others: here" in titles


def test_a_store_needs_no_yaml_and_a_pack_carries_all(store, tmp_path, capsys):
    file = tmp_path / "study.zip"
    pack(Store(store), file)
    for where, out in ((store, tmp_path / "a"), (file, tmp_path / "b")):
        assert main(["decoupled", f"store={where}", f"out={out}"]) == 0
    assert "Temperature and batch size on shapes" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {f"decoupled-shapes.{end}" for end in ("png", "pdf", "csv", "md", "tex")}
    for name in names - {"decoupled-shapes.md"}:  # which names the command, and so the pack
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert "sweep=decoupled.yaml" in (tmp_path / "a" / "decoupled-shapes.md").read_text()


def test_an_unknown_name_is_refused_with_the_nearest(store, capsys):
    assert main(["decopled", f"store={store}"]) == 2
    assert "unknown artefact decopled; did you mean decoupled?" in capsys.readouterr().err


def test_the_last_launch_defines_and_the_runs_of_all_are_there(store, tmp_path, make):
    there = tmp_path / "runs"
    shutil.copytree(store, there)
    more = make.experiment(**{"loss.temperature": 0.1, "optimizer.batch_size": 256})
    make.put(there, more, 77.0)
    record = launch(there, "decoupled", {**SECTION, "title": "Later"}, [more])
    report = report_of(there, "decoupled")
    assert report.title.startswith("Later on shapes")
    assert report.data["mean"].notna().sum() == 15 + 1 + 1
    # The winners of a choice, or more seeds, are added to the launch with what it defines.
    Store(there).extend_sweep(record, [run_id(grid(make)[0])])
    assert own_artefacts(there)["decoupled"].title == "Later"
    Store(there).record_sweep("decoupled", [run_id(more)], ["sweep=decoupled.yaml"])
    assert own_artefacts(there) == {}


def test_its_runs_are_left_out_of_the_papers_artefacts(store, tmp_path):
    runs = analysis.load(store)
    assert set(runs["defining"]) == {("decoupled",), ()}
    assert ARTEFACTS["table5"].reports(runs) == []
    assert [*artefacts_of(store)] == [*ARTEFACTS, "decoupled"]
    # Without the definition, they count wherever they fit.
    there = copied(store, tmp_path, dict.clear)
    (path,) = (there / ".sweeps").glob("*.json")
    content = json.loads(path.read_text())
    del content["artefact"]
    path.write_text(json.dumps(content))
    assert len(ARTEFACTS["table5"].reports(analysis.load(there))) > 1


@pytest.mark.parametrize(
    "change",
    [
        lambda artefact: artefact.update(kind="pie"),
        lambda artefact: artefact.update(rows=3),
        lambda artefact: artefact.update(findings=[{"say": "x", "eval": "1"}]),
        dict.clear,
    ],
)
def test_a_damaged_definition_is_reported_and_costs_itself_alone(store, tmp_path, change, caplog):
    there = copied(store, tmp_path, change)
    assert own_artefacts(there) == {}
    assert "its artefact is not a definition" in caplog.text
    assert len(analysis.load(there)) == len(analysis.load(store))


def test_a_definition_under_a_name_of_ours_is_left_out(store, tmp_path, caplog):
    there = tmp_path / "runs"
    shutil.copytree(store, there)
    (path,) = (there / ".sweeps").glob("*.json")
    path.write_text(path.read_text().replace('"name": "decoupled"', '"name": "table5"'))
    assert own_artefacts(there) == {}
    assert "table5 is a name of ours" in caplog.text


HOSTILE = "<script>alert(1)</script>\x1b[2J\"'& $x$ \\end{document}"


@pytest.mark.slow
def test_a_hostile_definition_is_text_everywhere(store, tmp_path, capsys):
    name = '../"><img src=x>'

    def change(artefact):
        artefact.update(
            title=HOSTILE, reference={"title": HOSTILE, "cells": [[["nt_xent", 0.1], [32], 1.0]]}
        )
        artefact.update(labels=[["nt_xent", HOSTILE], ["loss.temperature", "=1+1" + HOSTILE]])
        side = {"optimizer.batch_size": 32}
        other = {"optimizer.batch_size": 64}
        artefact["findings"] = [{"say": HOSTILE, "higher": side, "than": other}]

    there = copied(store, tmp_path, change)
    (path,) = (there / ".sweeps").glob("*.json")
    content = json.loads(path.read_text())
    content["name"] = name.replace("/", "")
    path.write_text(json.dumps(content))
    out = tmp_path / "out"
    assert main([f"store={there}", f"out={out}"]) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    html = (out / "index.html").read_text()
    assert "alert(1)&lt;/script&gt;" in html
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "\x1b" not in html
    for each in out.iterdir():
        assert each.parent == out
        assert each.name.isascii()
        assert '"' not in each.name
    for tex in out.glob("*.tex"):
        assert "\\end{document}" not in tex.read_text()


def test_names_of_files_are_never_shared(tmp_path, make):
    experiments = [make.experiment(**{"loss.temperature": tau}) for tau in TAUS]
    for each in experiments:
        make.put(tmp_path, each, 50.0)
    names = ["a_b", "a-b", "猫", "犬", "figure5_again", "Table 1", "plain"]
    for name in names:
        launch(tmp_path, name, {"title": name, "rows": "loss.temperature"}, experiments)
    artefacts = own_artefacts(tmp_path)
    assert set(artefacts) == set(names)
    stems = [each.stem for each in artefacts.values()]
    assert len(set(stems)) == len(names)
    assert artefacts["plain"].stem == "plain"
    for stem in stems:
        assert stem
        assert not any(
            stem == name.lower() or stem.startswith(f"{name.lower()}-") for name in ARTEFACTS
        )


def test_values_that_do_not_count_and_null_are_values_too(tmp_path, make):
    experiments = [
        make.experiment(**{"data.limit": limit, "views.policy": policy})
        for limit in (None, 500)
        for policy in ("simclr", "crop")
    ]
    for number, each in enumerate(experiments):
        make.put(tmp_path, each, 50.0 + number)
    section = {"title": "T", "rows": "data.limit", "columns": ["views.policy", "views.strength"]}
    launch(tmp_path, "limits", section, experiments)
    table = report_of(tmp_path, "limits").tables[0]
    assert table.header[1:] == ["simclr 0.5", "crop –"]
    assert table.rows == [["500", "52.0", "53.0"], ["null", "50.0", "51.0"]]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, make):
    """A pair grid of two operations of the paper's and one of the user's."""
    root = tmp_path_factory.mktemp("pairs")
    names = ["color", "crop", "mine:gamma"]
    experiments = [make.pair(first, second) for first in names for second in names]
    for number, each in enumerate(experiments):
        make.put(root, each, 40.0 + number)
    section = {"title": "Three in pairs", "kind": "pair_grid"}
    launch(root, "pairs", section, experiments)
    return root, experiments


def test_a_pair_grid_has_the_papers_numbers_where_the_paper_has_them(pairs):
    root, _ = pairs
    report = report_of(root, "pairs")
    ours, theirs = report.tables
    assert ours.header == ["1st / 2nd", "Color", "Crop", "mine:gamma"]
    assert [row[0] for row in ours.rows] == ["Color", "Crop", "mine:gamma"]
    assert [row[1:] for row in ours.rows] == [
        [f"{40.0 + 3 * row + column:.1f}" for column in range(3)] for row in range(3)
    ]
    printed = paper.table("fig5_augmentation_grid")
    assert theirs.header[1:] == ["Color", "Crop"]
    for name, *cells in theirs.rows:
        assert cells == [f"{printed.at[name, column]:.1f}" for column in ("Color", "Crop")]
    assert "Spearman’s ρ with the paper" in report.caption
    assert "4 of 4 cells" in report.caption


def test_figure_5_has_operations_of_ones_own_after_the_papers(pairs, tmp_path, make):
    _, experiments = pairs
    for number, each in enumerate(experiments):
        make.put(tmp_path, each, 40.0 + number)
    (report,) = ARTEFACTS["figure5"].reports(analysis.load(tmp_path))
    ours, theirs, elsewhere = report.tables
    assert ours.header[-2:] == ["mine:gamma", "Average"]
    assert len(ours.rows) == 8
    assert ours.rows[-1][0] == "mine:gamma"
    assert [len(table.rows) for table in (theirs, elsewhere)] == [7, 7]
    assert len(elsewhere.header) == len(theirs.header) == 9
    data = report.data.set_index(["kind", "row", "column"])["mean"]
    assert data["cell", "mine:gamma", "Crop"] == 47.0
    assert any("with the paper’s operations" in note for note in report.notes)


def test_averages_of_figure_5_are_over_the_papers_operations(tmp_path, make):
    names = [*paper.table("fig5_augmentation_grid").index.str.lower()]
    for number, name in enumerate(names):
        make.put(tmp_path, make.pair("mine:gamma", name), 40.0 + number)
    make.put(tmp_path, make.pair("mine:gamma", "mine:gamma"), 90.0)
    (report,) = ARTEFACTS["figure5"].reports(analysis.load(tmp_path))
    assert report.tables[0].rows[-1][-1] == "43.0"


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("data.label", ("one", "other")),
        ("encoder.architecture", ("resnet8", "resnet18")),
        ("encoder.width", (1, 2)),
        ("optimizer.epochs", (6, 12)),
        ("evaluation.features", ("h", "z")),
        ("objective", ("contrastive", "supervised")),
        ("precision", ("float32", "bfloat16")),
    ],
)
def test_any_key_can_be_varied(tmp_path, make, key, values):
    experiments = [make.experiment(**{key: value}) for value in values]
    for number, each in enumerate(experiments):
        make.put(tmp_path, each, 50.0 + number)
    launch(tmp_path, "any", {"title": "T", "rows": key}, experiments)
    report = report_of(tmp_path, "any")
    # Both accuracies are there, each in the row of its value.
    assert report.tables[0].rows == [
        [str(value), f"{50.0 + number:.1f}"] for number, value in enumerate(values)
    ]


def test_a_metric_that_no_run_has_shows_nothing(store, tmp_path):
    there = copied(store, tmp_path, lambda artefact: artefact.update(metric="depth"))
    artefact = own_artefacts(there)["decoupled"]
    assert artefact.reports(analysis.load(there)) == []
    assert artefact.comparisons(pd.DataFrame(analysis.load(there))) == []
