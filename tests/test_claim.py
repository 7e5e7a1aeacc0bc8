"""Claims that are damaged, dated wrongly, held elsewhere or on a disk that is full. Real files and processes."""

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

import pytest

from simclr_ablate import claim as claims

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
    first = claims.acquire(tmp_path)
    assert claims.acquire(tmp_path) is None
    first.release()
    second = claims.acquire(tmp_path)
    second.check()
    assert not first.is_held()
    assert not list(tmp_path.glob(".*"))
    second.release()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def elsewhere(folder: Path, age: float, job: str | None = None) -> Path:
    """A claim as a process on another host wrote it, touched so many seconds ago."""
    claims.acquire(folder, job)
    path = folder / "claim.1"
    owner = json.loads(path.read_text())
    path.write_text(json.dumps({**owner, "place": "another", "start": "1"}))
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"3", b"{}", b'{"host": "a", "pid": "1"}']
)
def test_what_cannot_be_read_is_no_claim(tmp_path, caplog, content) -> None:
    path = tmp_path / "claim.7"
    path.write_bytes(content)
    os.utime(path, (time.time() - 60,) * 2)
    assert claims.holder(tmp_path) is None
    assert claims.last(tmp_path) == {}
    claim = claims.acquire(tmp_path)
    assert claim is not None
    assert claim.number == 8
    claim.release()
    assert str(path) in caplog.text


def test_a_claim_that_is_just_being_written_is_left_alone(tmp_path) -> None:
    """Where there are no hard links, its name is there before its content."""
    (tmp_path / "claim.1").touch()
    assert claims.acquire(tmp_path) is None
    assert os.listdir(tmp_path) == ["claim.1"]


@pytest.mark.parametrize(
    ("age", "alive"),
    [(0.0, True), (30.0, True), (-30.0, True), (DAY, False), (-DAY, False), (-3650 * DAY, False)],
)
def test_age_is_judged_both_ways(tmp_path, age, alive) -> None:
    elsewhere(tmp_path, age)
    assert (claims.holder(tmp_path) is not None) == alive
    claim = claims.acquire(tmp_path)
    assert (claim is None) == alive
    if claim is not None:
        claim.release()


@pytest.fixture(params=[-1000.0, 1000.0])
def wrong_clock(request, monkeypatch) -> None:
    """This host's clock is wrong, and the file system's is not, as on a file server."""
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + request.param)


@pytest.mark.usefixtures("wrong_clock")
@pytest.mark.parametrize("requeued", [False, True])
def test_a_wrong_clock_writes_no_living_claim_off(tmp_path, requeued) -> None:
    path = elsewhere(tmp_path, 0.0, job="7")
    os.utime(path)
    before = path.read_bytes()
    assert claims.holder(tmp_path) is None, "a reader can do no better"
    assert claims.holder(tmp_path, writes=True) is not None
    assert not claims.end_claim_of(tmp_path, "7", requeued)
    assert os.listdir(tmp_path) == ["claim.1"]
    assert path.read_bytes() == before


@pytest.mark.usefixtures("wrong_clock")
def test_a_wrong_clock_keeps_no_dead_claim(tmp_path) -> None:
    path = elsewhere(tmp_path, 0.0, job="7")
    os.utime(path)
    touched = path.stat().st_mtime - 1000
    os.utime(path, (touched, touched))
    assert claims.holder(tmp_path, writes=True) is None
    assert claims.end_claim_of(tmp_path, "7", requeued=True)
    assert claims.last(tmp_path) == {"released": True, "job": "7", "requeued": True}


def test_who_only_seemed_dead_finds_that_its_claim_was_written_off(tmp_path) -> None:
    """As a process that was stopped for minutes, and goes on."""
    claim = claims.acquire(tmp_path, "7")
    owner = json.loads(claim.path.read_text())
    claim.path.write_text(json.dumps({**owner, "start": "before"}))
    assert claims.end_claim_of(tmp_path, "7")
    with pytest.raises(claims.ClaimLostError):
        claim.check()
    claim.release()
    assert claims.last(tmp_path) == {"released": True, "job": "7", "requeued": False}


def _look(folder: Path, answers) -> None:
    if os.geteuid() == 0:
        os.setuid(65_534)
    try:
        (folder / "mine").touch()
    except PermissionError:
        answers.put(claims.holder(folder) is not None)


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
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.05)
    folder, away = tmp_path / "run", tmp_path / "away"
    folder.mkdir()
    claim = claims.acquire(folder)
    folder.rename(away)  # as a server that does not answer for a while
    time.sleep(0.3)
    away.rename(folder)
    os.utime(claim.path, (0, 0))
    deadline = time.monotonic() + 30
    while claim.path.stat().st_mtime < 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert claim.path.stat().st_mtime > 1
    claim.release()


HOLD = """
import sys, time
from pathlib import Path
from simclr_ablate.claim import acquire
claim = acquire(Path(sys.argv[1]))
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
    owner = claims.holder(tmp_path)
    assert owner is not None
    assert not claims.is_here(owner)
    assert claims.process_start(owner["pid"]) != owner["start"]
    assert claims.acquire(tmp_path) is None
    holder.communicate("")
    assert claims.holder(tmp_path) is not None, "nobody here can know"


def _release_without_room(folder: Path, ready, done) -> None:
    claim = claims.acquire(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # every write fails, as on a full disk
    claim.release()
    ready.set()
    done.wait(60)


def test_a_claim_is_released_on_a_full_disk_too(tmp_path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=_release_without_room, args=(tmp_path, ready, done))
    holder.start()
    assert ready.wait(60)
    assert claims.holder(tmp_path) is None, "it lives, and holds nothing any more"
    done.set()
    holder.join()
    os.utime(tmp_path / "claim.1", (time.time() - 60,) * 2)
    claim = claims.acquire(tmp_path)
    assert claim is not None
    claim.release()


def test_a_server_that_is_away_for_a_moment_hands_no_run_over(tmp_path, monkeypatch) -> None:
    claim = claims.acquire(tmp_path)
    long_ago = time.time() - claims.HEARTBEAT_SECONDS
    os.utime(claim.path, (long_ago, long_ago))

    def away(_: Path) -> bytes:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", away)
        assert claims.acquire(tmp_path) is None
        assert not claims.end_claim_of(tmp_path, "7")
        assert claims.holder(tmp_path, writes=True) is not None
    assert claim.is_held()
    claim.release()
    assert claims.holder(tmp_path, writes=True) is None


def test_names_that_mean_nothing_are_passed_over(tmp_path) -> None:
    """A process whose name is not UTF-8, and files whose names only resemble those of claims."""
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b'caf\\xc3', 0, 0, 0); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        assert claims.process_start(process.pid) not in (None, "?")
        process.communicate(b"\n")
    for name in ("claim.²", "claim.x", "claim."):
        (tmp_path / name).touch()
    assert claims.latest(tmp_path) == 0
