"""Jobs of submitit's local cluster, which nobody but their process accounts for. Real processes."""

import io
import json
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from simclr_ablate import lease as leases
from simclr_ablate import status
from simclr_ablate.launch.cluster.slurm import SlurmLauncher
from simclr_ablate.launch.outcome import Outcome
from simclr_ablate.launch.progress import ProgressView
from simclr_ablate.plan.launchers import read_launcher
from simclr_ablate.plan.plan import Plan
from simclr_ablate.store import Run


@pytest.fixture
def job() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for a job which has not taken the lease of its run yet."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def submit(run: Run, process: dict | None) -> None:
    """As a command writes it down that was killed afterwards."""
    record = {"job": "7", "cluster": "local", "output": "7.err", "evaluations": ["h-1"]}
    run.write_submission(record if process is None else {**record, "process": process})


def state_of(run: Run, capsys) -> str:
    """As `status` shows it."""
    assert status.main([f"store={run.path.parent}", f"run={run.run_id}", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    return row["state"]


@pytest.mark.parametrize("reaped", [True, False])
def test_a_job_is_queued_while_its_process_lives(make_runs, job, capsys, reaped) -> None:
    (planned,) = make_runs(1).runs
    submit(planned.run, leases.process(job.pid))
    assert planned.state() == state_of(planned.run, capsys) == "queued"
    before = planned.run.last_submission()
    job.kill()
    if reaped:
        job.wait()
    else:  # by a command that still has to notice
        os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)
    assert planned.state() == state_of(planned.run, capsys) == "planned"
    assert planned.run.submission() is None
    assert planned.run.last_submission() == before, "readers write nothing"


def test_a_number_used_again_is_not_the_job(make_runs, job) -> None:
    (planned,) = make_runs(1).runs
    submit(planned.run, {**leases.process(job.pid), "start": "before"})
    assert planned.state() == "planned"
    dead = leases.process(2**22 + 1)
    assert dead["start"] is None
    submit(planned.run, dead)
    assert planned.state() == "planned"


@pytest.mark.parametrize(("age", "state"), [(0.0, "queued"), (leases.STALE_SECONDS + 5, "planned")])
def test_elsewhere_a_job_counts_for_a_while(make_runs, job, age, state) -> None:
    """As seen from another host or container, or after the host has booted again."""
    (planned,) = make_runs(1).runs
    submit(planned.run, {**leases.process(job.pid), "place": "another"})
    os.utime(planned.run.path / "submission.json", (time.time() - age,) * 2)
    assert planned.state() == state


@pytest.mark.parametrize(
    "process", [None, [], "7", {}, {"pid": "7", "start": "1"}, {"pid": 10**30}]
)
def test_a_job_of_which_nothing_is_known_is_not_waited_for(make_runs, process) -> None:
    """As of before processes were written down, or damaged."""
    (planned,) = make_runs(1).runs
    submit(planned.run, process)
    assert planned.state() == "planned"


JOBS_DIE = """
import os, sys, time
if "submitit.core._submit" in sys.orig_argv:
    os._exit(3)
if "submitit.local._local" in sys.orig_argv and "WITH_THE_COMMAND" in os.environ:
    time.sleep(0.5)  # for the command to record its job
    os.kill(os.getppid(), 9)
    os._exit(3)
"""


@pytest.fixture
def carry_out(compose_config, tmp_path, monkeypatch) -> Callable[[Plan], Outcome]:
    """`carry_out(plan)`: what becomes of it where each job ends before it takes the lease of its run."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start/sitecustomize.py").write_text(JOBS_DIE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'start'}:{os.environ.get('PYTHONPATH', '')}")
    config = compose_config(["launcher=slurm", "launcher.cluster=local"])
    options = read_launcher(OmegaConf.to_container(config)["launcher"])

    def build(plan: Plan) -> Outcome:
        view = ProgressView(Console(file=io.StringIO()), len(plan.runs), 0)
        return SlurmLauncher(options, str(tmp_path / "cache")).carry_out_here(plan, view).outcome

    return build


def test_a_job_that_dies_before_it_begins_is_submitted_again(make_runs, carry_out) -> None:
    plan = make_runs(1)
    (planned,) = plan.runs
    submit(planned.run, leases.process(2**22 + 1))
    outcome = carry_out(plan)
    last = planned.run.last_submission()
    assert last["job"] == str(last["process"]["pid"]) != "7"
    assert outcome.failed == [planned]
    assert planned.run.failure()["reason"] == "its process ended and gave no reason"


def test_what_another_command_gives_up_is_taken_back(make_runs, carry_out, job) -> None:
    plan = make_runs(1)
    (planned,) = plan.runs
    submit(planned.run, leases.process(job.pid))
    threading.Timer(0.3, job.kill).start()
    assert carry_out(plan).failed == [planned]
    assert planned.run.last_submission()["job"] != "7", "it was submitted from here"
    assert planned.run.failure()["reason"] == "its process ended and gave no reason"


def test_a_command_and_its_job_that_die_together_leave_nothing_queued(
    make_runs, carry_out, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("WITH_THE_COMMAND", "1")
    plan = make_runs(1)
    (planned,) = plan.runs
    command = multiprocessing.get_context("fork").Process(target=carry_out, args=(plan,))
    command.start()
    command.join(60)
    assert command.exitcode == -9
    last = planned.run.last_submission()
    assert last["process"]["pid"] == int(last["job"])
    eventually = time.monotonic() + 10
    while planned.state() == "queued" and time.monotonic() < eventually:
        time.sleep(0.02)
    assert state_of(planned.run, capsys) == "planned"


def test_a_run_whose_folder_cannot_be_read_fails_alone(make_runs, carry_out) -> None:
    plan = make_runs(2)
    closed, other = plan.runs
    closed.run.path.rename(closed.run.path.with_name(".away"))
    closed.run.path.symlink_to(closed.run.path)  # a loop, which even root cannot read
    outcome = carry_out(plan)
    assert outcome.failed == [closed, other]
    assert str(closed.run.path) in outcome.reason_of(closed)
    assert outcome.reason_of(other) == "its process ended and gave no reason"
