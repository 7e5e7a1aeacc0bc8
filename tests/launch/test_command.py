"""The command itself, as a user runs it: in processes of its own, on the embedded data."""

import json
import subprocess
import sys
import time

import pytest

from simclr_ablate.store import Store
from tests.commands import (
    assert_same,
    logs,
    results,
    run,
    start,
)

pytestmark = pytest.mark.slow


def test_a_failed_run_stops_no_other_and_is_named(environment, tmp_path):
    status, output = run(environment, tmp_path, "-m", "optimizer.name=sgd", "optimizer.lr=1e30,0.1")
    assert status == 1
    states = {found.config()["optimizer"]["lr"]: found for found in Store(tmp_path).runs()}
    assert states[0.1].state() == "complete"
    failed = states[1e30]
    assert failed.state() == "failed"
    reason = failed.failure()["reason"]
    assert "NonFiniteLossError: the loss became nan at step" in reason
    assert "the last finite one was" in reason
    assert "NonFiniteLossError" in failed.log_path.read_text()
    for text in (failed.run_id, reason, str(failed.log_path), "retry what failed", "1 done, 1 not"):
        assert text in output


def test_two_commands_at_once_train_each_experiment_once(environment, tmp_path):
    arguments = ["-m", "seed=0,1,2", "launcher.parallel=2", "optimizer.epochs=1"]
    commands = [start(environment, tmp_path, *arguments) for _ in range(2)]
    outputs = [command.communicate(timeout=300)[0] for command in commands]
    assert [command.returncode for command in commands] == [0, 0], outputs
    runs = list(Store(tmp_path).runs())
    assert len(runs) == 3
    for found in runs:
        assert found.state() == "complete"
        lines = logs(found)
        assert lines.count("pretraining from step") == 1, "somebody trained it twice"
        assert lines.count("evaluating as") == 1, "somebody evaluated it twice"


def test_what_is_finished_is_not_done_again(environment, tmp_path):
    arguments = ["-m", "objective=none,contrastive", "optimizer.epochs=1"]
    status, output = run(environment, tmp_path, *arguments)
    assert status == 0, output
    stamps = {f.run_id: f.encoder_path.stat().st_mtime_ns for f in Store(tmp_path).runs()}
    assert len(stamps) == 2
    begin = time.monotonic()
    status, output = run(environment, tmp_path, *arguments)
    assert time.monotonic() - begin < 30
    assert status == 0
    assert "2 already finished, 0 to run" in output
    assert {f.run_id: f.encoder_path.stat().st_mtime_ns for f in Store(tmp_path).runs()} == stamps
    # Another evaluation of the same encoders trains nothing, and keeps the first.
    status, output = run(environment, tmp_path, *arguments, "evaluation.features=z")
    assert status == 0, output
    for found in Store(tmp_path).runs():
        assert found.encoder_path.stat().st_mtime_ns == stamps[found.run_id]
        evaluations = found.evaluations().values()
        assert {e["config"]["features"] for e in evaluations} == {"h", "z"}
        assert all(0 < e["seconds"] < 60 and "seconds" not in e["metrics"] for e in evaluations)

    command = [sys.executable, "-m", "simclr_ablate.status", f"store={tmp_path}", "--json"]
    listed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert {row["run_id"]: row["state"] for row in listed} == dict.fromkeys(stamps, "complete")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["los.temperature=1"], "unknown key los.temperature; did you mean loss.temperature?"),
        (["loss.temperature=-1"], "loss.temperature must be > 0, got -1.0"),
        (["-m", "loss.temperature=0.1,-1"], "loss.temperature must be > 0, got -1"),
        (["optimizer.batch_size=100000"], "optimizer.batch_size must be <= 320"),
        (["sweep=augmentation_grid"], "sweep=augmentation_grid holds many experiments: add -m"),
        (["data=image_folder", "data.root=/nowhere"], "data.root must be a folder that holds"),
        (["launcher.parallel=0"], "launcher.parallel must be >= 1, got 0"),
    ],
)
def test_wrong_input_is_refused_before_anything_starts(environment, tmp_path, arguments, message):
    status, output = run(environment, tmp_path, *arguments)
    assert status == 2
    assert f"error: {message}" in output
    assert not list(tmp_path.iterdir())


def test_a_sweep_of_ones_own(environment, tmp_path):
    (tmp_path / "config/sweep").mkdir(parents=True)
    (tmp_path / "config/sweep/mine.yaml").write_text(
        "name: mine\ngrids:\n  - loss.temperature: [0.1, 0.2]\n    head: [none, linear]\n"
    )
    status, output = run(
        environment,
        tmp_path / "store",
        *("-m", "--config-dir", str(tmp_path / "config"), "sweep=mine", "dry_run=true"),
    )
    assert status == 0, output
    assert "mine: 4 experiments, 0 already finished, 4 to run" in output
    assert output.count("planned") == 4
    assert not (tmp_path / "store").exists()


def test_a_union_of_sweeps_names_each_experiment_once(environment, tmp_path):
    folder = tmp_path / "config/sweep"
    folder.mkdir(parents=True)
    (folder / "alpha.yaml").write_text("name: alpha\ngrids:\n  - loss.temperature: [0.1, 0.2]\n")
    (folder / "beta.yaml").write_text(
        "name: beta\ngrids:\n  - loss.temperature: [0.2, 0.3]\n  - head: none\n"
    )
    (folder / "both.yaml").write_text("name: both\nsweeps: [alpha, beta]\n")
    options = ["-m", "--config-dir", str(tmp_path / "config"), "sweep=both"]
    status, output = run(environment, tmp_path / "store", *options, "dry_run=true")
    assert status == 0, output
    assert "both: 4 experiments, 0 already finished, 4 to run" in output
    lines = [line for line in output.splitlines() if "planned" in line]
    assert len(lines) == 4
    assert [("alpha" in line, "beta" in line) for line in lines] == [
        (True, False),
        (True, True),  # the default temperature is 0.2
        (False, True),
        (False, True),
    ]


def test_hydras_own_flags_work(environment, tmp_path):
    def output(*arguments: str, **more: str) -> str:
        command = [sys.executable, "-m", "simclr_ablate", *arguments]
        done = subprocess.run(
            command, env={**environment, **more}, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "temperature: 0.3" in output("--cfg", "job", "loss.temperature=0.3")
    assert "hydra_bash_completion" in output("-sc", "install=bash")
    line = "simclr-ablate loss.temp"  # Hydra completes installed commands, not `python -m`
    completed = output("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert "loss.temperature=" in completed
    assert "provider" in output("--info", "searchpath").lower()
    assert "planned" in output("hydra.verbose=true", "dry_run=true")
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_left_over_comes_out_as_beside_others(environment, tmp_path):
    """With the threads of its sweep: another number of them rounds otherwise."""
    store, together = tmp_path / "store", tmp_path / "together"
    shared = ("compute.threads=null", "optimizer.epochs=1")
    status, output = run(environment, together, "-m", "seed=0,1", *shared)
    assert status == 0, output
    status, output = run(environment, store, "-m", "seed=0", *shared)
    assert status == 0, output
    status, output = run(environment, store, "-m", "seed=0,1", *shared)
    assert status == 0, output
    assert "1 already finished, 1 to run" in output
    (left,) = (found for found in Store(store).runs() if found.config()["seed"] == 1)
    assert_same(left, results(Store(together).run(left.run_id)))
