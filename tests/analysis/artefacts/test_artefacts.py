"""Which runs an artefact is made of, in a store of several sweeps."""

import pytest

import analysis
from analysis.artefacts import ARTEFACTS
from simclr_ablate.identity import run_id
from simclr_ablate.store import Store

SUPERVISED = {"objective": "supervised"}


@pytest.fixture
def store(tmp_path, make):
    """Runs of Table 1's sweep, of Table B.3's, of both, of a sweep of the user's own and of none."""
    made = {
        "table 1": make.experiment(**{"views.strength": 0.25}),
        "table B.3": make.experiment(**SUPERVISED, **{"optimizer.epochs": 24}),
        "both": make.experiment(**SUPERVISED),
        "study": make.experiment(**{"views.strength": 2.0}),
        "none": make.experiment(**{"views.strength": 2.5}),
        "random": make.random_encoder(),
    }
    ids = {name: run_id(experiment) for name, experiment in made.items()}
    for experiment in made.values():
        make.put(tmp_path, experiment, 50.0)
    store = Store(tmp_path)
    store.record_sweep("color_strength", [ids["table 1"]])
    store.record_sweep("color_strength", [ids["both"]])  # launched again, for other runs
    store.record_sweep("supervised_length", [ids["both"], ids["table B.3"], ids["random"]])
    store.record_sweep("study", [ids["study"]])
    return tmp_path, ids


def test_each_run_knows_its_sweeps(store):
    path, ids = store
    sweeps = analysis.load(path).set_index("run_id")["sweeps"]
    assert sweeps[ids["both"]] == ("color_strength", "supervised_length")
    assert sweeps[ids["table 1"]] == ("color_strength",)
    assert sweeps[ids["none"]] == ()


@pytest.mark.parametrize(
    ("artefact", "without"),
    [("table1", {"table B.3"}), ("tableB3", {"table 1"}), ("table2", set())],
)
def test_runs_of_other_artefacts_sweeps_are_left_out(store, artefact, without):
    path, ids = store
    kept = ARTEFACTS[artefact].runs_for(analysis.load(path))["run_id"]
    assert set(kept) == {ids[name] for name in ids if name not in without}


def test_runs_that_the_users_own_sweep_shares_with_another_stay(store):
    path, ids = store
    Store(path).record_sweep("study", [ids["study"], ids["table B.3"]])
    # A union of the artefacts' sweeps is not the user's own.
    Store(path).record_sweep("union", [ids["table 1"], ids["both"], ids["table B.3"]])
    runs = analysis.load(path)
    assert set(ARTEFACTS["table1"].runs_for(runs)["run_id"]) == set(ids.values())
    assert ids["table 1"] not in set(ARTEFACTS["tableB3"].runs_for(runs)["run_id"])


def test_evaluations_on_other_data_are_shown_by_the_sweep_that_makes_them(tmp_path, make):
    other = {"name": "cifar10", "size": 32, "validation": 5, "on_error": "raise", "seed": 0}
    keys = {f"evaluation.data.{key}": value for key, value in (other | {"metric": "top1"}).items()}
    ids = {}
    for temperature in (0.1, 0.5):
        for evaluated in ({}, keys):
            of = make.experiment(**{"loss.temperature": temperature} | evaluated)
            make.put(tmp_path, of, 50.0)
            ids[temperature] = run_id(of)
    store = Store(tmp_path)
    store.record_sweep("temperature", ids.values())

    def shown(name):
        runs = ARTEFACTS[name].runs_for(analysis.load(tmp_path))
        return sorted(runs["evaluation.data.name"].notna())

    # The user asked for the sweep on other data.
    assert shown("table5") == [False, False, True, True]
    store.record_sweep("transfer", ids.values())
    assert shown("table5") == [False, False]
    assert shown("tableB5") == [True, True]


def test_a_longer_supervised_training_is_no_table_1_of_its_own(tmp_path, make, capsys):
    from analysis.__main__ import main

    grids = {
        "color_strength": [make.experiment(**{"views.strength": s}) for s in (0.25, 0.5)],
        "supervised_length": [
            make.experiment(**SUPERVISED, **{"optimizer.epochs": 24, "views.blur": blur})
            for blur in (False, True)
        ],
    }
    for name, experiments in grids.items():
        for experiment in experiments:
            make.put(tmp_path / "runs", experiment, 50.0)
        Store(tmp_path / "runs").record_sweep(name, map(run_id, experiments))
    arguments = ["table1", f"store={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"]
    assert main(arguments) == 0
    assert [path.name for path in (tmp_path / "out").glob("*.md")] == ["table1-shapes.md"]
    assert "Table 1 on shapes" in capsys.readouterr().out
