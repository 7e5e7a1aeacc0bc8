"""Hydra's sweepers, launchers and callbacks: every job is carried out, and what has failed is seen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from simclr_ablate.store import Store
from tests.commands import run_process

pytestmark = pytest.mark.slow

FAST = ["optimizer.epochs=1", "optimizer.warmup_epochs=0", "data.limit=128", "data.validation=40"]


def objectives(store: Path) -> dict[float, float]:
    """Validation top-1 by temperature, as the store has it."""
    return {
        found.config()["loss"]["temperature"]: evaluation["metrics"]["validation_top1"]
        for found in Store(store).runs()
        for evaluation in found.evaluations().values()
    }


def test_the_basic_sweeper_runs_all_jobs_and_sees_the_failed_one(environment, tmp_path) -> None:
    rates = "optimizer.lr=0.1,1e30,0.2"
    arguments = ["-m", "hydra/sweeper=basic", "optimizer.name=sgd", rates, "data.limit=128"]
    status, output = run_process(environment, tmp_path / "store", *arguments, folder=tmp_path)
    assert status == 1, output
    states = {f.config()["optimizer"]["lr"]: f.state() for f in Store(tmp_path / "store").runs()}
    assert states == {0.1: "complete", 1e30: "failed", 0.2: "complete"}
    last = output.splitlines()[-1]
    assert last.startswith("error: shapes-")
    assert "NonFiniteLossError" in last
    assert [path.name for path in tmp_path.iterdir()] == ["store"], "notes in the working folder"


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_optuna_maximises_what_the_store_holds(environment, tmp_path, launcher) -> None:
    jobs = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    status, output = run_process(
        environment,
        tmp_path / "my store",
        *("-m", "hydra/sweeper=optuna", f"hydra/launcher={launcher}", *jobs),
        *("hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=3"),
        *("loss.temperature=interval(0.1,1.0)", "optimizer.lr=choice(0.002)", *FAST),
        folder=tmp_path,
        python=launcher == "joblib",  # its processes need a Python that nobody has forked
    )
    assert status == 0, output
    found = objectives(tmp_path / "my store")
    assert len(found) == 3
    (written,) = (tmp_path / "my store/.hydra").glob("*/optimization_results.yaml")
    best = yaml.safe_load(written.read_text())
    assert best["best_value"] == max(found.values())
    assert found[best["best_params"]["loss.temperature"]] == best["best_value"]
    assert [path.name for path in tmp_path.iterdir()] == ["my store"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "hydra/launcher=joblib", "seed=0,1"], "hydra/launcher must be basic or slurm"),
        (["hydra/sweeper=optuna"], "hydra/sweeper=optuna has no effect without -m: add -m"),
        (
            ["-m", "hydra/sweeper=basic", "evaluation.probe=color", "seed=0"],
            "objective_metric must be one of probe_validation_accuracy, probe_accuracy with",
        ),
        (["objective_metric=top_1"], "objective_metric must be one of validation_top1, top1"),
        (
            ["-m", "hydra/sweeper=optuna", "seed=0,1", "dry_run=true"],
            "dry_run must be false with hydra/sweeper=optuna",
        ),
        (
            ["-m", "hydra/sweeper=optuna", "seed=0,1", "launcher=slurm"],
            "launcher.follow must be true with hydra/sweeper=optuna",
        ),
        (
            ["-m", "hydra/sweeper=basic", "sweep=temperature"],
            "sweep=temperature holds many experiments: add hydra/sweeper=plan",
        ),
        (
            ["-m", "hydra/sweeper=basic", "hydra/launcher=slurm", "sweep=temperature"],
            "sweep=temperature holds many experiments: add hydra/sweeper=plan",
        ),
        (
            ["-m", "hydra/sweeper=basic", "hydra/launcher=slurm", "objective_metric=top1,top5"],
            "objective_metric holds for the whole command and cannot be swept",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(environment, tmp_path, arguments, message) -> None:
    status, output = run_process(environment, tmp_path / "store", *arguments, folder=tmp_path)
    assert status == 2, output
    assert f"error: {message}" in output.splitlines()[-1]
    assert not list(Store(tmp_path / "store").runs())


CALLBACK = """
from pathlib import Path

from hydra.experimental.callback import Callback


class Note(Callback):
    def __init__(self, file):
        self.file = Path(file)

    def note(self, *words):
        with self.file.open("a") as file:
            print(*words, file=file)

    def on_multirun_start(self, config, **kwargs):
        self.note("multirun start")

    def on_multirun_end(self, config, **kwargs):
        self.note("multirun end")

    def on_job_start(self, config, **kwargs):
        self.note("job start", config.optimizer.lr)

    def on_job_end(self, config, job_return, **kwargs):
        value = job_return.status.name
        self.note("job end", config.optimizer.lr, value, job_return.cfg.optimizer.lr)

    def on_run_end(self, config, job_return, **kwargs):
        self.note("run end", job_return.status.name)
"""


def noted(environment, folder: Path, *arguments: str) -> tuple[int, str, list[str]]:
    """A command with the user's callback: its status, its output and what the callback noted."""
    (folder / "mine.py").write_text(CALLBACK)
    callback = f"+hydra.callbacks.note={{_target_:mine.Note,file:{folder}/notes}}"
    flags, overrides = [a for a in arguments if a == "-m"], [a for a in arguments if a != "-m"]
    status, output = run_process(
        environment, folder / "store", *flags, *overrides, *FAST, callback, folder=folder
    )
    notes = folder / "notes"
    return status, output, notes.read_text().splitlines() if notes.exists() else []


@pytest.mark.parametrize(
    "how",
    [
        ["hydra/sweeper=plan", "launcher.parallel=1"],
        ["hydra/sweeper=basic"],
        ["hydra/sweeper=basic", "hydra/launcher=slurm", "hydra.launcher.cluster=local"],
    ],
)
def test_callbacks_hear_of_each_job(environment, tmp_path, how) -> None:
    status, output, notes = noted(environment, tmp_path, "-m", *how, "optimizer.lr=0.001,0.002")
    assert status == 0, output
    assert notes == [
        "multirun start",
        *("job start 0.001", "job end 0.001 COMPLETED 0.001"),
        *("job start 0.002", "job end 0.002 COMPLETED 0.002"),
        "multirun end",
    ]


def test_callbacks_hear_of_a_failed_run_and_the_command_ends_in_its_own_words(
    environment, tmp_path
) -> None:
    failing = ["optimizer.name=sgd", "optimizer.lr=1e30"]
    status, output, notes = noted(environment, tmp_path, *failing)
    assert status == 1, output
    assert notes == ["job start 1e+30", "job end 1e+30 FAILED 1e+30", "run end FAILED"]
    assert "Error executing job" not in output
    assert "Traceback" not in output
    assert "retry what failed" in output


def test_a_refusal_is_one_line_also_in_hydras_words(environment, tmp_path) -> None:
    command = [sys.executable, "-m", "simclr_ablate"]
    for arguments, words in (
        (["loss.temperature=${nope}"], ["loss.temperature", "nope"]),
        (["head=nothing"], ["head", "nonlinear"]),
        (["optimizer.foo=1"], ["optimizer.foo"]),
        (["+optimiser.lr=3"], ["unknown key optimiser.lr; did you mean optimizer.lr?"]),
        (["++temperature=0.3"], ["unknown key temperature; did you mean loss.temperature?"]),
        (["~store"], ["store is missing"]),
        (["seed=0,1"], ["seed"]),
    ):
        done = subprocess.run(
            [*command, *arguments],
            env={**os.environ, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())
