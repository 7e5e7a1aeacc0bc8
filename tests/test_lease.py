"""Leases that are damaged, dated wrongly, held elsewhere or on a disk that is full. Real files and processes."""

import errno
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from simclr_ablate import lease as leases

DAY = 86_400.0


def no_hard_links(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture(params=["links", "no links"])
def file_system(request, monkeypatch) -> None:
    """With hard links and without."""
    if request.param == "no links":
        monkeypatch.setattr(os, "link", no_hard_links)


@pytest.mark.usefixtures("file_system")
def test_one_holder_after_the_other(tmp_path) -> None:
    first = leases.acquire(tmp_path)
    assert leases.acquire(tmp_path) is None
    first.release()
    second = leases.acquire(tmp_path)
    second.check()
    assert not first.is_held()
    assert not list(tmp_path.glob(".*"))
    second.release()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def elsewhere(folder: Path, age: float, job: str | None = None) -> Path:
    """A lease as a process on another host wrote it, touched so many seconds ago."""
    leases.acquire(folder, job)
    path = folder / "lease.1"
    owner = json.loads(path.read_text())
    path.write_text(json.dumps({**owner, "place": "another", "start": "1"}))
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"3", b"{}", b'{"host": "a", "pid": "1"}']
)
def test_what_cannot_be_read_is_no_lease(tmp_path, caplog, content) -> None:
    path = tmp_path / "lease.7"
    path.write_bytes(content)
    os.utime(path, (time.time() - 60,) * 2)
    assert leases.holder(tmp_path) is None
    assert leases.last(tmp_path) == {}
    lease = leases.acquire(tmp_path)
    assert lease is not None
    assert lease.number == 8
    lease.release()
    assert str(path) in caplog.text


def test_a_lease_that_is_just_being_written_is_left_alone(tmp_path) -> None:
    """Where there are no hard links, its name is there before its content."""
    (tmp_path / "lease.1").touch()
    assert leases.acquire(tmp_path) is None
    assert os.listdir(tmp_path) == ["lease.1"]


@pytest.mark.parametrize(
    ("age", "alive"),
    [(0.0, True), (30.0, True), (-30.0, True), (DAY, False), (-DAY, False), (-3650 * DAY, False)],
)
def test_age_is_judged_both_ways(tmp_path, age, alive) -> None:
    elsewhere(tmp_path, age)
    assert (leases.holder(tmp_path) is not None) == alive
    lease = leases.acquire(tmp_path)
    assert (lease is None) == alive
    if lease is not None:
        lease.release()


@pytest.fixture(params=[-1000.0, 1000.0])
def wrong_clock(request, monkeypatch) -> None:
    """This host's clock is wrong, and the file system's is not, as on a file server."""
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + request.param)


@pytest.mark.usefixtures("wrong_clock")
@pytest.mark.parametrize("requeued", [False, True])
def test_a_wrong_clock_writes_no_living_lease_off(tmp_path, requeued) -> None:
    path = elsewhere(tmp_path, 0.0, job="7")
    os.utime(path)
    before = path.read_bytes()
    assert leases.holder(tmp_path) is None, "a reader can do no better"
    assert leases.holder(tmp_path, writes=True) is not None
    assert not leases.end_lease_of(tmp_path, "7", requeued)
    assert os.listdir(tmp_path) == ["lease.1"]
    assert path.read_bytes() == before


@pytest.mark.usefixtures("wrong_clock")
def test_a_wrong_clock_keeps_no_dead_lease(tmp_path) -> None:
    path = elsewhere(tmp_path, 0.0, job="7")
    os.utime(path)
    touched = path.stat().st_mtime - 1000
    os.utime(path, (touched, touched))
    assert leases.holder(tmp_path, writes=True) is None
    assert leases.end_lease_of(tmp_path, "7", requeued=True)
    assert leases.last(tmp_path) == {"released": True, "job": "7", "requeued": True}


def test_who_only_seemed_dead_finds_that_its_lease_was_written_off(tmp_path) -> None:
    """As a process that was stopped for minutes, and goes on."""
    lease = leases.acquire(tmp_path, "7")
    owner = json.loads(lease.path.read_text())
    lease.path.write_text(json.dumps({**owner, "start": "before"}))
    assert leases.end_lease_of(tmp_path, "7")
    with pytest.raises(leases.LeaseLostError):
        lease.check()
    lease.release()
    assert leases.last(tmp_path) == {"released": True, "job": "7", "requeued": False}


def _look(folder: Path, answers) -> None:
    if os.geteuid() == 0:
        os.setuid(65_534)
    try:
        (folder / "mine").touch()
    except PermissionError:
        answers.put(leases.holder(folder) is not None)


@as_root
def test_readers_need_no_permission_to_write(open_folder) -> None:
    folder = open_folder
    elsewhere(folder, 0.0).chmod(0o644)
    before = folder.stat().st_mtime_ns
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    reader = context.Process(target=_look, args=(folder, answers))
    reader.start()
    assert answers.get(timeout=30) is True
    reader.join()
    assert folder.stat().st_mtime_ns == before


def test_the_heart_goes_on_after_an_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    folder, away = tmp_path / "run", tmp_path / "away"
    folder.mkdir()
    lease = leases.acquire(folder)
    folder.rename(away)  # as a server that does not answer for a while
    time.sleep(0.3)
    away.rename(folder)
    os.utime(lease.path, (0, 0))
    deadline = time.monotonic() + 30
    while lease.path.stat().st_mtime < 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert lease.path.stat().st_mtime > 1
    lease.release()


HOLD = """
import sys, time
from pathlib import Path
from typing import Any
from simclr_ablate.lease import acquire
lease = acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@as_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_holder_in_another_pid_namespace_is_left_alone(tmp_path) -> None:
    """Two containers of one host may share its name, and a number means another process in each."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", HOLD, tmp_path]
    holder = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if holder.stdout.readline() != "held\n":
        pytest.skip(f"no namespaces here: {holder.communicate()[1]}")
    owner = leases.holder(tmp_path)
    assert owner is not None
    assert not leases.is_here(owner)
    assert leases.process_start(owner["pid"]) != owner["start"]
    assert leases.acquire(tmp_path) is None
    holder.communicate("")
    assert leases.holder(tmp_path) is not None, "nobody here can know"


def _release_without_room(folder: Path, ready, done) -> None:
    lease = leases.acquire(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # every write fails, as on a full disk
    lease.release()
    ready.set()
    done.wait(60)


def test_a_lease_is_released_on_a_full_disk_too(tmp_path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_release_without_room, args=(tmp_path, ready, done))
    holder.start()
    assert ready.wait(60)
    assert leases.holder(tmp_path) is None, "it lives, and holds nothing any more"
    done.set()
    holder.join()
    os.utime(tmp_path / "lease.1", (time.time() - 60,) * 2)
    lease = leases.acquire(tmp_path)
    assert lease is not None
    lease.release()


def test_a_server_that_is_away_for_a_moment_hands_no_run_over(tmp_path, monkeypatch) -> None:
    lease = leases.acquire(tmp_path)
    long_ago = time.time() - leases.HEARTBEAT_SECONDS
    os.utime(lease.path, (long_ago, long_ago))

    def away(_: Path) -> bytes:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", away)
        assert leases.acquire(tmp_path) is None
        assert not leases.end_lease_of(tmp_path, "7")
        assert leases.holder(tmp_path, writes=True) is not None
    assert lease.is_held()
    lease.release()
    assert leases.holder(tmp_path, writes=True) is None


def test_names_that_mean_nothing_are_passed_over(tmp_path) -> None:
    """A process whose name is not UTF-8, and files whose names only resemble those of leases."""
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b'caf\\xc3', 0, 0, 0); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        assert leases.process_start(process.pid) not in (None, "?")
        process.communicate(b"\n")
    for name in ("lease.²", "lease.x", "lease."):
        (tmp_path / name).touch()
    assert leases.latest(tmp_path) == 0


def test_a_system_without_proc_tells_processes_apart_too(monkeypatch) -> None:
    def missing(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        start = leases.process_start(process.pid)
        assert start not in (None, leases.process_start(os.getpid()))
        assert leases.process_start(process.pid) == start
        process.stdin.write(b"\n")
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert leases.process_start(process.pid) is None, "a zombie has ended"
    assert leases.process_start(process.pid) is None
