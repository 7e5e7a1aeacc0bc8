"""What killed processes leave: cleared by the next holder, or by `status clean`; nothing else ever is."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch

from simclr_ablate import status
from simclr_ablate.files import StorageError
from simclr_ablate.identity import run_id
from simclr_ablate.store import Run, Store, leftovers

OLD = leftovers.OLD_SECONDS + 60


@pytest.fixture
def run(make_experiment, tmp_path) -> Run:
    experiment = make_experiment()
    found = Store(tmp_path / "runs").run(run_id(experiment))
    found.create(experiment.to_config())
    found.write_evaluation("h-1", {}, {"top1": 50.0})
    return found


def unfinished(folder: Path, name: str, age: float = 0.0) -> Path:
    path = folder / f".{name}.{uuid.uuid4().hex}.tmp"
    path.write_bytes(bytes(1000))
    os.utime(path, (time.time() - age,) * 2)
    return path


def files(folder: Path) -> set[str]:
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {name for name in found if not Path(name).name.startswith("lease.")}


def test_the_next_holder_clears_what_holders_write(run: Run) -> None:
    before = files(run.path)
    for name in ("progress.json", "encoder.pt", "checkpoint.incoming.pt", "history.csv"):
        unfinished(run.path, name)
    # Others may be writing these now.
    others = [unfinished(run.path, name) for name in ("lease.2", "clock", "submission.json")]
    unfinished(run.path, "lease.1", OLD)
    (run.path / "checkpoint.incoming.pt").write_bytes(b"whole, and the newest")
    (run.path / ".mine.tmp").touch()
    lease = run.lease()
    assert lease is not None
    kept = {path.name for path in others} | {"checkpoint.incoming.pt", ".mine.tmp"}
    assert files(run.path) == before | kept
    lease.release()


def test_the_next_holder_of_an_evaluation_clears_what_its_holders_write(run: Run) -> None:
    evaluating = run.evaluating("h-2")
    evaluating.create({})
    before = files(run.path)
    for name in ("progress.json", "checkpoint.incoming.pt"):
        unfinished(evaluating.path, name)
    unfinished(run.path / "evaluations", "h-2.json")
    others = unfinished(run.path / "evaluations", "h-1.json")
    lease = evaluating.lease()
    assert lease is not None
    assert files(run.path) == before | {f"evaluations/{others.name}"}
    lease.release()


WRITER = """
import os, sys
from pathlib import Path
from simclr_ablate.files import write_atomically
from simclr_ablate.store import Run
run = Run(Path(sys.argv[1]))
lease = run.lease()
def write(file):
    file.write(bytes(10_000_000))
    print("half", flush=True)
    sys.stdin.read()
write_atomically(run.encoder_path, write)
"""


def test_clean_removes_what_a_killed_process_left_once_it_is_dead(run: Run, capsys) -> None:
    before = files(run.path)
    command = [sys.executable, "-c", WRITER, str(run.path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    store = f"store={run.path.parent}"
    assert status.main([store, "clean"]) == 0
    assert "removed 0 unfinished files" in capsys.readouterr().out
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(files(run.path)) == len(before) + 1
    assert status.main([store, "clean"]) == 0
    assert "removed 1 unfinished file, 9.5 MiB" in capsys.readouterr().out
    assert files(run.path) == before


def test_clean_removes_nothing_else(run: Run, capsys) -> None:
    root = run.path.parent
    for name in (".sweeps", ".choices", ".jobs/one", "notes"):
        (root / name).mkdir(parents=True)
        unfinished(root / name, "young.json")
        (root / name / "mine.tmp").touch()
    unfinished(root, "probe")
    old = [unfinished(root / ".sweeps", "a.json", OLD), root / ".jobs/one/7.pkl.save_tmp"]
    old[1].touch()
    os.utime(old[1], (time.time() - OLD,) * 2)
    (run.path / "encoder.pt.damaged").touch()
    mine = unfinished(root / "notes", "old.json", OLD)
    before = files(root)
    assert status.main([f"store={root}", "clean"]) == 0
    assert "removed 2 unfinished files" in capsys.readouterr().out
    assert files(root) == before - {str(path.relative_to(root)) for path in old}
    assert mine.exists()


def test_a_run_that_cannot_be_written_keeps_no_other_from_being_cleaned(
    run: Run, make_experiment, capsys, monkeypatch
) -> None:
    store = Store(run.path.parent)
    other = store.run(run_id(make_experiment("seed=1")))
    other.create(make_experiment("seed=1").to_config())
    left = [unfinished(each.path, "encoder.pt") for each in (run, other)]
    lease = Run.lease

    def refusing(one: Run, *arguments: Any, **more: Any) -> Any:
        if one.run_id == run.run_id:
            raise StorageError("no permission")
        return lease(one, *arguments, **more)

    monkeypatch.setattr(Run, "lease", refusing)
    assert status.main([f"store={store.root}", "clean"]) == 1
    said = capsys.readouterr()
    assert f"not cleaned up: {run.run_id}: no permission" in said.err
    assert "removed 1 unfinished file," in said.out
    assert [path.exists() for path in left] == [True, False]


def test_checkpoints_go_only_where_the_encoder_is_whole(run: Run) -> None:
    checkpoint = run.path / "checkpoint.pt"
    checkpoint.write_bytes(b"of a holder that was killed before it could remove it")
    run.write_encoder({"encoder": {"a": torch.ones(100)}, "head": {}}, {})
    whole = run.encoder_path.read_bytes()
    run.encoder_path.write_bytes(whole[:-1])
    assert status.main([f"store={run.path.parent}", "clean"]) == 0
    assert checkpoint.exists()
    run.encoder_path.write_bytes(whole)
    assert status.main([f"store={run.path.parent}", "clean"]) == 0
    assert not checkpoint.exists()
    assert run.encoder_path.read_bytes() == whole


def test_a_queued_run_is_left_alone(run: Run) -> None:
    record = {"job": "7", "cluster": "slurm", "output": "7.err", "evaluations": ["h-2"]}
    run.write_submission(record)
    left = unfinished(run.path, "encoder.pt")
    assert status.main([f"store={run.path.parent}", "clean"]) == 0
    assert left.exists()


def test_a_clock_that_is_ahead_removes_nothing_that_is_being_written(run: Run, monkeypatch) -> None:
    left = unfinished(run.path, "experiment.json")
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 2 * OLD)
    assert status.main([f"store={run.path.parent}", "clean"]) == 0
    assert left.exists()
