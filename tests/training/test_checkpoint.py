"""Checkpoints: whole or absent, and the one before where the newest is damaged."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

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
