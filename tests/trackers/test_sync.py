"""Sending later: finished runs, each once, to the trackers that are named; refusals before anything is sent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simclr_ablate.identity import run_id
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Run, Store
from simclr_ablate.trackers.__main__ import main
from tests.trackers.own import read
from tests.trackers.stored import begun, finish, lines

PAGES = "tracker=tests.trackers.own:Pages"


@pytest.fixture
def experiments(make_experiment) -> list[Experiment]:
    return [make_experiment(f"seed={seed}") for seed in range(3)]


@pytest.fixture
def store(experiments, tmp_path) -> Path:
    """Two finished runs, of which a sweep has one, and one that was interrupted."""
    runs = [begun(tmp_path / "runs", each, range(1, 6)) for each in experiments]
    for run, experiment in zip(runs[:2], experiments, strict=False):
        finish(run, experiment)
    runs[2].write_progress({"phase": "pretraining"})
    Store(tmp_path / "runs").record_sweep("temperature", [runs[0].run_id])
    return tmp_path / "runs"


def sync(store: Path, *words: str) -> int:
    return main(["sync", f"store={store}", f"tracker.folder={store.parent}/pages", *words])


def sent(store: Path) -> dict[str, list[str]]:
    """The kinds of words that each page has."""
    pages = sorted((store.parent / "pages").glob("*.page"))
    return {page.stem: [word[0] for word in read(page)] for page in pages}


WHOLE = ["begin", *["line"] * 5, "result", "end"]


def test_each_finished_run_is_sent_once(store, experiments, capsys) -> None:
    assert sync(store, PAGES) == 1, "an interrupted run is left out"
    runs = list(map(str, sent(store)))
    assert len(runs) == 2
    assert set(map(tuple, sent(store).values())) == {tuple(WHOLE)}
    told = capsys.readouterr()
    assert told.out == "tests.trackers.own:Pages: sent 2 runs\n"
    assert told.err == "left out, since more is to come: 1 interrupted\n"
    before = sent(store)
    assert sync(store, PAGES) == 1
    assert sent(store) == before
    assert "sent 0 runs; 2 runs there already" in capsys.readouterr().out
    (left,) = {run.run_id for run in Store(store).runs()} - set(runs)
    run = Store(store).run(left)
    run.metrics.append(lines([6]))
    finish(run, experiments[2])
    assert sync(store, PAGES) == 0
    assert sent(store).pop(left) == ["begin", *["line"] * 6, "result", "end"]


def test_a_sweep_sends_its_runs(store, capsys) -> None:
    assert sync(store, PAGES, "sweep=temperature") == 0
    (launch,) = Store(store).sweeps()
    assert list(sent(store)) == list(launch.run_ids)
    assert sync(store, PAGES, "sweep=temprature") == 2
    assert "did you mean temperature?" in capsys.readouterr().err


def test_an_interrupted_sync_goes_on(store, capsys) -> None:
    """The tracker fails until the file `broken` is removed."""
    broken = store.parent / "pages" / "broken"
    assert sync(store, PAGES, "sweep=temperature") == 0
    broken.touch()
    assert sync(store, "tracker=tests.trackers.own:Broken") == 1
    error = capsys.readouterr().err
    assert "ConnectionError: no way through" in error
    assert error.count("\n") == 2
    broken.unlink()
    assert sync(store, "tracker=tests.trackers.own:Broken") == 1
    assert [words.count("line") for words in sent(store).values()] == [5, 5]


def test_runs_name_their_trackers_themselves(make_experiment, tmp_path, capsys) -> None:
    """A list of names on the command line replaces theirs."""
    names = "tracker.names=['tests.trackers.own:Pages']"
    for seed, more in ((0, [names, f"tracker.folder={tmp_path}/own"]), (1, [])):
        experiment = make_experiment(f"seed={seed}", *more)
        finish(begun(tmp_path / "runs", experiment, [1]), experiment)
    assert main(["sync", f"store={tmp_path}/runs"]) == 0
    assert len(list((tmp_path / "own").glob("*.page"))) == 1
    both = "tracker=[tests.trackers.own:Pages, tests.trackers.own:Forgetful]"
    assert main(["sync", f"store={tmp_path}/runs", both, f"tracker.folder={tmp_path}/both"]) == 0
    assert "own:Forgetful: sent 2 runs" in capsys.readouterr().out


def test_pictures_are_sent_when_they_are_new(store, tmp_path, capsys) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    words = (PAGES, "sweep=temperature", f"reports={reports}")
    assert sync(store, *words) == 2
    assert "reports must be a folder of pictures" in capsys.readouterr().err
    for name in ("one", "two"):
        (reports / f"{name}.png").write_bytes(name.encode())
    assert sync(store, *words) == 0
    assert "sent 2 pictures" in capsys.readouterr().out
    (reports / "two.png").write_bytes(b"other")
    assert sync(store, *words) == 0
    assert "sent 1 picture\n" in capsys.readouterr().out
    assert sync(store, *words) == 0
    assert "sent 0 pictures" in capsys.readouterr().out
    page = read(store.parent / "pages/pictures-temperature.page")
    assert [word[1:] for word in page if word[0] == "picture"] == [
        ["one", b"one".hex()],
        ["two", b"two".hex()],
        ["two", b"other".hex()],
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "tracker must name trackers, since no run of the store names one"),
        (("tracker=wandbb",), "got 'wandbb'; did you mean wandb?"),
        (("tracker=tests.trackers.own:Nothing",), "has no 'Nothing'"),
        (("trackers=wandb",), "unknown key trackers; did you mean tracker?"),
        (("tracker=wandb,wandb",), "must name each tracker once, got 'wandb' twice"),
        (("tracker=tensorboard", "tracker.project="), "tracker.project must have a value"),
    ],
)
def test_what_cannot_be_sent_is_refused(store, words, message, capsys) -> None:
    assert sync(store, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not list(store.glob("*/trackers"))


def test_the_store_must_exist(tmp_path, capsys) -> None:
    assert main(["sync", f"store={tmp_path}/nowhere"]) == 2
    assert main(["send"]) == 2
    assert "unknown action 'send'" in capsys.readouterr().err


def test_a_run_that_another_process_sends_is_left_to_it(store, capsys) -> None:
    from simclr_ablate import lease as leases

    (launch,) = Store(store).sweeps()
    run: Run = Store(store).run(launch.run_ids[0])
    folder = run.path / "trackers/tests.trackers.own:Pages"
    folder.mkdir(parents=True)
    lease = leases.acquire(folder)
    assert lease is not None
    assert sync(store, PAGES, "sweep=temperature") == 1
    assert "1 being sent" in capsys.readouterr().err
    lease.release()
    assert sync(store, PAGES, "sweep=temperature") == 0


def test_a_run_whose_config_is_damaged_is_named(store, experiments, capsys) -> None:
    run = Store(store).run(run_id(experiments[0]))
    (run.path / "experiment.json").write_text("{")
    assert sync(store, PAGES) == 1
    assert list(sent(store)) == [run_id(experiments[1])]
    error = capsys.readouterr().err
    assert f"left out: {run.run_id}: its experiment.json is missing or damaged" in error


def test_a_key_that_is_given_as_null_is_none(store, experiments, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["sync", f"store={store}", PAGES, "sweep=temperature"]
    assert main([*words, "tracker.folder=null"]) == 0
    name = PAGES.partition("=")[2]
    assert list((store / ".trackers" / name).glob("*.page"))
    assert not (tmp_path / "null").exists()


def test_unknown_keys_of_the_tracker_are_refused(store, capsys) -> None:
    for key, close in (("tracker.flder", "tracker.folder"), ("trackr.uri", "tracker.uri")):
        assert sync(store, PAGES, f"{key}=x") == 2
        assert f"unknown key {key}; did you mean {close}?" in capsys.readouterr().err
    assert sync(store, PAGES, "tracker.project=null") == 2
    assert "tracker.project must be str, got None" in capsys.readouterr().err


def test_the_installed_script_finds_trackers_in_the_current_folder(store, tmp_path) -> None:
    """Python itself looks in the script's folder instead."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "mine.py").write_text("from tests.trackers.own import Pages\n")
    script = Path(sys.executable).with_name("simclr-ablate")
    words = ["tracker=mine:Pages", "sweep=temperature", f"tracker.folder={tmp_path}/pages"]
    told = subprocess.run(
        [script, "trackers", "sync", f"store={store}", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout == "mine:Pages: sent 1 run\n"
