"""Following runs beside them: nothing that a tracker does reaches a run, and its errors are said once."""

import dataclasses
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from simclr_ablate.schema import Tracking
from simclr_ablate.store import Store
from simclr_ablate.trackers import follow
from simclr_ablate.trackers.follow import Following
from simclr_ablate.trackers.followers import Followers
from tests.commands import eventually
from tests.trackers.own import read
from tests.trackers.stored import begun, finish, lines


def named(name: str, tmp_path: Path) -> Tracking:
    return Tracking((f"tests.trackers.own:{name}",), 1, "study", str(tmp_path / "pages"), None)


def following_of(tracking: Tracking, store: Path) -> Following:
    return Following(tracking.names[0], Store(store), tracking)


@pytest.fixture
def clock(monkeypatch) -> Callable[[float], None]:
    """`clock(seconds)` lets time pass for who follows."""
    now = 1000.0

    def passed(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(follow.time, "monotonic", lambda: now)
    return passed


def kinds(tmp_path: Path, run_id: str) -> list[str]:
    return [word[0] for word in read(tmp_path / f"pages/{run_id}.page")]


def test_a_run_is_followed_from_before_it_begins_to_its_end(make_experiment, tmp_path) -> None:
    tracking, experiment = named("Pages", tmp_path), make_experiment("seed=7")
    run = begun(tmp_path / "elsewhere", experiment)
    following = following_of(tracking, tmp_path / "runs")
    following.obey(f"+{run.run_id}")
    assert following.look()
    run = begun(tmp_path / "runs", experiment)
    following.look()
    assert kinds(tmp_path, run.run_id) == ["begin"]
    for step in (1, 2, 3):
        run.metrics.append(lines([step]))
        following.look()
    assert kinds(tmp_path, run.run_id) == ["begin", "line", "line", "line"]
    # Two processes evaluate; it ends with the second.
    following.obey(f"+{run.run_id}")
    following.obey(f"-{run.run_id}")
    assert following.look()
    finish(run, experiment)
    following.obey(f"-{run.run_id}")
    assert not following.look()
    assert kinds(tmp_path, run.run_id)[4:] == ["result", "end"]
    following.obey(f"+{run.run_id}")
    following.obey(f"-{run.run_id}")
    assert not following.look()
    assert kinds(tmp_path, run.run_id)[6:] == ["begin", "end"]


def test_a_run_that_another_process_sends_is_left_to_it(
    make_experiment, tmp_path, monkeypatch
) -> None:
    """Two commands work on it; the one that ends first does not wait for the other, and says nothing."""
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.01)
    tracking, experiment = named("Pages", tmp_path), make_experiment("seed=7")
    run = begun(tmp_path / "runs", experiment, [1])
    other, mine = (following_of(tracking, tmp_path / "runs") for _ in range(2))
    for each in (other, mine):
        each.obey(f"+{run.run_id}")
        each.look()
    words: queue.Queue[str | None] = queue.Queue()
    finish(run, experiment)
    words.put(f"-{run.run_id}")
    words.put(None)
    began = time.monotonic()
    follow.follow(mine, words)
    assert time.monotonic() - began < 5
    assert not mine.unsent
    other.obey(f"-{run.run_id}")
    assert not other.look(last=True)
    assert kinds(tmp_path, run.run_id) == ["begin", "line", "result", "end"]


def test_a_run_that_is_let_go_late_is_still_sent(make_experiment, tmp_path) -> None:
    tracking, experiment = named("Pages", tmp_path), make_experiment("seed=7")
    run = begun(tmp_path / "runs", experiment, [1])
    other, mine = (following_of(tracking, tmp_path / "runs") for _ in range(2))
    for each in (other, mine):
        each.obey(f"+{run.run_id}")
        each.look()
    other.obey(f"-{run.run_id}")
    assert mine.look(last=True)
    assert not other.look()
    run.metrics.append(lines([2]))
    assert not mine.look(last=True)
    assert kinds(tmp_path, run.run_id) == ["begin", "line", "end", "begin", "line", "end"]


def test_a_run_that_never_began_is_let_go(make_experiment, tmp_path) -> None:
    following = following_of(named("Pages", tmp_path), tmp_path / "runs")
    following.obey("+a-run")
    following.obey("-a-run")
    assert not following.look()
    assert not following.unsent


def test_an_error_is_said_once_and_tried_again(make_experiment, tmp_path, clock) -> None:
    tracking, experiment = named("Broken", tmp_path), make_experiment("seed=7")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/broken").touch()
    run = begun(tmp_path / "runs", experiment, [1])
    following = following_of(tracking, tmp_path / "runs")
    following.obey(f"+{run.run_id}")
    tries = 0
    for _ in range(100):
        before = len(read(tmp_path / f"pages/{run.run_id}.page"))
        following.look()
        tries += len(read(tmp_path / f"pages/{run.run_id}.page")) > before
        clock(1)
    assert 3 <= tries <= 6, "less and less often"
    assert run.log_path.read_text().count("\n") == 1
    assert (
        "tracker tests.trackers.own:Broken: ConnectionError: no way through"
        in run.log_path.read_text()
    )
    (tmp_path / "pages/broken").unlink()
    run.metrics.append(lines([2]))
    clock(60)
    following.look()
    following.obey(f"-{run.run_id}")
    assert not following.look()
    words = read(tmp_path / f"pages/{run.run_id}.page")
    assert [word[1] for word in words if word[0] == "line"] == lines([1, 2])
    assert not following.unsent


def test_what_cannot_be_sent_in_the_end_is_named(make_experiment, tmp_path, clock) -> None:
    tracking = named("Broken", tmp_path)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/broken").touch()
    run = begun(tmp_path / "runs", make_experiment("seed=7"), [1])
    following = following_of(tracking, tmp_path / "runs")
    following.obey(f"+{run.run_id}")
    following.obey(f"-{run.run_id}")
    assert following.look()
    assert not following.look(last=True)
    assert following.unsent == {run.run_id}
    assert "no way through" in following.problem


@pytest.fixture
def said() -> list[str]:
    return []


def test_processes_follow_what_a_command_says(make_experiment, tmp_path, said) -> None:
    """Two trackers, in real processes, from steps to evaluations."""
    tracking = dataclasses.replace(
        named("Pages", tmp_path), names=("tests.trackers.own:Pages", "tests.trackers.own:Forgetful")
    )
    experiment = make_experiment("seed=7")
    run = begun(tmp_path / "runs", experiment, [1])
    page = tmp_path / f"pages/{run.run_id}.page"
    with Followers(tmp_path / "runs", said.append) as followers:
        followers.begin(run.run_id, tracking)
        pages = [page, page.with_suffix(".forgetful")]
        for each in pages:
            eventually(lambda e=each: "line" in [word[0] for word in read(e)], "the first step")
        run.metrics.append(lines([2]))
        finish(run, experiment)
        followers.ended(run.run_id, tracking)
    for each in pages:
        assert [word[0] for word in read(each)] == ["begin", "line", "line", "result", "end"]
    assert said == []


def test_the_end_of_a_command_waits_for_the_last_lines(make_experiment, tmp_path, said) -> None:
    run = begun(tmp_path / "runs", make_experiment("seed=7"), range(1, 501))
    tracking = named("Pages", tmp_path)
    with Followers(tmp_path / "runs", said.append) as followers:
        followers.begin(run.run_id, tracking)
    assert kinds(tmp_path, run.run_id) == ["begin", *["line"] * 500, "end"]
    assert said == []


def test_a_tracker_that_hangs_is_left_behind(make_experiment, tmp_path, said) -> None:
    run = begun(tmp_path / "runs", make_experiment("seed=7"), [1])
    tracking = named("Hanging", tmp_path)
    with Followers(tmp_path / "runs", said.append, last_seconds=1) as followers:
        followers.begin(run.run_id, tracking)
        eventually(lambda: kinds(tmp_path, run.run_id), "it to begin")
        begin = time.monotonic()
        for number in range(20_000):  # more than a pipe holds
            followers.begin(f"{run.run_id}{number}", tracking)
        assert time.monotonic() - begin < 5
        begin = time.monotonic()
    assert time.monotonic() - begin < 10
    (line,) = said
    assert line.startswith("tracker tests.trackers.own:Hanging: 1")
    assert "no answer in time" in line
    assert line.endswith(
        f"simclr-ablate trackers sync tracker=tests.trackers.own:Hanging store={tmp_path}/runs"
    )


def test_a_killed_process_is_named_at_the_end(make_experiment, tmp_path, said) -> None:
    run = begun(tmp_path / "runs", make_experiment("seed=7"), [1])
    tracking = named("Pages", tmp_path)
    with Followers(tmp_path / "runs", said.append) as followers:
        followers.begin(run.run_id, tracking)
        (process,) = followers._processes.values()
        process.kill()
        process.wait()
        followers.ended(run.run_id, tracking)
    (line,) = said
    assert "its process is gone" in line


KILLED = """
import sys, time
from pathlib import Path
from simclr_ablate.schema import Tracking
from simclr_ablate.trackers.followers import Followers
store, folder, run_id = sys.argv[1:]
followers = Followers(Path(store))
followers.begin(run_id, Tracking(("tests.trackers.own:Pages",), 1, "study", folder, None))
print("begun", flush=True)
time.sleep(600)
"""


def test_a_killed_command_leaves_its_last_lines_to_be_sent(make_experiment, tmp_path) -> None:
    run = begun(tmp_path / "runs", make_experiment("seed=7"), [1])
    arguments = [str(tmp_path / "runs"), str(tmp_path / "pages"), run.run_id]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    run.metrics.append(lines([2]))
    process.kill()
    process.wait()
    process.stdout.close()
    eventually(lambda: kinds(tmp_path, run.run_id)[-1:] == ["end"], "the end")
    assert kinds(tmp_path, run.run_id) == ["begin", "line", "line", "end"]
