"""The store: atomic, claimed by one process at a time, and truthful about what it holds."""

import json
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from simclr_ablate import claim as claims
from simclr_ablate.files import read_json, write_atomically, write_json
from simclr_ablate.store import Store

context = multiprocessing.get_context("spawn")


def _try_to_claim(folder: str, barrier, wins) -> None:
    barrier.wait()
    if claims.acquire(Path(folder)) is not None:
        wins.put(os.getpid())
        time.sleep(1.5)  # long enough that nobody takes over a holder that ended


def _claim_and_wait(folder: str, ready) -> None:
    claims.acquire(Path(folder))
    ready.set()
    time.sleep(60)


def _compete(folder: Path, processes: int) -> int:
    barrier, wins = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_try_to_claim, args=(str(folder), barrier, wins))
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


def test_one_of_many_wins_a_claim(tmp_path):
    assert _compete(tmp_path, 6) == 1


def test_one_of_many_takes_over_from_a_killed_holder(tmp_path):
    ready = context.Event()
    holder = context.Process(target=_claim_and_wait, args=(str(tmp_path), ready))
    holder.start()
    assert ready.wait(30)
    assert claims.holder(tmp_path)["pid"] == holder.pid
    assert claims.acquire(tmp_path) is None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert claims.holder(tmp_path) is None
    assert _compete(tmp_path, 6) == 1


def test_a_released_claim_can_be_had_again(tmp_path):
    first = claims.acquire(tmp_path)
    assert claims.acquire(tmp_path) is None
    first.release()
    assert claims.holder(tmp_path) is None
    second = claims.acquire(tmp_path)
    second.check()
    with pytest.raises(claims.ClaimLostError):
        first.check()
    second.release()


@pytest.mark.parametrize(("age", "alive"), [(0.0, True), (claims.STALE_SECONDS + 60, False)])
def test_a_holder_on_another_host_lives_while_it_touches_its_claim(tmp_path, age, alive):
    owner = {"host": socket.gethostname() + "-other", "pid": 1, "start": "1"}
    path = tmp_path / "claim.1"
    path.write_text(json.dumps(owner))
    os.utime(path, (time.time() - age,) * 2)
    assert (claims.holder(tmp_path) is not None) == alive
    assert (claims.acquire(tmp_path) is None) == alive


def test_a_process_number_used_again_is_not_the_holder(tmp_path):
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "start": "before"}
    (tmp_path / "claim.1").write_text(json.dumps(owner))
    assert claims.holder(tmp_path) is None


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "file"
    write_json(path, {"old": True})

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert read_json(path) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_states_follow_the_files(tmp_path):
    run = Store(tmp_path).run("a-run")
    assert not run.exists()
    run.create({"seed": 0})
    assert run.state() == "planned"
    claim = run.claim()
    assert run.state() == "running"
    run.write_progress({"phase": "pretraining"})
    claim.release()
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


def test_creating_a_run_again_keeps_its_config(tmp_path):
    run = Store(tmp_path).run("a-run")
    run.create({"seed": 0})
    run.create({"seed": 1})
    assert run.config() == {"seed": 0}
    assert [found.run_id for found in Store(tmp_path).runs()] == ["a-run"]


def test_sweeps_are_remembered(tmp_path):
    store = Store(tmp_path)
    store.record_sweep("grid", ["b", "a"])
    store.record_sweep("grid", ["a", "b"])
    (record,) = store.sweeps()
    assert (record.name, record.run_ids) == ("grid", ("a", "b"))
