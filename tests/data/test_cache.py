"""The cache: whole or absent, built once, shared by those who map it."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from simclr_ablate.data.cache import build_once, drop_rows, folder_of, reserve_array, save_set
from simclr_ablate.data.in_memory import open_set
from simclr_ablate.files import StorageError

BUILDER = """
import sys, time
from pathlib import Path
from simclr_ablate.data.cache import build_once
folder = Path(sys.argv[1])

def build(target):
    (target / "half").write_text("half")
    with open(folder / "builds", "a") as file:
        file.write("x")
    time.sleep(float(sys.argv[2]))
    (target / "whole").write_text("whole")

print((build_once(folder / "cache", "set", build) / "whole").read_text())
"""


def _start(folder: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILDER, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_was_saved_is_opened(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (7, 3, 4, 4), dtype=np.uint8)
    labels = draw.integers(0, 2, 7)
    save_set(tmp_path, images, labels, ["a", "b"])
    opened = open_set(tmp_path)
    assert np.array_equal(opened.images.numpy(), images)
    assert np.array_equal(opened.labels.numpy(), labels)
    assert opened.classes == ["a", "b"]


def test_rows_are_dropped_from_a_file(tmp_path: Path) -> None:
    path, shape = tmp_path / "images.npy", (1_200, 3, 4, 4)
    begin = reserve_array(path, shape)
    assert path.stat().st_blocks * 512 >= 1_200 * 48
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with open(path, "r+b") as file:
        file.seek(begin)
        file.write(images.tobytes())
    assert np.array_equal(np.load(path), images)
    dropped = np.random.default_rng().permutation(1_200)[:1_150]
    drop_rows(path, shape, dropped.tolist())
    assert np.array_equal(np.load(path), np.delete(images, dropped, axis=0))


def test_an_opened_set_cannot_change_the_file(tmp_path: Path) -> None:
    save_set(tmp_path, np.zeros((2, 3, 4, 4), np.uint8), np.zeros(2), ["a"])
    open_set(tmp_path).stored.fill_(9)
    assert torch.equal(open_set(tmp_path).stored, torch.zeros(2, 3, 4, 4, dtype=torch.uint8))


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    processes = [_start(tmp_path, 2) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["whole\n"] * 2
    assert (tmp_path / "builds").read_text() == "x"


def test_a_killed_build_leaves_nothing_and_is_done_again(tmp_path: Path) -> None:
    process = _start(tmp_path, 60)
    _wait_for(tmp_path / "builds")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not folder_of(tmp_path / "cache", "set").exists()
    assert _start(tmp_path, 0).communicate(timeout=60)[0] == "whole\n"
    assert (tmp_path / "builds").read_text() == "xx"
    assert list((tmp_path / "cache").rglob(".*.tmp")) == []


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        build_once(tmp_path, "set", build)
    assert [path.name for path in folder_of(tmp_path, "").iterdir()] == [".set.lock"]


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A set of random images in the cache."""
    return build_once(tmp_path, "set", _build)


def _build(folder: Path) -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (900, 3, 32, 32), dtype=np.uint8)  # of several pieces
    save_set(folder, images, draw.integers(0, 2, 900), ["a", "b"])


def _flip_a_bit(path: Path, where: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1 << int(np.random.default_rng().integers(8))
    stamp = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "set.json", "checksums.json"])
@pytest.mark.parametrize("where", [0.0, 0.37, 1.0])
def test_one_bit_that_changed_is_named_and_the_set_made_again(
    built: Path, caplog: pytest.LogCaptureFixture, name: str, where: float
) -> None:
    before, cache = (built / name).read_bytes(), built.parents[1]
    _flip_a_bit(built / name, where)
    with caplog.at_level(logging.WARNING):
        assert build_once(cache, "set", _build) == built
    assert f"{built} is damaged and is made again: " in caplog.text
    assert name in caplog.text or name == "checksums.json"  # in which another's may have changed
    assert (built / name).read_bytes() == before
    caplog.clear()
    build_once(cache, "set", lambda _: pytest.fail("it is whole"))
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "set.json", "checksums.json"])
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: os.truncate(path, 5)])
def test_a_set_of_which_files_are_gone_is_made_again(built: Path, caplog, name: str, harm) -> None:
    harm(built / name)
    with caplog.at_level(logging.WARNING):
        build_once(built.parents[1], "set", _build)
    assert f"is damaged and is made again: {name}" in caplog.text
    assert len(open_set(built)) == 900


def test_an_empty_folder_of_the_cache_is_filled_again(built: Path) -> None:
    shutil.rmtree(built)
    built.mkdir()
    build_once(built.parents[1], "set", _build)
    assert len(open_set(built)) == 900


def test_who_has_a_set_open_keeps_it_when_it_is_made_again(built: Path) -> None:
    opened = open_set(built)
    before = opened.images.clone()
    _flip_a_bit(built / "labels.npy", 0.5)
    build_once(built.parents[1], "set", _build)
    assert torch.equal(opened.images, before)


DAMAGED = """
import sys
from pathlib import Path
from simclr_ablate.data.cache import build_once, save_set
import numpy as np

def build(target):
    with open(sys.argv[2], "a") as file:
        file.write("x")
    save_set(target, np.zeros((9, 3, 4, 4), np.uint8), np.zeros(9), ["a"])

print(build_once(Path(sys.argv[1]), "set", build))
"""


def test_two_processes_make_a_damaged_set_again_once(built: Path, tmp_path: Path) -> None:
    _flip_a_bit(built / "images.npy", 0.5)
    command = [sys.executable, "-c", DAMAGED, str(tmp_path), str(tmp_path / "builds")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=60)[0] for process in processes] == [f"{built}\n"] * 3
    assert (tmp_path / "builds").read_text() == "x"


def test_a_cache_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file is a file, not a folder; choose .* cache=DIR"):
        build_once(tmp_path / "file", "set", _build)


def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk: Path) -> None:
    expected = r"cannot write .*/small/sets: the disk is full \(.* free\): make room, .* cache=DIR"
    with pytest.raises(StorageError, match=expected):
        build_once(small_disk, "set", _build)
    assert [path.name for path in folder_of(small_disk, "").iterdir()] == [".set.lock"]
