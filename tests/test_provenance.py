"""Where results come from: the command, the code, the versions and the machine of each attempt, and who shows it."""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from analysis import load
from analysis.page import made_with
from simclr_ablate import __version__, provenance
from simclr_ablate.device import name_of
from simclr_ablate.provenance import Attempt
from simclr_ablate.status import main as status
from simclr_ablate.store import Run
from simclr_ablate.store.__main__ import main as store_command
from tests.commands import only_run, run_process, user_environment
from tests.shared import warm_cache
from tests.small_runs import SMALL

ROOT = Path(__file__).parents[1]
LOSS = """
import torch

def loss(z, temperature):
    return (z / temperature).square().sum()
"""


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's, with one file."""
    folder = tmp_path / "mine"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "mine.py").write_text(LOSS)
    git(folder, "add", "mine.py")
    git(folder, "commit", "-qm", "one")
    return folder


def test_a_revision_is_gits_and_notices_changes_of_tracked_files(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    (repository / "runs").mkdir()
    (repository / "runs" / "untracked").write_text("")
    assert provenance.revision(repository / "runs") == {"commit": head, "changed": False}
    (repository / "mine.py").write_text("changed = True")
    assert provenance.revision(repository) == {"commit": head, "changed": True}


def test_no_repository_or_no_git_is_no_revision(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert provenance.revision(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.revision(repository) is None


def test_a_package_installed_in_a_users_repository_is_not_of_its_revision(repository: Path) -> None:
    site = repository / ".venv" / "site"
    shutil.copytree(ROOT / "simclr_ablate", site / "simclr_ablate")
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from simclr_ablate.provenance import *; print(launch())"],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=True,
        capture_output=True,
        text=True,
    )
    found = eval(done.stdout)
    assert "code" not in found
    assert found["own"] == {"commit": git(repository, "rev-parse", "HEAD"), "changed": False}
    assert found["folder"] == str(repository)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a random encoder."""
    folder = tmp_path_factory.mktemp("made")
    environment = user_environment(warm_cache(tmp_path_factory))
    words = [*SMALL, "data.limit=null", "objective=none", "views=none"]
    environment["PYTHONPATH"] = str(ROOT)
    code, output = run_process(environment, folder / "runs", *words, folder=folder, python=True)
    assert code == 0, output
    return folder / "runs"


@pytest.mark.slow
def test_each_task_keeps_how_it_was_made(made: Path) -> None:
    run = only_run(made)
    (pretraining,) = run.attempts()
    (evaluation,) = (task for task in run.tasks() if task is not run)
    (evaluated,) = evaluation.attempts()
    for attempt in (pretraining, evaluated):
        assert attempt["command"][:2] == ["-m", "simclr_ablate"]
        assert {"objective=none", f"store={made}"} <= set(attempt["command"])
        assert attempt["folder"] == str(made.parent)
        assert attempt["version"] == __version__
        assert attempt["python"] == platform.python_version()
        assert attempt["torch"] == version("torch")
        assert attempt["host"] == socket.gethostname()
        assert attempt["device"] == name_of(torch.device("cpu"))
        assert (attempt["threads"], attempt["ranks"]) == (1, 1)
    if (ROOT / ".git").exists():
        assert pretraining["code"]["commit"] == git(ROOT, "rev-parse", "HEAD")


def test_status_and_the_page_tell_it(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = only_run(made)
    assert status([f"run={run.run_id}", f"store={made}"]) == 0
    shown = capsys.readouterr().out
    assert f"simclr_ablate {__version__}" in shown
    assert "python -m simclr_ablate" in shown
    assert status([f"run={run.run_id}", f"store={made}", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["attempts"][run.run_id] == run.attempts()
    assert made_with(load(made), [run.run_id]) == f"{provenance.told(run.attempts())}."


def test_it_travels_in_a_pack_and_runs_from_before_it_are_counted(
    made: Path, tmp_path: Path
) -> None:
    pack, there = tmp_path / "study.zip", tmp_path / "there"
    assert store_command(["pack", f"store={made}", f"to={pack}"]) == 0
    assert store_command(["unpack", str(pack), f"store={there}"]) == 0
    assert only_run(there).attempts() == only_run(made).attempts()
    (only_run(there).path / "attempts.json").unlink()
    assert made_with(load(there), [only_run(there).run_id]) == ""


def attempt(**changes: object) -> Attempt:
    known = {"command": ["-m", "simclr_ablate"], "folder": "/", "version": "1.0", "time": 0.0}
    where = {"host": "a", "python": "3.11.2", "torch": "2.6", "device": "Xeon", "threads": 1}
    return {**known, **where, "ranks": 1, **changes}  # type: ignore[return-value,typeddict-item]


def test_what_several_attempts_share_is_told_once() -> None:
    code = {"commit": "0123456789abcdef", "changed": True}
    told = provenance.told(
        [attempt(), attempt(torch="2.7", host="b"), attempt(version="1.1", code=code, ranks=4)]
    )
    assert told == (
        "simclr_ablate 1.0 and simclr_ablate 1.1 at 0123456789, changed, Python 3.11.2, "
        "torch 2.6 and 2.7, Xeon (1 thread) and Xeon (4 ranks with 1 thread), 2 hosts"
    )


def test_a_damaged_record_costs_only_itself(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(made, store)
    run: Run = only_run(store)
    (run.path / "attempts.json").write_text('[{"command": 1}]')
    assert run.attempts() == []
    assert run.state() == "complete"
    run.note_attempt(attempt())
    assert len(run.attempts()) == 1
