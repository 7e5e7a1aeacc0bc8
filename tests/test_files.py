"""Files that are whole or absent, and errors of the file system in words."""

import errno
import json
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from simclr_ablate.files import (
    StorageError,
    create_exclusively,
    read_json,
    storing,
    write_atomically,
    write_json,
)


def test_a_failed_write_leaves_the_file_before_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def fail(_: object) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        write_atomically(path, fail)
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("save", ["torch", "numpy", "plain"])
def test_a_full_disk_is_named_whatever_library_writes(tmp_path: Path, save: str) -> None:
    ways = {
        "torch": lambda file: torch.save({"a": torch.zeros(3_000_000)}, file),
        "numpy": lambda file: np.savez(file, a=np.zeros(3_000_000)),
        "plain": lambda file: file.write(bytes(12_000_000)),
    }
    path = tmp_path / "weights.pt"
    with limited(1_000_000), pytest.raises(StorageError, match=r"weights\.pt") as raised:
        write_atomically(path, ways[save])
    assert isinstance(raised.value.__cause__, OSError)
    assert "\n" not in str(raised.value)
    assert os.listdir(tmp_path) == []


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Inside, no file can become larger than `size` bytes: the system's own error, without a disk to fill."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    answer = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, answer)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "no permission"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_errors_of_the_system_become_one_line(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(StorageError) as raised, storing(tmp_path / "x", "store"):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "x") in str(raised.value)
    assert words in str(raised.value)
    assert "store=DIR" in str(raised.value)


def test_a_file_in_a_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(StorageError, match="is a file, not a folder"), storing(tmp_path / "runs/a"):
        (tmp_path / "runs/a").mkdir(parents=True)


def test_of_many_that_create_a_file_at_once_one_does(tmp_path: Path) -> None:
    start, made = threading.Barrier(8), []

    def create(number: int) -> None:
        start.wait()
        made.append(create_exclusively(tmp_path / "lease.1", str(number)))

    threads = [threading.Thread(target=create, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]
    assert os.listdir(tmp_path) == ["lease.1"]


def test_without_hard_links_a_file_is_created_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert create_exclusively(tmp_path / "lease.1", "a")
    assert not create_exclusively(tmp_path / "lease.1", "b")
    assert (tmp_path / "lease.1").read_text() == "a"
    assert os.listdir(tmp_path) == ["lease.1"]


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe", b"[" * 100_000])
def test_json_that_cannot_be_read_counts_as_absent_and_is_named_once(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert read_json(path) is None
    assert read_json(path) is None
    (record,) = caplog.records
    assert str(path) in record.getMessage()


def test_no_file_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "file/a.json") is None
    assert not caplog.records


def test_a_link_that_is_made_and_not_answered_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over NFS, where the request is sent again and finds the link that the first one made."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert create_exclusively(tmp_path / "lease.1", "a")
    assert not create_exclusively(tmp_path / "lease.1", "b")
    assert (tmp_path / "lease.1").read_text() == "a"


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_takes_the_place_of_none_that_appears_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:  # as on a file system without them

        def link(*paths: Path) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "study.zip"

    def write(file: BinaryIO) -> None:
        file.write(b"late")
        path.write_bytes(b"first")

    with pytest.raises(StorageError, match=r"study\.zip exists already"):
        write_atomically(path, write, replaces=False)
    assert path.read_bytes() == b"first"
    path.unlink()
    write_atomically(path, lambda file: file.write(b"alone"), replaces=False)
    assert path.read_bytes() == b"alone"
    assert os.listdir(tmp_path) == ["study.zip"]
