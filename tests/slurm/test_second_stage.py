"""A sweep that selects on a real SLURM: submitted once, its second stage follows by itself."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simclr_ablate.store import Run, Store
from tests.commands import SELECTING, logs, own_sweeps, run_process, wait_for_step
from tests.slurm.conftest import ON_SLURM, STEPS, eventually, slurm

SHORT = "optimizer.epochs=1"
PICK = SELECTING.replace("seeds: [0, 1]", "seeds: [0]")
"""Four candidates for two winners, and the random encoder."""
FEW = PICK.replace("head: [none, linear]", "head: none").partition("grids:\n  - objective")[0]
"""Two candidates for one winner: the fewest jobs, each of which takes seconds to load torch."""
OTHER = "name: other\ngrids:\n  - head: none\n    loss.normalize: false\n"


@pytest.fixture
def pick(environment, tmp_path):
    """`pick(...)`: gives the command for the sweep, with these arguments more; returns exit status and output."""
    both = "name: both\nsweeps: [pick, other]\n"

    def command(*arguments: str, sweep: str = "pick", text: str = FEW) -> tuple[int, str]:
        flags = own_sweeps(tmp_path / "config", pick=text, other=OTHER, both=both)
        line = [*flags, *ON_SLURM, f"sweep={sweep}", *arguments]
        return run_process(environment, tmp_path / "store", *line)

    return command


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def of_seed(store: Store, seed: int) -> list[Run]:
    runs = [run for run in store.runs() if run.config()["objective"] != "none"]
    return [run for run in runs if run.config()["seed"] == seed]


def head_of(run: Run) -> str:
    return run.config()["head"]["kind"]


def score(run: Run) -> float:
    (evaluation,) = run.evaluations().values()
    return evaluation["metrics"]["validation_top1"]


def arrays(store: Store) -> set[str]:
    """The jobs that runs were submitted as, whatever became of them."""
    last = (run.last_submission() for run in store.runs())
    return {submission["job"].partition("_")[0] for submission in last if submission}


def status(store: Store, *words: str) -> str:
    line = [sys.executable, "-m", "simclr_ablate.status", f"store={store.root}", *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def follow(store: Store) -> str:
    """What status says until nothing is left to come."""
    line = [sys.executable, "-m", "simclr_ablate.status", "--follow", f"store={store.root}"]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=True).stdout


def test_the_second_stage_follows_requeues_and_failures(pick, store) -> None:
    """One candidate is requeued, one killed: the choice comes after the one, and does without the other."""
    long = [*STEPS, "optimizer.epochs=15", "compute.checkpoint_minutes=60"]
    code, output = pick(*long, text=PICK)
    assert code == 0, output
    assert "submits its second stage once the first has ended" in output
    assert "PENDING (Dependency) submits it once the first has ended" in status(store)
    code, output = pick(*long, text=PICK)
    assert code == 0, output
    assert re.search("submitted 0 experiments; [45] are queued or running already", output), output
    assert len(waiting_jobs()) == 1

    def begun() -> list[Run]:
        return [run for run in of_seed(store, 9) if at_step(run, 8) and run.holder()]

    eventually(begun, "a candidate to requeue")
    (requeued, *_) = begun()
    # As SLURM does it. On a cluster that has just been started, scancel tries for a minute to do it again.
    os.kill(requeued.holder()["pid"], signal.SIGUSR2)

    def others() -> list[Run]:
        return [run for run in begun() if head_of(run) != head_of(requeued)]

    eventually(others, "a candidate to kill")
    (killed, *_) = others()
    os.kill(killed.holder()["pid"], signal.SIGKILL)
    shown = follow(store).splitlines()
    assert shown[-1] == "6 complete, 1 failed", shown

    # Twice as a rule; SLURM may deliver the signal to the job that it has started again as well.
    assert requeued.log_path.read_text().count("pretraining from step") >= 2
    tried = {
        head: [f for f in of_seed(store, 9) if head_of(f) == head] for head in ("none", "linear")
    }
    winners = of_seed(store, 0)
    assert sorted(map(head_of, winners)) == ["linear", "none"]
    for winner in winners:
        complete = [run for run in tried[head_of(winner)] if run.state() == "complete"]
        best = max(complete, key=score)
        assert winner.config()["loss"]["temperature"] == best.config()["loss"]["temperature"]
        assert winner.encoder_path.stat().st_mtime > max(
            f.encoder_path.stat().st_mtime for f in complete
        )
    (log,) = store.root.glob(".jobs/pick-choice-*/*_log.out")
    assert "best of 2)" in log.read_text()
    assert "best of 1 complete of 2)" in log.read_text()
    assert len(arrays(store)) == 2
    assert "second stage" not in status(store)


def at_step(run: Run, step: int) -> bool:
    return run.progress().get("step", 0) >= step


@pytest.fixture
def no_sbatch(tmp_path) -> str:
    """A launcher option with which jobs find an `sbatch` that refuses."""
    folder = tmp_path / "refusing"
    folder.mkdir()
    (folder / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: not from a node' >&2\nexit 1\n")
    (folder / "sbatch").chmod(0o755)
    return f"launcher.setup=['export PATH={folder}:$PATH']"


def test_a_node_that_may_not_submit_says_so(pick, store, no_sbatch) -> None:
    code, output = pick(SHORT, no_sbatch)
    assert code == 0, output
    *_, shown, missing = follow(store).splitlines()
    assert shown == "2 complete"
    assert "second stage of pick: sbatch: error: not from a node" in missing
    shown = status(store, "sweep=pick")
    assert "second stage of pick: sbatch: error: not from a node (log: " in shown
    assert shown.rstrip().endswith("; run its command again to submit it")
    code, output = pick(SHORT, no_sbatch, "dry_run=true")
    assert "pick: 3 experiments, 2 already finished, 1 to run" in output
    code, output = pick(SHORT, no_sbatch, "launcher.follow=true")
    assert code == 0, output
    assert "submitted 1 experiment as job" in output
    assert "all 3 experiments are in" in output
    assert "second stage" not in status(store, "sweep=pick")


def test_followed_both_stages_are_shown(pick, store, no_sbatch) -> None:
    """By whoever submits the second: here the command, since its job cannot."""
    code, output = pick(SHORT, no_sbatch, "launcher.follow=true")
    assert code == 0, output
    assert "not from a node" in output
    assert "this command submits it" in output
    assert "[1/1]" in output
    assert "all 3 experiments are in" in output
    assert len(arrays(store)) == 2


def test_followed_in_a_union_nothing_is_submitted_twice(pick, store) -> None:
    code, output = pick(SHORT, "launcher.follow=true", sweep="both")
    assert code == 0, output
    assert "second stage: 1 experiment," in output
    assert "this command submits it" not in output
    assert "all 4 experiments are in" in output
    assert len(arrays(store)) == 2
    for run in store.runs():
        assert logs(run).count("evaluating as") == 1
    members = {record.name: len(record.run_ids) for record in store.sweeps()}
    assert members == {"both": 4, "pick": 3, "other": 1}


def test_it_waits_for_what_runs_elsewhere(pick, store) -> None:
    """A candidate that a process outside of SLURM holds has no job to depend on: the waiting job waits again."""
    _, output = pick(SHORT, "dry_run=true")
    held = store.run(re.findall(r"shapes\S+-s9-\w+", output)[0])
    held.path.mkdir(parents=True)
    lease = held.lease()
    code, output = pick(SHORT)
    assert code == 0, output
    assert "submitted 1 experiment" in output
    (first,) = waiting_jobs()

    def another() -> bool:
        jobs = waiting_jobs()
        return len(jobs) == 1 and jobs != [first]

    eventually(another, "the job to be followed by another")
    (again,) = waiting_jobs()
    assert not of_seed(store, 0)
    assert slurm("squeue", "--noheader", f"--jobs={again}", "--format=%r").strip() == "BeginTime"
    lease.release()
    slurm("scontrol", "update", f"JobId={again}", "StartTime=now")
    assert follow(store).splitlines()[-1] == "2 complete"
    assert len(of_seed(store, 0)) == 1


def waiting_jobs() -> list[str]:
    lines = slurm("squeue", "--noheader", "--format=%A %j").splitlines()
    jobs = dict(line.split() for line in lines)
    return [job for job, name in jobs.items() if name.startswith("pick-choice-")]


def test_what_is_cancelled_has_no_second_stage(pick, store) -> None:
    code, output = pick(*STEPS)
    assert code == 0, output
    wait_for_step(Path(store.root), 3)
    assert "cancelled the second stage of pick" in status(store, "cancel", "sweep=pick")
    eventually(lambda: not slurm("squeue", "--noheader"), "an empty queue")
    assert not of_seed(store, 0)
    assert "second stage of pick: cancelled by" in status(store)
