"""submitit's clusters on this machine, and what a submitted run does when its time is up."""

import os
import signal
import subprocess
import sys

import pytest

from simclr_ablate.launch.cluster.submitted import TIMEOUTS, RunFailedError, Submitted
from simclr_ablate.launch.worker import Job
from simclr_ablate.store import Store
from tests.commands import (
    assert_same,
    only_run,
    results,
    run,
    run_process,
    start,
    start_python,
    wait_for_step,
)
from tests.slowly import SLOW

pytestmark = pytest.mark.slow

LENGTH = [SLOW, "optimizer.epochs=5"]


@pytest.fixture(scope="module")
def by_this_machine(environment, tmp_path_factory):
    """The results of a run that the local launcher carried out."""
    store = tmp_path_factory.mktemp("by_this_machine")
    status, output = run(environment, store, *LENGTH)
    assert status == 0, output
    return results(only_run(store))


def test_in_the_commands_own_process_the_result_is_the_same(environment, tmp_path, by_this_machine):
    options = ["launcher=slurm", "launcher.cluster=debug", "launcher.cpus=1"]
    status, output = run_process(environment, tmp_path, *options, *LENGTH)
    assert status == 0, output
    assert "top-1" in output
    assert_same(only_run(tmp_path), by_this_machine)


def test_a_failed_run_stops_no_other(environment, tmp_path):
    options = ["launcher=slurm", "launcher.cluster=local", "launcher.max_parallel=2"]
    command = start(
        environment, tmp_path, "-m", *options, "optimizer.name=sgd", "optimizer.lr=1e30,0.1"
    )
    output, _ = command.communicate(timeout=120)
    assert command.returncode == 1, output
    states = {f.config()["optimizer"]["lr"]: f.state() for f in Store(tmp_path).runs()}
    assert states == {1e30: "failed", 0.1: "complete"}
    assert "NonFiniteLossError" in output


def test_submitits_signal_requeues_at_the_end_of_a_step(environment, tmp_path, by_this_machine):
    """The way through submitit's own handler and its pickle, with a process of this machine as the job."""
    options = ["launcher=slurm", "launcher.cluster=local", "compute.checkpoint_minutes=60"]
    command = start_python(environment, tmp_path, *options, *LENGTH)
    found = wait_for_step(tmp_path, 10)
    os.kill(found.holder()["pid"], signal.SIGUSR2)
    output, _ = command.communicate(timeout=120)
    assert command.returncode == 0, output
    log = found.log_path.read_text()
    assert log.count("pretraining from step") == 2
    assert "pretraining from step 0" not in log.rpartition("SLURM job")[2]
    assert "top-1" in output
    assert_same(found, by_this_machine)
    status, output = run_process(environment, tmp_path, *options, *LENGTH)
    assert status == 0
    assert "1 already finished, 0 to run" in output


def test_status_cancels_and_retries_on_this_machine(environment, tmp_path, by_this_machine):
    command = start(environment, tmp_path, *LENGTH)
    found = wait_for_step(tmp_path, 10)

    def status(*words: str) -> str:
        line = [sys.executable, "-m", "simclr_ablate.status", *words, f"store={tmp_path}"]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "cancelled 1 runs" in status("cancel")
    command.communicate(timeout=60)
    assert command.returncode == 1
    assert found.state() == "failed"
    assert "nothing to cancel" in status("cancel")
    assert found.run_id in status("retry", "state=failed")
    assert_same(found, by_this_machine)


class Requeued(Exception):  # noqa: N818
    """What stands for submitit's handler, which ends the process."""


@pytest.fixture
def submitted(make_runs, tmp_path):
    plan = make_runs(1)
    job = Job.of(plan, plan.runs[0], str(tmp_path), 1, device="cpu")
    return Submitted(job, "slurm", time_minutes=60, signal_seconds=120)


def test_time_limits_requeue_as_long_as_they_see_progress(submitted, make_runs) -> None:
    (planned,) = make_runs(1).runs
    found = planned.run

    def requeue(*_: object) -> None:
        raise Requeued

    def time_is_up(seconds: float = 3500) -> None:
        submitted._requeue("7", requeue, seconds)

    for step in (10, 20, 20, 20, 30, 30, 30):  # never three in a row without any
        found.write_progress({"phase": "pretraining", "step": step})
        with pytest.raises(Requeued):
            time_is_up()
    for _ in range(10):  # preempted early on, which is not the run's fault
        with pytest.raises(Requeued):
            time_is_up(60)
    with pytest.raises(
        RunFailedError, match="reached its time limit of 60 minutes 3 times in a row"
    ):
        time_is_up()
    assert "give it more with launcher.time_minutes" in found.failure()["reason"]
    assert TIMEOUTS == 3


def test_a_run_that_cannot_be_requeued_says_so(submitted, make_runs, monkeypatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    (planned,) = make_runs(1).runs
    tries = []

    def requeue(*_: object) -> None:
        tries.append(1)
        raise subprocess.CalledProcessError(1, "scontrol")

    with pytest.raises(RunFailedError, match="could not be requeued"):
        submitted._requeue("7", requeue, 60)
    assert len(tries) > 1
    assert "scontrol" in planned.run.failure()["reason"]
