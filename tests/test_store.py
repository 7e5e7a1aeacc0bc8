"""The store: atomic, held by one process at a time, and truthful about what it holds."""

import json
import multiprocessing
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from simclr_ablate import lease as leases
from simclr_ablate.config import ConfigError
from simclr_ablate.identity import run_id
from simclr_ablate.store import Store

context = multiprocessing.get_context("spawn")


@pytest.fixture
def make_run(make_experiment, tmp_path):
    """`make_run(seed)`: a run that is created in the store, with its config."""

    def build(seed: int = 0):
        experiment = make_experiment(f"seed={seed}")
        run = Store(tmp_path).run(run_id(experiment))
        run.create(experiment.to_config())
        return run

    return build


def _try_to_lease(folder: str, barrier, wins) -> None:
    barrier.wait()
    if leases.acquire(Path(folder)) is not None:
        wins.put(os.getpid())
        time.sleep(1.5)  # long enough that nobody takes over a holder that ended


def _lease_and_wait(folder: str, ready) -> None:
    leases.acquire(Path(folder))
    ready.set()
    time.sleep(60)


def _compete(folder: Path, processes: int) -> int:
    barrier, wins = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_try_to_lease, args=(str(folder), barrier, wins))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    count = 0
    while not wins.empty():
        wins.get()
        count += 1
    return count


def test_one_of_many_wins_a_lease(tmp_path):
    assert _compete(tmp_path, 6) == 1


def test_one_of_many_takes_over_from_a_killed_holder(tmp_path):
    ready = context.Event()
    holder = context.Process(target=_lease_and_wait, args=(str(tmp_path), ready))
    holder.start()
    assert ready.wait(30)
    assert leases.holder(tmp_path)["pid"] == holder.pid
    assert leases.acquire(tmp_path) is None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert leases.holder(tmp_path) is None
    assert _compete(tmp_path, 6) == 1


def test_a_released_lease_can_be_had_again(tmp_path):
    first = leases.acquire(tmp_path)
    assert leases.acquire(tmp_path) is None
    first.release()
    assert leases.holder(tmp_path) is None
    second = leases.acquire(tmp_path)
    second.check()
    with pytest.raises(leases.LeaseLostError):
        first.check()
    second.release()


@pytest.mark.parametrize(("age", "alive"), [(0.0, True), (leases.STALE_SECONDS + 60, False)])
def test_a_holder_on_another_host_lives_while_it_touches_its_lease(tmp_path, age, alive):
    owner = {"host": socket.gethostname() + "-other", "pid": 1, "start": "1"}
    path = tmp_path / "lease.1"
    path.write_text(json.dumps(owner))
    os.utime(path, (time.time() - age,) * 2)
    assert (leases.holder(tmp_path) is not None) == alive
    assert (leases.acquire(tmp_path) is None) == alive


def test_a_process_number_used_again_is_not_the_holder(tmp_path):
    leases.acquire(tmp_path)
    path = tmp_path / "lease.1"
    path.write_text(json.dumps({**json.loads(path.read_text()), "start": "before"}))
    assert leases.holder(tmp_path) is None


def test_states_follow_the_files(make_run):
    run = make_run()
    assert run.exists()
    assert run.state() == "planned"
    lease = run.lease()
    assert run.state() == "running"
    run.write_progress({"phase": "pretraining"})
    lease.release()
    assert run.state() == "interrupted"
    run.write_failure({"reason": "because"})
    assert run.state() == "failed"
    run.clear_failure()
    run.encoder_path.touch()
    assert run.state() == "pretrained"
    run.write_evaluation("h-1", {"features": "h"}, {"top1": 50.0})
    assert run.state() == run.state("h-1") == "complete"
    assert run.state("h-2") == "pretrained"
    assert run.evaluations() == {"h-1": {"config": {"features": "h"}, "metrics": {"top1": 50.0}}}
    run.write_evaluation("h-1", {"features": "h"}, {"top1": 50.0}, seconds=1.5)
    assert run.evaluation("h-1")["seconds"] == 1.5


@pytest.mark.slow
def test_a_state_that_is_read_while_it_changes_is_one_of_before_or_after(make_run):
    """Whoever waits for runs to end would take a moment of `planned` for the end of one."""
    for seed in range(25):
        run, seen = make_run(seed), []
        submission = {"job": "7", "cluster": "slurm", "evaluations": ["h-1"], "output": "7.err"}
        run.write_submission(submission)

        def work(run=run):
            lease = run.lease("7")
            run.write_evaluation("h-1", {}, {"top1": 50.0})
            lease.release()

        worker = threading.Thread(target=work)
        worker.start()
        while worker.is_alive() or seen[-1:] != ["complete"]:
            seen.append(run.state("h-1"))
        worker.join()
        assert set(seen) <= {"queued", "running", "complete"}
        assert sorted(seen, key=["queued", "running", "complete"].index) == seen


def test_creating_a_run_again_keeps_its_config(make_run, make_experiment, tmp_path):
    run = make_run()
    first = (run.path / "experiment.json").read_bytes()
    assert run.config() == make_experiment("seed=0").to_config()
    run.create(make_experiment("seed=0", "compute.threads=3").to_config())
    assert (run.path / "experiment.json").read_bytes() == first
    assert [found.run_id for found in Store(tmp_path).runs()] == [run.run_id]


def test_sweeps_are_remembered(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.record_sweep("grid", ["b", "a"])
    grid = store.record_sweep("grid", ["a", "b", "b"])
    (record,) = store.sweeps()
    assert (record.name, record.run_ids) == ("grid", ("a", "b"))
    store.record_sweep("grid", ["x"])
    store.extend_sweep(grid, ["c", "a"])
    assert [(record.name, record.run_ids) for record in store.sweeps()] == [
        ("grid", ("a", "b")),
        ("grid", ("a", "b", "c")),
        ("grid", ("x",)),
    ]
    store.extend_sweep(grid, ["d"])  # another second stage, which knows nothing of the first
    assert ("grid", ("a", "b", "c", "d")) in [(one.name, one.run_ids) for one in store.sweeps()]
    # The sweep was launched once more meanwhile, so that its first record has another time.
    monkeypatch.setattr(store, "sweeps", lambda: [])
    store.extend_sweep(grid, ["e"])
    monkeypatch.undo()
    assert ("grid", ("a", "b", "e")) in [(one.name, one.run_ids) for one in store.sweeps()]


def test_a_sweep_remembers_what_the_command_line_said(tmp_path):
    store = Store(tmp_path)
    record = store.record_sweep("grid", ["a"], ["sweep=grid", "seed=0,1"])
    store.extend_sweep(record, ["b"])
    store.record_sweep("old", ["c"])
    assert [(one.run_ids, one.overrides) for one in store.sweeps()] == [
        (("a",), ("sweep=grid", "seed=0,1")),
        (("a", "b"), ("sweep=grid", "seed=0,1")),
        (("c",), ()),
    ]


def test_runs_that_were_looked_at_stay_so(tmp_path):
    """In the record itself, in what is added to it, and when the same sweep is launched without looks."""
    store = Store(tmp_path)
    record = store.record_sweep("grid", ["a"], until="decided")
    store.extend_sweep(record, ["b"])
    store.record_sweep("grid", ["a"])
    store.record_sweep("grid", ["c"])
    assert {one.run_ids: one.until for one in store.sweeps()} == {
        ("a",): "decided",
        ("a", "b"): "decided",
        ("c",): "",
    }


def submitted(run, job: str = "7_0") -> None:
    record = {"job": job, "cluster": "slurm", "evaluations": ["h-1"], "output": "7.err"}
    run.path.mkdir(exist_ok=True)
    run.write_submission(record)


def test_a_submitted_run_is_queued_until_its_job_begins(make_run):
    run = make_run()
    submitted(run)
    assert run.state() == "queued"
    lease = run.lease("7_0")
    assert run.state() == "running"
    lease.release()
    assert run.state() == "planned", "its job has ended, and nobody has said why"
    run.requeue_job("7_0")
    assert run.state() == "queued"
    submitted(run, "9")
    assert run.state() == "queued"
    run.withdraw_submission()
    assert (run.state(), run.submission()) == ("planned", None)
    assert run.last_submission()["job"] == "9"


def test_a_job_that_has_ended_leaves_a_failure_unless_the_run_is_done(make_run):
    dead, told, done, taken = map(make_run, range(4))
    for run in (dead, told, done, taken):
        submitted(run)
    told.write_failure({"reason": "its own words"})
    done.write_evaluation("h-1", {}, {"top1": 50.0})
    holder = taken.lease()  # another command's, meanwhile
    for run in (dead, told, done, taken):
        run.end_job("7_0", "SLURM's words")
        assert run.submission() is None
    assert [run.state() for run in (dead, told, done, taken)] == [
        "failed",
        "failed",
        "complete",
        "running",
    ]
    assert dead.failure()["reason"] == "SLURM's words"
    assert told.failure()["reason"] == "its own words"
    holder.release()


def test_a_job_takes_over_from_its_own_earlier_start_only(tmp_path):
    first = leases.acquire(tmp_path, "7_0")
    assert leases.acquire(tmp_path) is None
    assert leases.acquire(tmp_path, "7_1") is None
    again = leases.acquire(tmp_path, "7_0")
    assert again is not None
    again.check()
    with pytest.raises(leases.LeaseLostError):
        first.check()
    first.release()
    assert leases.holder(tmp_path)["job"] == "7_0", "the late one must not release another's lease"
    again.release()


def test_time_outs_count_as_long_as_nothing_moves(make_run):
    run = make_run()
    counts = []
    for step in (0, 0, 5, 5, 5, 6):
        run.write_progress({"phase": "pretraining", "step": step})
        counts.append(run.count_timeout())
    assert counts == [1, 2, 0, 1, 2, 0]
    run.write_progress({"phase": "reading the data"})
    assert run.count_timeout() == 1
    run.encoder_path.write_bytes(b"")
    assert run.count_timeout() == 0, "pretraining is complete: that is progress"
    assert run.count_timeout() == 1
    run.forget_timeouts()
    assert run.count_timeout() == 0


def _submit_once(root: str, name: str, barrier, log) -> None:
    store = Store(root)
    barrier.wait()
    with store.submitting():
        if store.run("a").state() == "planned":
            time.sleep(0.3)
            submitted(store.run("a"), name)
            log.put(name)


def test_commands_submit_one_after_the_other(tmp_path):
    barrier, log = context.Barrier(3), context.Queue()
    commands = [
        context.Process(target=_submit_once, args=(str(tmp_path), str(k), barrier, log))
        for k in range(3)
    ]
    for command in commands:
        command.start()
    for command in commands:
        command.join()
    winner = log.get(timeout=5)
    assert log.empty(), "two commands submitted the same run"
    assert Store(tmp_path).run("a").submission()["job"] == winner


def test_a_command_that_submits_for_ever_is_named(tmp_path):
    store = Store(tmp_path)
    with (
        store.submitting(),
        pytest.raises(ConfigError, match="another command submits to the store"),
        store.submitting(wait_seconds=0.3),
    ):
        pass


def test_who_is_waited_for_is_said_at_once(tmp_path, caplog):
    """A dead command of another host holds the store until its lease is stale: nobody waits in silence."""
    folder = tmp_path / ".submitting"
    folder.mkdir()
    leases.acquire(folder)
    path = folder / "lease.1"
    elsewhere = {**json.loads(path.read_text()), "host": "node3", "place": "node3", "pid": 12}
    path.write_text(json.dumps(elsewhere))
    with (
        pytest.raises(ConfigError, match="process 12 on node3"),
        Store(tmp_path).submitting(wait_seconds=2.0),
    ):
        pass
    assert "process 12 on node3; waiting at most 180 s" in caplog.text
