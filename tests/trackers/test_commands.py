"""The command with trackers: refusals before any work, and a killed and resumed run that is one run in each of them."""

import importlib.util
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.commands import eventually, only_run, run, start, steps, user_environment
from tests.shared import warm_cache
from tests.trackers import readers
from tests.trackers.own import read
from tests.trackers.stored import begun


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return user_environment(warm_cache(tmp_path_factory))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tracker=wandb,mlflow"], "give tracker=[wandb,mlflow]"),
        (["-m", "tracker=wandb,mlflow"], "give tracker=[wandb,mlflow]"),
        (["-m", "tracker.names=[wandb],[mlflow]"], "holds for the whole command"),
        (["-m", "tracker.every=1,2"], "tracker.every holds for the whole command"),
        (["tracker=[wandb,wandbb]"], "got 'wandbb'; did you mean wandb?"),
        (["tracker=[tests.trackers.own:Nothing]"], "has no 'Nothing'"),
        (["tracker.every=0"], "tracker.every must be >= 1, got 0"),
        (["tracker=mlflow", "tracker.uri=null"], "tracker.uri must be the server"),
    ],
)
def test_what_no_tracker_can_do_is_refused(environment, tmp_path, arguments, message) -> None:
    if "mlflow" in arguments[0] and importlib.util.find_spec("mlflow") is None:
        message = "needs the package mlflow" if arguments[0] == "tracker=mlflow" else message
    status, told = run(environment, tmp_path / "runs", *arguments)
    assert status == 2, told
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    environment, tmp_path, monkeypatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "wandb" else found(name, *rest),
    )
    status, told = run(environment, tmp_path / "runs", "tracker=wandb")
    assert status == 2
    assert told == (
        "error: tracker.names=wandb needs the package wandb, which is not installed: "
        "pip install 'simclr-ablate[wandb]'\n"
    )


@pytest.mark.slow
def test_a_killed_and_resumed_run_is_one_in_each_tracker(
    environment, tmp_path, monkeypatch
) -> None:
    """The worker, the command and those who follow die at once, as when a machine does."""
    packages = [n for n in ("tensorboard", "wandb") if importlib.util.find_spec(n) is not None]
    names = ["tests.trackers.own:Pages", *packages]
    environment = {**environment, "WANDB_MODE": "offline"}
    folder = tmp_path / "trackers"
    keys = (f"tracker=[{','.join(names)}]", f"tracker.folder={folder}", "optimizer.epochs=12")
    store = tmp_path / "runs"
    command = start(environment, store, *keys)
    page = eventually(lambda: list(folder.glob("*.page")), "a page")[0]
    lines = eventually(lambda: len([w for w in read(page) if w[0] == "line"]) > 30, "thirty steps")
    assert lines
    for pid in (command.pid, *_of_store(store)):
        _kill(pid)
    command.communicate(timeout=60)
    status, told = run(environment, store, *keys)
    assert status == 0, told
    assert "tracker" not in told.replace("trackers", "")
    found = only_run(store)
    kept = found.metrics.read()
    sent = [word[1] for word in read(page) if word[0] == "line"]
    assert [line["step"] for line in sent] == [line["step"] for line in kept]
    losses = [line["loss"] for line in kept]
    assert [line["loss"] for line in sent] == losses
    assert [line["step"] for line in steps(found)] == list(range(1, len(kept) + 1))
    if "tensorboard" in names:
        events = [values for _, values in readers.in_tensorboard(folder / found.run_id)]
        assert [v["loss"] for v in events if "loss" in v] == pytest.approx(losses)
    if "wandb" in names:
        ids, logged, _ = readers.in_wandb(folder / "wandb")
        assert ids == {found.run_id}
        numbers = [step for step, _ in logged]
        assert len(numbers) == len(set(numbers)), "no step twice"
        assert set(range(1, len(kept) + 1)).issuperset(numbers)
        assert len(numbers) > len(kept) - 30


def _of_store(store: Path) -> list[int]:
    """The processes that work on runs of the store, or follow them."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_text()
        except OSError:
            continue
        if str(store) in words or str(store) in _environment(path):
            found.append(int(path.name))
    holder = only_run(store).holder()
    return [*found, *([holder["pid"]] if holder else [])]


def _environment(path: Path) -> str:
    try:
        return (path / "environ").read_text()
    except OSError:
        return ""


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_a_run_with_a_tracker_that_fails_is_complete(environment, tmp_path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "broken").touch()
    keys = ("tracker=[tests.trackers.own:Broken]", f"tracker.folder={folder}")
    status, told = run(environment, tmp_path / "runs", *keys)
    assert status == 0, told
    found = only_run(tmp_path / "runs")
    assert found.state() == "complete"
    assert (
        "1 run not sent whole: ConnectionError: no way through; to send it: simclr-ablate" in told
    )
    assert found.log_path.read_text().count("no way through") == 1


def test_ids_do_not_depend_on_trackers(make_experiment, tmp_path) -> None:
    one = begun(tmp_path, make_experiment())
    other = begun(tmp_path, make_experiment("tracker=wandb", "tracker.every=3"))
    assert one.path == other.path
