"""Completion: what may come next, and real shells that ask for it."""

import fcntl
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simclr_ablate.commands import COMMANDS
from simclr_ablate.completion import MARK, SHELLS, candidates, main, script
from simclr_ablate.config import keys
from simclr_ablate.identity import run_id
from simclr_ablate.paths import config_folder
from simclr_ablate.schema import Experiment
from simclr_ablate.store import STATES, Store
from tests.programs import require

REPOSITORY = Path(__file__).parents[1]


def names(group: str) -> set[str]:
    return {path.stem for path in (config_folder("conf") / group).glob("*.yaml")}


def test_commands_come_first_and_then_keys() -> None:
    assert set(COMMANDS) < set(candidates([], ""))
    assert candidates([], "stat") == ["status"]
    assert candidates(["-m"], "stat") == []
    every = {f"{info.name}=" for info in keys(Experiment)}
    assert every <= {
        each for letter in "abcdefghijklmnopqrstuvwxyz" for each in candidates([], letter)
    }
    assert candidates(["-m"], "loss.temp") == ["loss.temperature="]
    assert candidates(["run", "--quiet"], "loss.temp") == ["loss.temperature="]


def test_values_of_keys_and_groups() -> None:
    assert set(candidates([], "loss=")) == {f"loss={name}" for name in names("loss")}
    assert set(candidates([], "evaluation.data=")) == {
        f"evaluation.data={n}" for n in names("data")
    }
    assert candidates(["-m"], "loss=nt_xent,mar") == ["loss=nt_xent,margin_triplet"]
    assert candidates([], "dry_run=") == ["dry_run=false", "dry_run=true"]
    assert candidates([], "precision=") == ["precision=float32", "precision=bfloat16"]
    assert candidates([], "seed=") == []


def test_sweeps_files_and_groups_of_ones_own(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("augmented.yaml", "config/loss/mine.yaml", "a.txt", ".hidden.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = candidates(["-m"], "sweep=aug")
    assert found == ["sweep=augmentation_grid", "sweep=augmented.yaml"]
    assert "sweep=config/" in candidates(["-m"], "sweep=")
    assert candidates(["-m"], "sweep=a.") == candidates(["-m"], "sweep=.h.") == []
    assert "loss=mine" not in candidates([], "loss=m")
    for own in (["--config-dir", "config"], ["--config-dir=config"]):
        assert "loss=mine" in candidates(own, "loss=m")
    assert candidates([], "store=") == ["store=config/"]


def test_other_commands(tmp_path, monkeypatch, make_experiment) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = make_experiment()
    run = Store("runs").run(run_id(experiment))
    run.create(experiment.to_config())
    Store("runs").record_sweep("two", [run.run_id])
    assert candidates(["status"], "run=") == [f"run={run.run_id}"]
    assert candidates(["status"], "sweep=") == ["sweep=two"]
    assert candidates(["status", "store=elsewhere"], "run=") == []
    assert candidates(["--quiet", "status"], "state=") == [f"state={state}" for state in STATES]
    assert candidates(["status", "state=failed"], "st") == ["store="]
    assert candidates(["status", "retry"], "re") == []
    assert "--follow" in candidates(["status"], "--")
    assert candidates(["store"], "") == ["pack", "unpack"]
    assert candidates(["store", "pack"], "ex") == ["examples="]
    assert candidates(["store", "unpack"], "ex") == []
    assert candidates(["weights", "export"], "to=t") == ["to=torchvision", "to=timm"]
    assert candidates(["analyse", "figure5"], "figure5") == []
    assert candidates(["analyse"], "tableB5") == ["tableB5"]
    assert candidates(["analyse"], "--st") == [], "an earlier spelling"
    assert candidates(["findings"], "") == ["store=", "more"]
    assert candidates(["completion", "install"], "z") == ["zsh"]
    assert candidates(["nothing"], "") == []


@pytest.fixture
def terminal(tmp_path, monkeypatch) -> Iterator["Terminal"]:
    """A real shell on a terminal of its own, in a home of its own, that finds the command `simclr-ablate`."""
    program = tmp_path / "bin/simclr-ablate"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m simclr_ablate "$@"\n')
    program.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    environment = {
        **kept,
        "HOME": str(home),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "TERM": "dumb",
        "COLUMNS": "200",
    }
    started = Terminal(environment, tmp_path)
    yield started
    started.close()


class Terminal:
    """A shell to type into."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment, self.folder = environment, folder

    def start(self, *command: str) -> None:
        self._file, theirs = pty.openpty()
        self._process = subprocess.Popen(
            command,
            env=self.environment,
            cwd=self.folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # fish insists on it
        )
        os.close(theirs)

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Reads until the screen has had `text`."""
        seen, deadline = "", time.monotonic() + seconds
        while text not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r", "", seen):
            left = deadline - time.monotonic()
            assert left > 0, f"waited in vain for {text!r}, saw {seen!r}"
            if select.select([self._file], [], [], left)[0]:
                seen += os.read(self._file, 4096).decode(errors="replace")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._file)


START = {
    "bash": ["--noprofile", "--norc", "-i"],
    "zsh": ["-f", "-i"],
    "fish": ["--no-config", "-i"],
}
LOAD = {
    "bash": "source {}",
    "zsh": "autoload -Uz compinit && compinit -u -d zcompdump && source {}",
    "fish": "source {}",
}


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_completes(terminal: Terminal, shell: str) -> None:
    path = shutil.which(shell)
    require(path, shell)
    assert path is not None
    (terminal.folder / "script").write_text(script(shell) + "\n")
    terminal.start(path, *START[shell])
    terminal.type(f"{LOAD[shell].format(terminal.folder / 'script')}\necho lo''aded\n")
    terminal.wait_for("loaded")
    # What is typed after the TAB stands right after what it has completed.
    terminal.type("simclr-ablate loss.temp\t7 sweep=augmentation\tstop\n")
    terminal.wait_for("error: unknown word 'stop'")
    terminal.type("simclr-ablate status state=pretr\tstate=\n")
    terminal.wait_for("error: state must have a value")


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_one_that_its_shell_reads(shell: str) -> None:
    path = shutil.which(shell)
    require(path, shell)
    assert path is not None
    subprocess.run([path, "-n"], input=script(shell), text=True, check=True)


def test_installing_writes_one_file_and_replaces_none_of_others(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # without zsh: it is asked for its folders
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "BASH_COMPLETION_USER_DIR"):
        monkeypatch.delenv(name, raising=False)
    places = {
        "bash": ".local/share/bash-completion/completions/simclr-ablate",
        "fish": ".config/fish/completions/simclr-ablate.fish",
        "zsh": ".local/share/zsh/site-functions/_simclr-ablate",
    }
    for shell, place in places.items():
        path = tmp_path / place
        monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
        for words in (["install"], ["install", shell]):
            assert main(words) == 0
            result, told = capsys.readouterr()
            assert result == f"wrote {path}\n"
            assert told
        assert path.read_text() == script(shell) + "\n"
        path.write_text("mine")
        assert main(["install"]) == 2
        assert f"error: {path} is not ours, and is not written over" in capsys.readouterr().err
        assert path.read_text() == "mine"
    assert f"fpath=({tmp_path / '.local/share/zsh/site-functions'} $fpath)" in told


@pytest.mark.slow
def test_zsh_has_it_where_it_looks(tmp_path, monkeypatch, capsys) -> None:
    require(shutil.which("zsh"), "zsh")
    monkeypatch.setenv("ZDOTDIR", str(tmp_path))
    (tmp_path / "functions").mkdir()
    (tmp_path / ".zshrc").write_text(f"fpath=({tmp_path / 'functions'} $fpath)\necho hello\n")
    assert main(["install", "zsh"]) == 0
    path = tmp_path / "functions/_simclr-ablate"
    assert capsys.readouterr().out == f"wrote {path}\n"
    first, second, *_ = path.read_text().splitlines()
    assert (first, second) == ("#compdef simclr-ablate", MARK)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a shell, got none (accepted: bash, zsh, fish, install)"),
        (["tcsh"], "unknown action 'tcsh'"),
        (["bash", "zsh"], "one action at a time, got bash and zsh"),
        (["install"], "name a shell, got $SHELL, which is tcsh (accepted: bash, zsh, fish)"),
    ],
)
def test_an_unknown_shell_is_named(words, message, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert main(words) == 2
    assert message in capsys.readouterr().err
