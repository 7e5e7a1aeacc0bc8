"""`analysis.load`: the store as a table."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import processes
from analysis.__main__ import main
from simclr_ablate.config import flatten, keys
from simclr_ablate.identity import evaluation_key, identity_config, run_id
from simclr_ablate.schema import Experiment
from simclr_ablate.store import STATES, Store


def test_one_row_per_run_and_evaluation_of_it(tmp_path, make):
    accuracies = np.random.default_rng(0).uniform(10, 60, 3).round(2)
    for seed, top1 in enumerate(accuracies):
        make.put(tmp_path, make.pair("crop", "color", seed=seed), float(top1))
    on_z = make.pair("crop", "color", seed=1, **{"evaluation.features": "z"})
    make.put(tmp_path, on_z, 12.5)

    runs = analysis.load(tmp_path)

    assert len(runs) == 4
    assert runs["run_id"].nunique() == 3
    on_h = runs[runs["evaluation.features"] == "h"].set_index("seed")["top1"]
    assert on_h.to_dict() == dict(enumerate(accuracies))
    z = runs[runs["evaluation"] == evaluation_key(on_z)].squeeze()
    assert (z["evaluation.features"], z["top1"], z["run_id"]) == ("z", 12.5, run_id(on_z))


def test_every_config_key_is_a_column_with_its_value(tmp_path, make):
    experiment = make.experiment(**{"data.limit": 500, "data.label": "few"})
    make.put(tmp_path, experiment, 40.0)
    row = analysis.load(tmp_path).squeeze()
    config = flatten(experiment.to_config())
    assert {"loss.reduction", "data.on_error"}.isdisjoint(identity_config(experiment))
    for key in keys(Experiment):
        counts = not key.identity or key.name in identity_config(experiment)
        value = config[key.name] if counts else None
        value = tuple(value) if isinstance(value, list) else value
        assert pd.isna(row[key.name]) if value is None else row[key.name] == value, key.name
    assert row["pretraining.loss"] == 4.2
    assert row["pretraining.seconds"] == 31.4
    assert row["validation_top1"] == 39.5


def test_whole_numbers_stay_whole_beside_missing_ones(tmp_path, make):
    make.put(tmp_path, make.experiment(), 40.0)
    make.put(tmp_path, make.experiment(**{"data.limit": 500}), 30.0)
    limits = analysis.load(tmp_path)["data.limit"]
    assert sorted(map(str, limits)) == ["500", "<NA>"]


def test_runs_without_an_evaluation_are_there_with_their_state(tmp_path, make):
    store = Store(tmp_path)
    for seed, state in enumerate(["planned", "failed", "pretrained"]):
        experiment = make.experiment(seed=seed)
        run = store.run(run_id(experiment))
        run.create(experiment.to_config())
        if state == "failed":
            run.write_failure({"reason": "loss is nan"})
        if state == "pretrained":
            run.encoder_path.touch()
    make.put(tmp_path, make.experiment(seed=3), 50.0)

    runs = analysis.load(tmp_path).set_index("seed")

    assert runs["state"].to_dict() == {0: "planned", 1: "failed", 2: "pretrained", 3: "complete"}
    assert set(runs["state"]) <= set(STATES)
    assert runs["top1"].isna().tolist() == [True, True, True, False]


def test_an_empty_store_has_the_same_columns(tmp_path, make):
    empty = analysis.load(tmp_path)
    make.put(tmp_path, make.experiment(), 50.0)
    assert list(empty.columns) == list(analysis.load(tmp_path).columns)
    assert len(empty) == 0


def test_other_metrics_keep_their_names(tmp_path, make):
    run = make.put(tmp_path, make.experiment(), 50.0)
    run.write_pretraining({"loss": 1.0, "pairs_per_second": 2500.0})
    run.write_evaluation("h-other", {"features": "h"}, {"top1": 51.0, "l2": 0.01}, seconds=2.5)
    runs = analysis.load(tmp_path).set_index("evaluation")
    assert runs.at["h-other", "l2"] == 0.01
    assert sorted(runs["evaluation_seconds"].dropna()) == [2.5]
    assert set(runs["pretraining.pairs_per_second"]) == {2500.0}


def test_a_store_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*does not exist"):
        analysis.load(tmp_path / "nowhere")


@pytest.mark.slow
def test_neither_loading_nor_drawing_needs_torch(tmp_path, make, monkeypatch):
    """Even in one process, once what needs torch is in the cache."""
    make.put(tmp_path / "runs", make.pair("crop", "color"), 50.0)
    arguments = [f"store={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"]
    # This process, which has torch, fills the cache.
    monkeypatch.setattr(processes, "available_cores", lambda: 1)
    assert main(arguments) == 0
    code = f"""
import json, sys, analysis.__main__
from analysis import processes
processes.available_cores = lambda: 1
status = analysis.__main__.main({arguments!r})
print(json.dumps([status, "torch" in sys.modules, "matplotlib.pyplot" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0, False, False]
