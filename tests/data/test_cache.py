"""The cache: whole or absent, built once, shared by those who map it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from simclr_ablate.data.cache import build_once, open_set, save_set

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
    assert not (tmp_path / "cache" / "set").exists()
    assert _start(tmp_path, 0).communicate(timeout=60)[0] == "whole\n"
    assert (tmp_path / "builds").read_text() == "xx"
    assert list((tmp_path / "cache").glob(".*.tmp")) == []


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        build_once(tmp_path, "set", build)
    assert [path.name for path in tmp_path.iterdir()] == [".set.lock"]
