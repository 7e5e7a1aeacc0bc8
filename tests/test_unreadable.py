"""Folders of a store that cannot be read: each costs its own run alone, and is named. Readers are another user."""

import contextlib
import io
import json
import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import analysis
from simclr_ablate import lease as leases
from simclr_ablate import status
from simclr_ablate.files import StorageError
from simclr_ablate.identity import evaluation_key, run_id
from simclr_ablate.launch import worker
from simclr_ablate.stopping import StopSignal
from simclr_ablate.store import Run, Store
from simclr_ablate.terminal import make_console

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def by_nobody(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """What the function returns to a user who owns nothing, and what is logged and printed meanwhile."""
    make_console()  # imports what a user who has no access to this Python could not
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_be_nobody, args=(sender, function, arguments))
    process.start()
    assert receiver.poll(60)
    result, said = receiver.recv()
    process.join()
    return result, said


def _be_nobody(sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    os.environ["COLUMNS"] = "300"  # so that no cell of a table is broken
    said = io.StringIO()
    logging.basicConfig(stream=said, force=True, format="%(message)s")
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            result = function(*arguments)
        except BaseException as error:
            result = repr(error)
    sender.send((result, said.getvalue()))


@pytest.fixture
def store(make_experiment, open_folder: Path) -> Store:
    """Three runs of the sweep `all`; the first two are complete."""
    store = Store(open_folder / "runs")
    for seed in range(3):
        experiment = make_experiment(f"seed={seed}")
        run = store.run(run_id(experiment))
        run.create(experiment.to_config())
        if seed < 2:
            run.write_evaluation(evaluation_key(experiment), {}, {"top1": 40.0, "knn_top1": 30.0})
    store.record_sweep("all", [run.run_id for run in store.runs()])
    return store


@pytest.fixture
def runs(store: Store) -> list[Run]:
    """Those three, by seed."""
    return sorted(store.runs(), key=lambda run: run.config()["seed"])


def looped(run: Run) -> None:
    """A folder that even root cannot read: a link to itself stands in its place."""
    run.path.rename(run.path.with_name(".away"))
    run.path.symlink_to(run.path)


@as_root
@pytest.mark.parametrize(("seed", "mode"), [(0, 0o000), (0, 0o444), (2, 0o311)])
@pytest.mark.parametrize("words", [[], ["sweep=all"]])
def test_a_closed_run_is_listed_as_such(store, runs, seed, mode, words) -> None:
    closed = runs[seed]
    closed.path.chmod(mode)
    code, said = by_nobody(status.main, [f"store={store.root}", *words])
    assert code == 0
    counts = "1 complete, 1 planned, 1 unreadable" if seed == 0 else "1 unreadable, 2 complete"
    assert sorted(said.splitlines()[-1].split(", ")) == counts.split(", ")
    assert "its folder cannot be read: no permission" in " ".join(said.split())
    named = f"{closed.path} cannot be read and counts as absent: no permission"
    assert [line for line in said.splitlines() if "counts as absent" in line] == [named]


def test_so_is_one_that_no_user_can_read(store, runs, capsys, caplog) -> None:
    looped(runs[0])
    assert status.main([f"store={store.root}", "--json"]) == 0
    states = {row["run_id"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert [states[run.run_id] for run in runs] == ["unreadable", "complete", "planned"]
    assert caplog.text.count("counts as absent") == 1
    assert len(analysis.load(store.root)) == 2
    assert status.main([f"store={store.root}", "clean"]) == 0


@as_root
def test_the_analysis_goes_on_without_a_closed_run(store, runs) -> None:
    runs[0].path.chmod(0)
    frame, said = by_nobody(analysis.load, store.root)
    assert sorted(frame["run_id"]) == sorted(run.run_id for run in runs[1:])
    assert said.count("counts as absent") == said.count(str(runs[0].path)) == 1


@as_root
def test_closed_evaluations_are_none(store, runs) -> None:
    folder = runs[0].path / "evaluations"
    folder.chmod(0)
    state, said = by_nobody(runs[0].state)
    assert state == "planned"
    assert f"{folder} cannot be read" in said


@as_root
def test_what_wants_a_closed_run_fails_by_its_name(store, runs) -> None:
    store.root.chmod(0o777)
    closed = runs[2]
    config = closed.config()
    closed.path.chmod(0)
    job = worker.Job(config, str(store.root), "cache", threads=1, device="cpu")

    def carry_out() -> tuple[int, str | None]:
        ending = worker.carry_out_job(job, StopSignal())
        return ending.status, ending.reason

    (code, reason), _ = by_nobody(carry_out)
    assert code == worker.Status.FAILED
    assert reason == f"cannot use {closed.path}: no permission; ask its owner"


@as_root
@pytest.mark.parametrize("folder", [".sweeps", ".choices"])
def test_a_closed_folder_of_records_is_named(store, runs, folder) -> None:
    (store.root / folder).mkdir(exist_ok=True)
    (store.root / folder).chmod(0)
    code, said = by_nobody(status.main, [f"store={store.root}"])
    assert code == 0
    sweep_code, sweep_said = by_nobody(status.main, [f"store={store.root}", "sweep=all"])
    assert sweep_code == (2 if folder == ".sweeps" else 0)
    assert f"{store.root / folder} cannot be read" in (said if folder == ".choices" else sweep_said)


@as_root
def test_a_closed_folder_that_is_no_run_is_no_run(store) -> None:
    (store.root / "lost+found").mkdir(mode=0o700)
    code, said = by_nobody(status.main, [f"store={store.root}"])
    assert code == 0
    assert said.splitlines()[-1] == "2 complete, 1 planned"


def test_nobody_leases_what_cannot_be_read(runs) -> None:
    looped(runs[2])
    with pytest.raises(StorageError, match="cannot use"):
        runs[2].lease()
    assert runs[2].holder() is None
    with pytest.raises(StorageError):
        runs[2].is_held()


def test_a_holder_that_cannot_look_keeps_its_lease(runs) -> None:
    """As while a file server is away."""
    lease = runs[2].lease()
    looped(runs[2])
    with pytest.raises(StorageError):
        lease.check()
    runs[2].path.unlink()
    runs[2].path.with_name(".away").rename(runs[2].path)
    lease.check()
    assert leases.holder(runs[2].path)["pid"] == os.getpid()
    lease.release()
