"""Stores that are full, or that may not be written or read: one line that names the place, and nothing lost."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from simclr_ablate import status
from simclr_ablate.identity import evaluation_key, run_id
from simclr_ablate.store import Run, Store
from tests.commands import run as command
from tests.commands import user_environment
from tests.shared import warm_cache

NOBODY = 65534
root_only = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return user_environment(warm_cache(tmp_path_factory))


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small file system")
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("place", ["file", "file/runs", "/proc/runs"])
def test_a_store_that_cannot_be_is_refused_before_anything_starts(
    environment, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").touch()
    code, output = command(environment, tmp_path / place, "optimizer.epochs=1")
    assert code == 2
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "choose another place with store=DIR" in line
    assert str(tmp_path / place) in line
    assert "Traceback" not in output
    assert (tmp_path / "file").read_bytes() == b""


def test_a_full_store_is_refused_before_anything_starts(environment, tiny: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (tiny / "fill").write_bytes(bytes(2**20))
    code, output = command(environment, tiny / "runs", "optimizer.epochs=1")
    assert code == 2
    assert f"error: cannot write {tiny / 'runs'}: the disk is full" in output


def test_a_store_that_gets_full_fails_the_run_and_keeps_what_is_there(
    environment, tiny: Path
) -> None:
    """Weights of 300 kB fit once, and checkpoints of three times as much do not."""
    (tiny / "fill").write_bytes(bytes(300_000))
    code, output = command(environment, tiny / "runs", "optimizer.epochs=1")
    assert code == 1
    (line,) = [line for line in output.splitlines() if line.startswith("FAILED")]
    assert f"cannot write {tiny / 'runs'}" in line
    assert "the disk is full" in line
    (run,) = Store(tiny / "runs").runs()
    assert run.exists()
    assert run.state() == "failed"
    (tiny / "fill").unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", str(tiny)], check=True)
    code, output = command(environment, tiny / "runs", "optimizer.epochs=1")
    assert code == 0, output


@pytest.fixture
def readable(make_experiment, open_folder: Path) -> Path:
    """A store that others may read alone: a complete run, and one whose job SLURM says has failed."""
    folder = open_folder / "readable"
    store = Store(folder / "runs")
    runs = []
    for seed in (0, 1):
        experiment = make_experiment(f"seed={seed}")
        run = store.run(run_id(experiment))
        run.create(experiment.to_config())
        runs.append(run)
    runs[0].write_evaluation(evaluation_key(experiment), {}, {"top1": 40.0, "knn_top1": 30.0})
    record = {"job": "7", "cluster": "slurm", "output": "7.err", "evaluations": ["h-1"]}
    runs[1].write_submission(record)
    store.record_sweep("both", [run.run_id for run in runs])
    squeue = folder / "programs/squeue"
    squeue.parent.mkdir()
    squeue.write_text("#!/bin/sh\necho '7|FAILED|NonZeroExitCode|node4|0:12'\n")
    squeue.chmod(0o755)
    return folder


def as_nobody(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{folder / 'programs'}:/usr/bin:/bin",
        "SIMCLR_ABLATE_CACHE": "/proc/nowhere",
        "MPLCONFIGDIR": "/proc/nowhere",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "200",
    }
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return subprocess.run(
        [*user, sys.executable, "-m", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        cwd=folder,
    )


def content(folder: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime for path in folder.rglob("*")}


def reach_python() -> bool:
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    done = subprocess.run([*user, sys.executable, "-c", "import rich"], capture_output=True)
    return done.returncode == 0


@pytest.mark.slow
@root_only
def test_readers_need_no_permission_to_write(readable: Path, open_folder: Path) -> None:
    if not reach_python():
        pytest.skip("this Python is closed to other users")
    before, store = content(readable), readable / "runs"
    out = open_folder / "out"
    out.mkdir()
    out.chmod(0o777)
    done = as_nobody(readable, "simclr_ablate.status", f"store={store}", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["state"] for row in json.loads(done.stdout)} == {"complete", "queued"}
    done = as_nobody(readable, "simclr_ablate.status", f"store={store}")
    assert "job 7 FAILED" in done.stdout, done.stderr
    done = as_nobody(readable, "analysis", "table1", f"store={store}", f"out={out}")
    assert done.returncode == 1
    assert any(line.startswith("table1: ") for line in done.stderr.splitlines())
    assert "Traceback" not in done.stderr
    assert content(readable) == before
    done = as_nobody(readable, "simclr_ablate.status", f"store={store}", "clean")
    assert done.returncode == 0, done.stderr


@root_only
def test_a_closed_store_and_a_closed_run_are_named(readable: Path) -> None:
    if not reach_python():
        pytest.skip("this Python is closed to other users")
    store = readable / "runs"
    first, second = (run.path for run in Store(store).runs())
    first.chmod(0o700)
    done = as_nobody(readable, "simclr_ablate.status", f"store={store}", "--json")
    states = {row["run_id"]: row["state"] for row in json.loads(done.stdout)}
    assert states == {first.name: "unreadable", second.name: "queued"}
    assert f"{first} cannot be read and counts as absent: no permission" in done.stderr
    store.chmod(0o700)
    for arguments in (
        ["simclr_ablate.status", f"store={store}"],
        ["analysis", "figure5", f"store={store}"],
    ):
        done = as_nobody(readable, *arguments)
        assert done.returncode in (1, 2)
        assert f"error: cannot use {store}: no permission" in done.stderr
        assert "Traceback" not in done.stderr
    store.chmod(0o755)


def test_what_becomes_of_a_job_is_not_noted_where_it_cannot_be(make_experiment, tmp_path) -> None:
    """As for a reader, who must not be stopped: here a file stands in the store's place."""
    run = Run(tmp_path / "file" / run_id(make_experiment()))
    (tmp_path / "file").touch()
    run.end_job("7", "it failed")
    run.requeue_job("7")
    assert status.main([f"store={tmp_path / 'file'}"]) == 2
