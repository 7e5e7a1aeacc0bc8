"""What becomes of a sweep when terminals close, helpers are killed, others take over, and disks are full."""

import fcntl
import multiprocessing
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from simclr_ablate.launch import worker
from simclr_ablate.store import Store
from tests.commands import (
    TINY,
    assert_same,
    eventually,
    only_run,
    results,
    run,
    start,
    wait_for_step,
)
from tests.slowly import SLOW

pytestmark = pytest.mark.slow

LENGTH = [SLOW, "optimizer.epochs=10"]
RARE = "compute.checkpoint_minutes=60"
needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def undisturbed(environment, tmp_path_factory):
    """The results of the run that the tests disturb."""
    store = tmp_path_factory.mktemp("undisturbed")
    status, output = run(environment, store, *LENGTH)
    assert status == 0, output
    found = only_run(store)
    for line in (found.run_id, "top-1", "kNN"):
        assert line in output
    return results(found)


class Terminal:
    """A command in a terminal of its own, which shows what it prints to nobody, until it is closed."""

    def __init__(self, environment: dict[str, str], store: Path, *overrides: str) -> None:
        self._ours, theirs = pty.openpty()
        self._closing = threading.Event()
        line = [sys.executable, "-m", "simclr_ablate", f"store={store}", *TINY, *overrides]
        self.process = subprocess.Popen(
            line,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while not self._closing.is_set():
            if select.select([self._ours], [], [], 0.05)[0]:
                os.read(self._ours, 65_536)

    def close(self) -> None:
        """The system sends SIGHUP to the whole process group, and takes no more output."""
        self._closing.set()
        self._reader.join()
        os.close(self._ours)


def fork_servers_of(pid: int) -> list[int]:
    """Those that a command has started, and that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            line = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if int(parent) == pid and state != "Z" and b"forkserver" in line:
            found.append(int(path.name))
    return found


def kill_its_process(environment, store: Path, step: int) -> None:
    process = start(environment, store, *LENGTH)
    found = wait_for_step(store, step)
    os.kill(found.holder()["pid"], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "killed by SIGKILL" in output
    assert found.run_id in output


def kill_the_command(environment, store: Path, step: int) -> None:
    """Its runs end with it."""
    process = start(environment, store, *LENGTH)
    found = wait_for_step(store, step)
    process.kill()
    process.communicate(timeout=60)
    eventually(lambda: found.holder() is None, "the run's end")


def assert_saved(store: Path) -> None:
    found = only_run(store)
    assert (found.state(), found.failure()) == ("interrupted", None)
    assert (found.path / "checkpoint.pt").exists()


def press_ctrl_c(environment, store: Path, step: int) -> None:
    process = start(environment, store, *LENGTH, RARE)
    wait_for_step(store, step)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "to resume, run the same command again" in output
    assert_saved(store)


def close_the_terminal(environment, store: Path, step: int) -> None:
    terminal = Terminal(environment, store, *LENGTH, RARE)
    wait_for_step(store, step)
    terminal.close()
    assert terminal.process.wait(60) == 130
    assert_saved(store)


def terminate_the_group(environment, store: Path, step: int) -> None:
    """As batch systems and service managers do it: the fork server must not die of it."""
    line = [sys.executable, "-m", "simclr_ablate", f"store={store}", *TINY, *LENGTH, RARE]
    command = subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for_step(store, step)
    os.killpg(command.pid, signal.SIGTERM)
    output, _ = command.communicate(timeout=60)
    assert command.returncode == 130, output
    assert_saved(store)


def kill_the_fork_server(environment, store: Path, step: int) -> None:
    """It is named, its run saves and ends, and is started again: the command comes to its end."""
    command = start(environment, store, *LENGTH, RARE)
    found = wait_for_step(store, step)
    orphan = found.holder()["pid"]
    (server,) = fork_servers_of(command.pid)
    os.kill(server, signal.SIGKILL)
    output, _ = command.communicate(timeout=240)
    assert command.returncode == 0, output
    assert "the process that starts runs was killed" in output
    assert not Path(f"/proc/{orphan}").exists()


WAYS = (
    kill_its_process,
    kill_the_command,
    press_ctrl_c,
    close_the_terminal,
    terminate_the_group,
    kill_the_fork_server,
)
"""To stop a run; the last one's command starts it again."""


@needs_proc
def test_stopped_in_every_way_a_run_comes_to_the_same_bits(
    environment, tmp_path, undisturbed
) -> None:
    reached = 0
    for stop in WAYS:
        stop(environment, tmp_path, reached + 5)
        found = only_run(tmp_path)
        reached = found.progress().get("step", 0)
    assert_same(found, undisturbed)
    log = found.log_path.read_text()
    assert log.count("pretraining from step") == len(WAYS) + 1
    assert log.count("pretraining from step 0") == 1, "somebody began anew"


@needs_proc
def test_a_fork_server_that_is_killed_again_and_again_fails_its_run(environment, tmp_path) -> None:
    command = start(environment, tmp_path, "optimizer.epochs=200", RARE)
    found = wait_for_step(tmp_path, 1)
    orphans: list[int] = []
    for _ in range(2):
        eventually(lambda: (found.holder() or {}).get("pid") not in (None, *orphans), "a process")
        orphans.append(found.holder()["pid"])
        (server,) = fork_servers_of(command.pid)
        os.kill(server, signal.SIGKILL)
    output, _ = command.communicate(timeout=120)
    assert command.returncode == 1, output
    assert "the process that starts runs was killed" in found.failure()["reason"]
    eventually(lambda: found.holder() is None, "the orphan's end")


def test_a_run_that_is_taken_over_is_left_without_a_word(
    environment, make_experiment, tmp_path, monkeypatch
) -> None:
    """As by its own job, started again elsewhere while the first start was cut off from the others."""
    monkeypatch.setenv("SIMCLR_ABLATE_CACHE", environment["SIMCLR_ABLATE_CACHE"])
    overrides = [one for one in TINY if not one.startswith("optimizer.epochs")]
    config = make_experiment(*overrides, "optimizer.epochs=200").to_config()
    store = tmp_path / "store"
    job = worker.Job(config, str(store), environment["SIMCLR_ABLATE_CACHE"], 1, "cpu", job_id="7")
    context = multiprocessing.get_context("spawn")
    loser = context.Process(target=worker.work, args=(job,))
    loser.start()
    found = wait_for_step(store, 10)
    lease = found.lease("7")
    assert lease is not None
    found.write_evaluation("h-1", {}, {"top1": 1.0})  # the other is quicker by far
    found.write_progress({"phase": "complete"})
    loser.join(120)
    assert loser.exitcode == worker.Status.TAKEN
    lease.check()
    lease.release()
    assert found.failure() is None
    assert found.state() == "complete"
    assert not found.is_pretrained()
    assert found.progress()["phase"] == "complete"


def outcomes(environment, store: Path, *arguments: str) -> tuple[dict[int, str], str]:
    """States of the runs by seed, and what the command said; it has failed."""
    status, output = run(environment, store, "-m", "optimizer.epochs=1", *arguments)
    assert status == 1, output
    assert "Traceback" not in output.rpartition("FAILED")[2]
    return {found.config()["seed"]: found.state() for found in Store(store).runs()}, output


def test_a_folder_that_cannot_be_made_costs_its_run_alone(environment, tmp_path) -> None:
    status, output = run(
        environment, tmp_path, "-m", "optimizer.epochs=1", "seed=0,1,2", "dry_run=true"
    )
    assert status == 0
    blocked = next(word for word in output.split() if "-s1-" in word)
    (tmp_path / blocked).write_text("no folder")
    states, output = outcomes(environment, tmp_path, "seed=0,1,2")
    assert states == {0: "complete", 2: "complete"}
    (line,) = [line for line in output.splitlines() if line.startswith(f"FAILED {blocked}")]
    assert str(tmp_path / blocked) in line
    assert "is a file, not a folder" in line
    assert "2 done, 1 not" in output


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder]
    if subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@as_root
def test_a_full_disk_is_told_with_its_path_for_every_run(environment, small_disk) -> None:
    states, output = outcomes(environment, small_disk / "runs", "seed=0,1")
    assert "complete" not in states.values()
    lines = [line for line in output.splitlines() if line.startswith("FAILED")]
    assert len(lines) == 2
    for line in lines:
        assert "the disk is full" in line
        assert str(small_disk) in line
    assert "0 done, 2 not" in output


@as_root
def test_a_disk_without_any_room_left_keeps_no_run_from_its_turn(environment, small_disk) -> None:
    """Not even the reasons can be written: they are told."""
    store = small_disk / "runs"
    status, output = run(
        environment, store, "-m", "optimizer.epochs=1", "seed=0,1,2", "dry_run=true"
    )
    assert status == 0, output
    (store / ".sweeps").mkdir(parents=True, exist_ok=True)
    with open(small_disk / "fill", "wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    status, output = run(environment, store, "-m", "optimizer.epochs=1", "seed=0,1,2")
    lines = [line for line in output.splitlines() if line.startswith(("FAILED", "error:"))]
    assert status in (1, 2), output
    assert all("the disk is full" in line for line in lines), lines
    assert len(lines) == (3 if status == 1 else 1)


def test_too_little_memory_fails_each_run_by_name(environment, tmp_path) -> None:
    """`ulimit -v`, under which not even torch can be loaded."""
    line = [sys.executable, "-m", "simclr_ablate", "-m", f"store={tmp_path}", *TINY, "seed=0,1"]
    limit = 2**29
    command = subprocess.run(
        line,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert command.returncode == 1, command.stdout
    lines = [one for one in command.stdout.splitlines() if one.startswith("FAILED")]
    assert len(lines) == 2
    assert not any("unknown reason" in one or "no reason" in one for one in lines), lines
