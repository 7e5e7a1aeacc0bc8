"""The status command: a table for people, JSON for scripts."""

import json
import os
import re
import subprocess
import sys

import pytest

from simclr_ablate.identity import run_id
from simclr_ablate.plan.plan import make_plan
from simclr_ablate.status import main
from simclr_ablate.store import Store


@pytest.fixture
def store(make_experiment, tmp_path, monkeypatch) -> Store:
    """Three runs: one complete, one failed, one interrupted; the first two are the sweep `two`."""
    monkeypatch.setenv("COLUMNS", "220")
    store = Store(tmp_path / "store")
    experiments = [make_experiment(f"seed={seed}") for seed in range(3)]
    complete, failed, interrupted = make_plan(experiments, store, None).runs
    for planned in (complete, failed, interrupted):
        planned.run.create(planned.experiment.to_config())
    metrics = {"top1": 47.13, "knn_top1": 39.0}
    complete.run.write_evaluation(complete.evaluation_key, {"features": "h"}, metrics)
    failed.run.write_failure({"reason": "the disk is full"})
    interrupted.run.write_progress(
        {
            "phase": "pretraining",
            "epoch": 3,
            "epochs": 7,
            "step": 90,
            "steps": 200,
            "fraction": 0.45,
            "loss": 2.0,
            "lr": 0.1,
            "pairs_per_second": 10.0,
            "seconds_left": None,
        }
    )
    store.record_sweep("two", [complete.run_id, failed.run_id])
    return store


def test_the_table(store: Store, capsys) -> None:
    assert main([f"store={store.root}"]) == 0
    shown = capsys.readouterr().out
    for text in ("47.1", "39.0", "the disk is full", "log.txt", "epoch 3/7", "step 90/200"):
        assert text in shown
    assert shown.splitlines()[-1] == "1 complete, 1 failed, 1 interrupted"


def test_a_second_stage_that_was_not_submitted(store: Store, capsys) -> None:
    launched = {"both": "both-1", "two": "two-1"}
    record = {"job": "7", "cluster": "slurm", "output": "runs/7.log"}
    for name in ("two-1", "two-2"):
        choice = store.choice(name)
        choice.create({})
        choice.write_submission(record | {"sweep": "two", "sweeps": launched})
        choice.withdraw_submission()
        choice.write_failure({"reason": "it may not"})
    choice.write_choice([])
    line = "second stage of two: it may not (log: runs/7.log); run its command again to submit it"
    for words in ([], ["sweep=two"]):
        assert main([f"store={store.root}", *words]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == line
    assert main([f"store={store.root}", "--follow"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == line
    store.record_sweep("three", store.sweeps()[-1].run_ids)
    assert main([f"store={store.root}", "sweep=three"]) == 0
    assert "second stage" not in capsys.readouterr().out
    store.choice("two-1").write_choice([])
    assert main([f"store={store.root}"]) == 0
    assert "second stage" not in capsys.readouterr().out


def test_json_of_one_sweep(store: Store, capsys) -> None:
    assert main([f"store={store.root}", "sweep=two", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in rows] == ["complete", "failed"]
    assert list(rows[0]["evaluations"].values()) == [{"top1": 47.13, "knn_top1": 39.0}]
    assert rows[1]["failure"] == "the disk is full"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep=tow"], "no sweep tow was launched"),
        (["stor=x"], "unknown key stor; did you mean store?"),
        (["retyr"], "unknown action 'retyr'; did you mean retry? (accepted: "),
        (["cancel", "retry"], "one action at a time, got cancel and retry"),
    ],
)
def test_what_it_does_not_know_is_named(store: Store, capsys, arguments, message) -> None:
    assert main([*arguments, f"store={store.root}"]) == 2
    assert message in capsys.readouterr().err


def test_a_store_without_such_runs_says_why(store: Store, tmp_path, capsys) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main([f"store={empty}"]) == 0
    assert capsys.readouterr().out == f"the store {empty} holds no runs yet\n"
    assert main([f"store={store.root}", "state=running"]) == 0
    said = capsys.readouterr().out
    assert said == f"none of 3 runs in the store {store.root} is running\n"
    for words in ([], ["--json"], ["--follow"], ["retry"], ["clean"]):
        assert main([f"store={tmp_path / 'nowhere'}", *words]) == 2
        assert f"the store {tmp_path / 'nowhere'} does not exist" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main([f"store={tmp_path / 'file'}"]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err


def test_a_complete_run_says_so_whatever_it_wrote_last(store: Store, capsys) -> None:
    (run,) = (run for run in store.runs() if run.state() == "complete")
    run.write_progress({"phase": "evaluating"})
    assert main([f"store={store.root}", f"run={run.run_id}", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["progress"]["phase"] == "complete"


def test_names_are_text_whatever_they_look_like(make_experiment, tmp_path, capsys) -> None:
    """Markup and emoji of rich's, in a folder's name and in a reason."""
    root = tmp_path / "[red]runs[/red] :cat: é"
    experiment = make_experiment()
    run = Store(root).run(run_id(experiment))
    run.create(experiment.to_config())
    run.write_failure({"reason": "[bold]no[/] :dog:"})
    assert main([f"store={root}"]) == 0
    # However narrow the terminal is, nothing of it is lost.
    shown = re.sub(r"[\s│]", "", capsys.readouterr().out)
    assert "[bold]no[/]:dog:" in shown
    assert "[red]runs[/red]:cat:" in shown
    command = [sys.executable, "-m", "simclr_ablate.status", f"store={root}"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "400"}
    done = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert b":cat: \\xe9" in done.stdout
