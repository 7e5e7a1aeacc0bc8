"""The commands as a whole: which there are, what they print where, and how they end."""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from simclr_ablate import __version__
from simclr_ablate.__main__ import dispatch
from simclr_ablate.commands import COMMANDS, DEFAULT
from simclr_ablate.config import ConfigError
from simclr_ablate.help import MOST_USED, every_key
from simclr_ablate.plan.groups import groups
from simclr_ablate.run import CONFIG_FOLDER, register
from simclr_ablate.store import Store
from simclr_ablate.words import ended
from tests.commands import arguments_of, eventually, run_apart, start_python
from tests.programs import require

REPOSITORY = Path(__file__).parents[2]
PLAN = ["dry_run=true", "data.limit=320"]


@pytest.fixture(autouse=True)
def _loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMCLR_ABLATE_QUIET", raising=False)
    monkeypatch.delenv("SIMCLR_ABLATE_JSON", raising=False)


def command(
    environment: dict[str, str], folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """The command in a new Python."""
    return subprocess.run(
        [sys.executable, "-m", "simclr_ablate", *arguments],
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_our_version(name: str, capsys) -> None:
    for option, said in (("--version", f"simclr-ablate {__version__}\n"), ("--help", "usage: ")):
        try:
            status = dispatch([name, option])
        except SystemExit as exited:  # argparse's way
            status = exited.code
        assert status == 0
        out, err = capsys.readouterr()
        assert out.startswith(said)
        assert err == ""
    for text in ("Exit status: 0", "--quiet", "simclr-ablate"):
        assert text in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["statsu"], "unknown command 'statsu'; did you mean status? (accepted: run, status, "),
        (["--quiet", "analyze"], "unknown command 'analyze'; did you mean analyse?"),
        (["store", "pakc"], "unknown action 'pakc'; did you mean pack?"),
        (["status", "store=nowhere"], "the store nowhere does not exist"),
        (["status", "retry", "--json"], "--json shows runs, and cannot be given with retry"),
        (["findings", "store=nowhere"], "the store nowhere does not exist"),
        (["analyse", "store=nowhere"], "the store nowhere does not exist"),
        (["analyse", "--store", "a", "store=b"], "store is given twice, as 'b' and 'a'"),
        (["weights", "export", "run=a", "to=b"], "to must be one of torchvision, timm, hf, npz"),
        (["weights", "export", "run="], "run must have a value, got run="),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert ended(lambda: dispatch(words)) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith(f"error: {message}")
    assert out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loss=ntxent"], "Could not find 'loss/ntxent'"),
        (["run", "loss.temprature=1"], "unknown key loss.temprature; did you mean"),
        (["-m", "status"], "status must come first: simclr-ablate status ..."),
        (["--json"], "--json needs dry_run=true"),
        (["sweep=null"], "sweep must be the name of a config file, got null"),
    ],
)
def test_a_wrong_run_is_refused_in_one_line(words, message, environment, tmp_path) -> None:
    status, out, err = run_apart(environment, *words)
    assert status == 2
    (line,) = err.splitlines()
    assert message in line
    assert line.startswith("error: ")
    assert out == ""


def test_json_is_of_one_plan(environment) -> None:
    words = ["--json", "-m", "hydra/sweeper=basic", "seed=0,1", *PLAN]
    status, out, err = run_apart(environment, *words)
    assert status == 2
    assert err.splitlines()[-1].startswith("error: --json prints one plan; hydra/sweeper=basic")
    assert "run_id" not in out


def test_a_stopped_command_has_a_status_of_its_own() -> None:
    def stopped() -> int:
        raise KeyboardInterrupt

    def wrong() -> int:
        raise ConfigError("no")

    assert (ended(stopped), ended(wrong), ended(lambda: 1)) == (130, 2, 1)


@pytest.mark.slow
def test_results_and_messages_are_apart(environment, tmp_path) -> None:
    """A sweep of which one run fails: each of the two streams, loud and quiet."""
    words = ("-m", "optimizer.name=sgd", "optimizer.lr=1e30,0.1", "optimizer.epochs=1")
    status, out, err = run_apart(environment, *arguments_of(tmp_path / "loud", *words))
    assert status == 1
    assert out == "1 done, 1 not\n"
    for text in ("2 to run", "started ", "done ", "FAILED ", "NonFiniteLossError", "retry what"):
        assert text in err
    again = err.splitlines()[-1].strip()
    assert again.startswith("simclr-ablate -m ")
    quiet = ["--quiet", *arguments_of(tmp_path / "quiet", *words)]
    status, out, err = run_apart(environment, *quiet)
    assert (status, out) == (1, "1 done, 1 not\n")
    failed, log = err.strip().splitlines()
    assert failed.startswith("FAILED ")
    assert log.startswith("  log: ")
    states = {found.state() for found in Store(tmp_path / "quiet").runs()}
    assert states == {"failed", "complete"}


def test_one_run_prints_its_result(environment, tmp_path) -> None:
    words = arguments_of(tmp_path, "optimizer.epochs=1")
    status, loud, _ = run_apart(environment, *words)
    assert status == 0
    assert [line.split()[0] for line in loud.splitlines()] == ["run", "folder", "linear", "kNN"]
    assert run_apart(environment, "--quiet", *words) == (0, loud, "")


def test_a_plan_is_a_result_and_a_table_for_scripts(environment, tmp_path) -> None:
    words = ["-m", "loss.temperature=0.1,0.5", *PLAN, f"store={tmp_path / 'runs'}"]
    status, out, err = run_apart(environment, *words)
    assert status == 0
    assert "2 experiments, 0 already finished, 2 to run" in out
    assert out.count("planned") == 2
    assert err == ""
    status, out, err = run_apart(environment, "--json", *words)
    rows = json.loads(out)
    assert [row["values"]["loss.temperature"] for row in rows] == [0.1, 0.5]
    assert {row["state"] for row in rows} == {"planned"}
    assert len({row["run_id"] for row in rows}) == 2
    assert "2 to run" in err
    status, out, err = run_apart(environment, "--json", "--quiet", *words)
    assert (json.loads(out), err) == (rows, "")


def test_help_comes_at_once_and_names_what_is_used_most(environment, tmp_path) -> None:
    used = [name for names in MOST_USED.values() for name in names]
    assert len(used) == len(set(used)) == 20
    assert set(used) <= {info.name for info in every_key()}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command(environment, tmp_path, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
    lines = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    keys = lines[lines.index("Keys") :]
    assert [name for name in keys if name in used] == used
    for name in (*COMMANDS, *groups()):
        assert name in lines
    assert "launcher.use_srun" not in done.stdout
    every = command(environment, tmp_path, "run", "--help-all")
    listed = {line.split()[0] for line in every.stdout.splitlines() if line.startswith("  ")}
    assert {info.name for info in every_key()} <= listed


@pytest.mark.parametrize("words", [["--help"], ["status", "--help"], ["analyse", "--help"]])
def test_help_waits_for_nothing_heavy(words) -> None:
    code = (
        "import sys\nfrom simclr_ablate.__main__ import main\n"
        "heavy = {'torch', 'hydra', 'pandas', 'numpy', 'matplotlib', 'scipy'}\n"
        "try: main()\nfinally: print('loaded:', heavy & set(sys.modules))"
    )
    line = [sys.executable, "-c", code, *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: set()"


def test_groups_of_ones_own_are_in_the_help(tmp_path, capsys) -> None:
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss/mine.yaml").touch()
    assert dispatch(["--help", "--config-dir", str(tmp_path)]) == 0
    assert "margin_triplet, mine, nt_logistic" in capsys.readouterr().out


def test_groups_are_those_that_hydra_finds() -> None:
    register()
    with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
    assert groups() == {name: sorted(loader.get_group_options(name)) for name in groups()}
    assert set(groups()) == set(loader.list_groups("")) - {"hydra"}


@pytest.mark.slow
def test_modules_work_as_commands(environment, tmp_path) -> None:
    """`python -m simclr_ablate.status` is `simclr-ablate status`, and so on."""
    (tmp_path / "runs").mkdir()
    for name in ("status", "findings"):
        module = COMMANDS[name].module.removesuffix(".__main__")
        alone = subprocess.run(
            [sys.executable, "-m", module, "--json"],
            env={**environment, "PYTHONPATH": str(REPOSITORY)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        done = command(environment, tmp_path, name, "--json")
        assert (done.returncode, done.stdout, done.stderr) == (
            alone.returncode,
            alone.stdout,
            alone.stderr,
        )
    for name, named in COMMANDS.items():
        module = importlib.import_module(named.module)
        assert callable(module.main)
        assert name == DEFAULT or (module.WORDS and module.parser())
    empty = command(environment, tmp_path, "analyse")
    assert empty.returncode == 2
    assert empty.stderr == "error: the store runs has nothing to show: it holds no runs\n"


@pytest.mark.slow
def test_ctrl_c_stops_a_command_with_its_status(environment, tmp_path) -> None:
    process = start_python(environment, tmp_path, "optimizer.epochs=500")
    found = eventually(lambda: [*Store(tmp_path).runs()], "a run")[0]
    eventually(lambda: found.progress().get("step", 0) > 1, "its second step")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "to resume, run the same command again:\n  simclr-ablate store=" in output


def test_benchmarks_say_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("views", "image_statistics", "gpu"):
        assert f"  {name} " in done.stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "benchmarks", "viws"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: unknown benchmark 'viws'; did you mean views?")


@pytest.mark.slow
def test_a_command_that_is_installed_is_the_module(environment, tmp_path) -> None:
    program = Path(sys.executable).with_name("simclr-ablate")
    require(program.exists(), "an installed simclr-ablate")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == f"simclr-ablate {__version__}\n"
