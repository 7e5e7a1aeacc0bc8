"""Checkpoints: whole or absent, and the one before where the newest is damaged."""

import builtins
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simclr_ablate.files import StorageError
from simclr_ablate.training.checkpoint import (
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)


def state(value: int) -> dict:
    return {"step": value, "weights": {"a": torch.full((1000,), float(value))}, "history": [1.5]}


def test_the_newest_is_loaded(tmp_path):
    assert load_checkpoint(tmp_path) is None
    for value in range(3):
        save_checkpoint(tmp_path, state(value))
    loaded = load_checkpoint(tmp_path)
    assert loaded["step"] == 2
    assert torch.equal(loaded["weights"]["a"], torch.full((1000,), 2.0))
    remove_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    """One bit in the middle of a tensor, which torch's own reader does not notice."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip, lambda content: b""])
def test_a_damaged_one_falls_back_to_the_one_before(tmp_path, caplog, damage):
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    newest = tmp_path / "checkpoint.pt"
    newest.write_bytes(damage(newest.read_bytes()))
    assert load_checkpoint(tmp_path)["step"] == 1
    assert "checkpoint.pt is damaged" in caplog.text


class BadSector:
    """A file whose disk fails in the middle of it."""

    def __init__(self, file, place: int) -> None:
        self._file, self._place = file, place

    def read(self, size: int = -1) -> bytes:
        if size < 0 or self._file.tell() + size > self._place:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.read(size)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str):
        return getattr(self._file, name)


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`spoil(path, ...)`: from now on, the disk cannot read these files whole, which are as they were otherwise."""
    whole = builtins.open

    def build(*paths: Path) -> None:
        def opened(file, mode="r", *arguments, **more):
            found = whole(file, mode, *arguments, **more)
            return BadSector(found, 500) if file in paths and mode == "rb" else found

        monkeypatch.setattr(builtins, "open", opened)

    return build


def test_one_that_cannot_be_read_now_falls_back_to_the_one_before(tmp_path, caplog, spoil) -> None:
    for value in (1, 2):
        save_checkpoint(tmp_path, state(value))
    spoil(tmp_path / "checkpoint.pt")
    assert load_checkpoint(tmp_path)["step"] == 1
    assert f"{tmp_path}/checkpoint.pt: Input/output error; falling back" in caplog.text
    save_checkpoint(tmp_path, state(3))
    spoil()
    assert load_checkpoint(tmp_path)["step"] == 3


@pytest.mark.parametrize("previous", ["none", "damaged", "unreadable"])
def test_nothing_begins_anew_while_one_may_be_read_later(tmp_path, spoil, previous) -> None:
    newest, before = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    save_checkpoint(tmp_path, state(1))
    if previous != "none":
        save_checkpoint(tmp_path, state(2))
    if previous == "damaged":
        before.write_bytes(truncate(before.read_bytes()))
    spoil(newest, *[before] * (previous == "unreadable"))
    with pytest.raises(StorageError, match="or remove it to pretrain from the start") as raised:
        load_checkpoint(tmp_path)
    assert f"cannot use {newest}: Input/output error" in str(raised.value)
    spoil()
    assert load_checkpoint(tmp_path)["step"] == (1 if previous == "none" else 2)


def test_a_damaged_one_hides_no_unreadable_one_before_it(tmp_path, spoil) -> None:
    for value in (1, 2):
        save_checkpoint(tmp_path, state(value))
    newest, before = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    newest.write_bytes(truncate(newest.read_bytes()))
    spoil(before)
    with pytest.raises(StorageError, match=r"checkpoint\.previous\.pt: Input/output error"):
        load_checkpoint(tmp_path)


def test_one_of_another_run_is_not_gone_on_from(tmp_path, caplog) -> None:
    for name, value in (("ours", 1), ("theirs", 2)):
        (tmp_path / name).mkdir()
        save_checkpoint(tmp_path / name, state(value))
    ours = tmp_path / "ours"
    os.replace(ours / "checkpoint.pt", ours / "checkpoint.previous.pt")
    shutil.copy(tmp_path / "theirs/checkpoint.pt", ours)
    assert load_checkpoint(ours)["step"] == 1
    assert "checkpoint.pt is damaged: it belongs to theirs/checkpoint" in caplog.text


def test_a_kill_at_any_moment_leaves_a_whole_one(tmp_path):
    program = (
        "import sys, itertools, torch\n"
        "from pathlib import Path\n"
        "from simclr_ablate.training.checkpoint import save_checkpoint\n"
        "for value in itertools.count(1):\n"
        "    save_checkpoint(Path(sys.argv[1]), {'step': value, 'w': torch.full((300000,), value)})\n"
        "    print(value, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(5):
        process.stdout.readline()
    time.sleep(0.013)
    os.kill(process.pid, signal.SIGKILL)
    last = max([5, *map(int, process.stdout.read().split())])
    process.wait()
    loaded = load_checkpoint(tmp_path)
    assert last <= loaded["step"] <= last + 1
    assert torch.equal(loaded["w"], torch.full((300000,), loaded["step"]))
