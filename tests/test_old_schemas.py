"""Runs of earlier schemas: read, taken for finished where nothing that counts differs, and left out by name elsewhere.

`old_stores/schemaN.tar.xz` is a store that the last version of that schema wrote, without weights: on 320 of the
embedded images, an epoch each of SimCLR's views, of a pair without colour, of crops alone with two evaluations, and of
supervised training; and two random encoders that differ only in epochs. The store of schema 1 has SimCLR's views twice,
with multiplicative and with additive brightness.
"""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest

import analysis
from simclr_ablate import status
from simclr_ablate.identity import evaluated_beside, evaluation_key, run_id
from simclr_ablate.plan.plan import planned_run
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Run, Store
from simclr_ablate.store.__main__ import main as pack_main

ROOT = Path(__file__).parents[1]
SIZES = [
    "data.version=1",
    *("data.limit=320", "data.validation=50", "optimizer.batch_size=32", "optimizer.epochs=1"),
    *("optimizer.warmup_epochs=0", "evaluation.l2_count=2", "evaluation.knn=5"),
]
DONE = [
    ["views=simclr"],
    ["views=pair", "views.first=crop", "views.second=sobel"],
    # With other values of what does not count in them.
    ["views=pair", "views.first=crop", "views.second=sobel", "views.strength=0.1"],
    ["objective=none"],
    ["objective=none", "views=crop", "loss.temperature=0.7", "optimizer.lr=2", "head=none"],
    ["objective=supervised", "views=crop"],
    ["objective=supervised", "views=crop", "views.blur=true", "evaluation.l2_count=9"],
    ["views=crop", "evaluation.probe=color", "evaluation.patience=null"],
    [
        "views=crop",
        "evaluation.probe=color",
        "evaluation.patience=null",
        "evaluation.knn=40",
        "views.strength=1",
    ],
]
NOT_DONE = [
    ["views=simclr", "views.strength=0.1"],
    ["views=pair", "views.first=crop", "views.second=color"],
    ["objective=none", "seed=1"],
    ["objective=none", "evaluation.knn=6"],
    ["views=crop"],
]


@pytest.fixture(params=[1, 2], ids="schema {}".format)
def version(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def store(version: int, tmp_path: Path) -> Store:
    with tarfile.open(ROOT / f"tests/old_stores/schema{version}.tar.xz") as packed:
        packed.extractall(tmp_path / "runs", filter="data")
    store = Store(tmp_path / "runs")
    for run in store.runs():
        run.encoder_path.touch()
    return store


def config_of(run: Run) -> dict:
    return json.loads((run.path / "experiment.json").read_text())["config"]


def additive(store: Store) -> list[Run]:
    """The runs whose brightness was additive, and that have any."""
    views = {run: config_of(run)["views"] for run in store.runs()}
    return [
        run
        for run, of_run in views.items()
        if of_run["policy"] == "simclr" and of_run.get("brightness") == "additive"
    ]


def test_their_numbers_are_read(store, version, caplog) -> None:
    left_out = {run.run_id for run in additive(store)}
    assert len(left_out) == (version == 1)
    runs = analysis.load(store.root)
    assert set(runs["run_id"]) == {run.run_id for run in store.runs()} - left_out
    assert [record.getMessage() for record in caplog.records] == [
        f"1 run is left out, made by a version with schema 1 (here 3): {run_id}"
        for run_id in left_out
    ]
    assert (runs["state"] == "complete").all()
    for run, row in ((store.run(row["run_id"]), row) for _, row in runs.iterrows()):
        kept = [json.loads(path.read_text()) for path in (run.path / "evaluations").iterdir()]
        (metrics, *_) = [each["metrics"] for each in kept]
        name = "probe_accuracy" if row["evaluation.probe"] == "color" else "top1"
        assert row[name] == metrics[name]
    simclr = runs[runs["views.policy"] == "simclr"].squeeze()
    assert simclr["views.color"] == "pytorch"
    pretraining = store.run(simclr["run_id"]).pretraining()
    assert ("entropy" in pretraining) == (version == 2), "it is over other candidates"
    (probed,) = runs[runs["evaluation.probe"].notna()].to_dict("records")
    assert pd.isna(probed["evaluation.knn"])


def test_status_shows_them(store, capsys) -> None:
    assert status.main([f"store={store.root}", "--json"]) == 0
    rows = {row["run_id"]: row for row in json.loads(capsys.readouterr().out)}
    assert {row["state"] for row in rows.values()} == {"complete"}
    for run in additive(store):
        assert rows.pop(run.run_id)["config"] == "of another version: its schema is 1"
    assert {row["config"] for row in rows.values()} == {None}
    assert status.main([f"store={store.root}"]) == 0
    assert "complete" in capsys.readouterr().out


@pytest.mark.parametrize("overrides", DONE, ids=" ".join)
def test_what_they_have_is_not_done_again(overrides, store, make_experiment) -> None:
    planned = planned_run(make_experiment(*SIZES, *overrides), store)
    assert planned.state() == "complete"
    assert planned.run.run_id != run_id(planned.experiment)
    assert planned.run.evaluation(evaluation_key(planned.experiment)) is not None


@pytest.mark.parametrize("overrides", NOT_DONE, ids=" ".join)
def test_what_they_have_not_is_still_to_be_done(overrides, store, make_experiment) -> None:
    assert planned_run(make_experiment(*SIZES, *overrides), store).state() != "complete"


def test_additive_brightness_is_none_of_our_colours(make_experiment, tmp_path) -> None:
    with tarfile.open(ROOT / "tests/old_stores/schema1.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    for run in Store(tmp_path).runs():
        run.encoder_path.touch()
        if run not in additive(Store(tmp_path)) and config_of(run)["views"]["policy"] == "simclr":
            shutil.rmtree(run.path)
    for color in ("pytorch", "tensorflow"):
        planned = planned_run(make_experiment(*SIZES, f"views.color={color}"), Store(tmp_path))
        assert planned.state() == "planned"


def test_an_encoder_that_is_gone_is_not_there(store, make_experiment) -> None:
    """Only the metrics are left: what else there is to evaluate needs weights."""
    for run in store.runs():
        run.encoder_path.unlink()
    experiment = make_experiment(*SIZES, "views=simclr", "evaluation.features=z")
    assert planned_run(experiment, store).run.run_id == run_id(experiment)


def test_a_new_evaluation_beside_theirs_is_found_by_its_own_head(store, make_experiment) -> None:
    """The random encoder's z is that of a head which its run does not say."""
    theirs, others = (
        make_experiment(*SIZES, "objective=none", "evaluation.features=z", *head)
        for head in ([], ["head=linear"])
    )
    run = planned_run(others, store).run
    config = others.to_config()["evaluation"]
    metrics = {"top1": 12.5, "knn_top1": 11.0}
    run.write_evaluation(evaluation_key(others), config, metrics, beside=evaluated_beside(others))
    again = Store(store.root)
    assert planned_run(theirs, again).state() != "complete"
    assert (
        planned_run(others, again).run.evaluations()[evaluation_key(others)]["metrics"] == metrics
    )
    rows = analysis.load(store.root).set_index("run_id").loc[[run.run_id]]
    assert rows[rows["evaluation.features"] == "z"]["head.kind"].tolist() == ["linear"]


def test_one_that_was_edited_is_named(store, caplog) -> None:
    edited, *rest = [run for run in store.runs() if run not in additive(store)]
    record = json.loads((edited.path / "experiment.json").read_text())
    record["config"]["seed"] = 5
    (edited.path / "experiment.json").write_text(json.dumps(record))
    assert edited.run_id not in set(analysis.load(store.root)["run_id"])
    assert f"{edited.path}/experiment.json" in caplog.text
    assert "not this run's" in caplog.text
    assert rest


def test_a_key_that_is_added_renames_no_run(tmp_path, make_experiment) -> None:
    """In a copy of the program whose encoder has one key more, the runs of this one are complete."""
    store = Store(tmp_path / "runs")
    for seed in (0, 1):
        run = put(store, make_experiment(f"seed={seed}"))
    new = tmp_path / "new"
    for name in ("simclr_ablate", "conf", "sweeps"):
        shutil.copytree(ROOT / name, new / name, ignore=shutil.ignore_patterns("__pycache__"))
    schema = new / "simclr_ablate/schema/sections.py"
    code = schema.read_text()
    added = 'class Encoder:\n    """The encoder f. Its output, after the average pool, is h."""\n'
    assert added in code
    schema.write_text(
        code.replace(added, f'{added}\n    dropout: float = key("share of h", before=0.0)\n')
    )
    for path in (new / "conf/encoder").glob("*.yaml"):
        path.write_text(f"{path.read_text()}\ndropout: 0.0\n")

    def plan(*overrides: str) -> str:
        command = ["-m", "simclr_ablate", "-m", "seed=0,1", "dry_run=true", f"store={store.root}"]
        done = subprocess.run(
            [sys.executable, *command, *overrides],
            **{"cwd": new, "capture_output": True, "text": True, "check": True},
        )
        return done.stdout

    as_before = plan()
    assert "2 already finished, 0 to run" in as_before
    assert run.run_id in as_before
    assert "0 already finished, 2 to run" in plan("encoder.dropout=0.5")


def put(store: Store, experiment: Experiment) -> Run:
    """A finished run."""
    run = store.run(run_id(experiment))
    run.create(experiment.to_config())
    run.encoder_path.touch()
    config = experiment.to_config()["evaluation"]
    run.write_evaluation(evaluation_key(experiment), config, {"top1": 50.0, "knn_top1": 40.0})
    return run


def test_they_travel_in_packs_and_are_not_done_again(
    store, version, make_experiment, tmp_path
) -> None:
    """Without weights, and with their own names: the runs that today's keys cannot express, too."""
    assert pack_main(["pack", f"store={store.root}", f"to={tmp_path / 'old.zip'}"]) == 0
    assert pack_main(["unpack", str(tmp_path / "old.zip"), f"store={tmp_path / 'there'}"]) == 0
    there = Store(tmp_path / "there")
    assert [run.run_id for run in there.runs()] == [run.run_id for run in store.runs()]
    found, expected = (analysis.load(each.root).drop(columns="path") for each in (there, store))
    assert found.equals(expected)
    assert len(additive(there)) == (version == 1)
    for overrides in DONE:
        planned = planned_run(make_experiment(*SIZES, *overrides), there)
        assert planned.state() == "complete"
        assert planned.run.run_id != run_id(planned.experiment)
    for overrides in NOT_DONE:
        planned = planned_run(make_experiment(*SIZES, *overrides), there)
        assert planned.run.run_id == run_id(planned.experiment)
    assert pack_main(["pack", f"store={there.root}", f"to={tmp_path / 'again.zip'}"]) == 0
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "old.zip").read_bytes()
