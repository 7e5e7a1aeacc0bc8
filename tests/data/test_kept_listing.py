"""The kept list of a folder: the same as a new one, without a look at each file, and never one of an earlier state."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simclr_ablate.config import ConfigError
from simclr_ablate.data import hashing, stamps, walk
from simclr_ablate.data.hashing import SAMPLED_FILES, hash_files
from simclr_ablate.data.kept_listing import fingerprint_streamed, list_streamed
from simclr_ablate.data.listing import Listing, list_images, tell_once
from simclr_ablate.data.sizes import data_sizes
from simclr_ablate.data.splits import open_data
from simclr_ablate.data.stamps import Moment, Stamp, moment_of
from simclr_ablate.plan.plan import complete_data
from simclr_ablate.schema import Data

Seen = tuple[Listing, str]


def _write(path: Path, content: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for name in ("train/cat/b.png", "train/cat/a.JPEG", "train/ant/deep/c.webp", "val/cat/d.gif"):
        _write(root / name, os.urandom(9))
    _write(root / "val/ant/\udce9.bmp")  # a name that is not UTF-8
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def soon_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stamps are relied on after a moment, so that tests need not wait."""
    monkeypatch.setattr(stamps, "SETTLED_SECONDS", 0.02)


def _settle() -> None:
    time.sleep(0.05)


def _seen(root: Path, cache: Path | None, on_error: str = "raise") -> Seen:
    fingerprint = fingerprint_streamed(root, on_error, cache)
    return list_streamed(root, on_error, cache).unpacked(), fingerprint


def _anew(root: Path, on_error: str = "raise") -> Seen:
    listing = list_images(root, "imagenet", on_error)
    return listing, hash_files(listing, on_error).fingerprint


class Looks:
    """Counts the folders that are walked through and the files whose contents are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.walked, self.hashed = 0, 0
        scandir, real_open = os.scandir, open

        def count_scandir(path: str) -> object:
            self.walked += 1
            return scandir(path)

        def count_open(*args: object) -> object:
            self.hashed += 1
            return real_open(*args)  # type: ignore[call-overload]

        monkeypatch.setattr(walk.os, "scandir", count_scandir)
        monkeypatch.setattr(hashing, "open", count_open, raising=False)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


def test_a_second_command_neither_walks_nor_reads(root: Path, cache: Path, looks: Looks) -> None:
    _settle()
    first = _seen(root, cache)
    assert first == _anew(root)
    looks.walked = looks.hashed = 0
    assert _seen(root, cache) == first
    assert (looks.walked, looks.hashed) == (0, 0)


def test_a_command_and_its_runs_share_the_list(root: Path, cache: Path, looks: Looks) -> None:
    data = Data("imagenet", str(root), 8, None, 1, "raise", 0, None, None)
    _settle()
    planned = complete_data(data, str(cache))
    looks.walked = looks.hashed = 0
    assert data_sizes(planned, str(cache)) == (2, 2, 2)
    splits = open_data(planned, cache, 0)
    assert list(map(len, splits[:3])) == [2, 1, 2]
    assert complete_data(data, str(cache)) == planned
    assert (looks.walked, looks.hashed) == (0, 0)
    assert planned.fingerprint == _anew(root)[1]


def test_arrays_hold_what_the_listing_does(root: Path, cache: Path) -> None:
    _settle()
    listing = list_images(root, "imagenet")
    for _ in range(2):
        packed = list_streamed(root, "raise", cache)
        for files, expected in ((packed.train, listing.train), (packed.test, listing.test)):
            names = [name.encode("utf-8", "surrogateescape") for name in expected.names]
            assert files.names.tolist() == names
            assert files.labels.tolist() == expected.labels
        assert packed.classes == listing.classes


def _add(root: Path) -> None:
    _write(root / "train/cat/more.png")


def _add_deep(root: Path) -> None:
    _write(root / "train/ant/deep/more.png")


def _rename(root: Path) -> None:
    (root / "train/cat/b.png").rename(root / "train/cat/z.png")


def _replace(root: Path) -> None:
    content = (root / "train/cat/b.png").read_bytes()
    _write(root / "new.png", content[::-1] + b"!")
    (root / "new.png").replace(root / "train/cat/b.png")


def _rewrite(root: Path) -> None:
    """Also with the time that it had."""
    path = root / "train/cat/b.png"
    before = path.stat()
    with open(path, "r+b") as file:
        file.write(bytes(9))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _backdate(root: Path) -> None:
    """Adds a file and gives its folder the time that it had, as unpacking an archive does."""
    before = (root / "train/cat").stat()
    _add(root)
    os.utime(root / "train/cat", ns=(before.st_atime_ns, before.st_mtime_ns))


def _swap_folder(root: Path) -> None:
    shutil.copytree(root / "train/cat", root / "cat")
    _write(root / "cat/more.png")
    shutil.rmtree(root / "train/cat")
    (root / "cat").rename(root / "train/cat")


CHANGES = {
    "added": _add,
    "added deep": _add_deep,
    "removed": lambda root: (root / "train/cat/b.png").unlink(),
    "renamed": _rename,
    "replaced": _replace,
    "rewritten": _rewrite,
    "backdated": _backdate,
    "new class": lambda root: _write(root / "train/dog/e.png"),
    "removed class": lambda root: shutil.rmtree(root / "val/ant"),
    "renamed class": lambda root: (root / "train/ant/deep").rename(root / "train/ant/deeper"),
    "other folder": _swap_folder,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_noticed(root: Path, cache: Path, change: Callable[[Path], object]) -> None:
    _settle()
    before = _seen(root, cache)
    change(root)
    after = _seen(root, cache)
    assert after == _anew(root)
    assert after != before
    _settle()
    assert [_seen(root, cache), _seen(root, cache)] == [after, after]


@pytest.mark.parametrize("through_link", [False, True])
def test_other_test_images_are_noticed(root: Path, cache: Path, through_link: bool) -> None:
    (root / "val").rename(root / "test")
    place = root.parent / "val" if through_link else root / "val"
    if through_link:
        (root / "val").symlink_to(place)
    _settle()
    before = _seen(root, cache)
    shutil.copytree(root / "test", place)
    after = _seen(root, cache)
    assert after[0].test.names[0].startswith("val/")
    assert after[1] != before[1]


def test_a_link_with_another_target_is_noticed(root: Path, cache: Path, tmp_path: Path) -> None:
    for number, names in enumerate((("a",), ("a", "b"))):
        for name in names:
            _write(tmp_path / f"dogs{number}/{name}.png")
    (root / "train/dog").symlink_to(tmp_path / "dogs0")
    (root / "train/cat/dogs").symlink_to(tmp_path / "through")
    (tmp_path / "through").symlink_to(tmp_path / "dogs0")
    _settle()
    counts = [list_streamed(root, "raise", cache).train.counts.tolist()]
    for link in (root / "train/dog", tmp_path / "through"):
        link.unlink()
        link.symlink_to(tmp_path / "dogs1")
        counts.append(list_streamed(root, "raise", cache).train.counts.tolist())
    _write(tmp_path / "dogs1/c.png")
    counts.append(list_streamed(root, "raise", cache).train.counts.tolist())
    assert counts == [[1, 3, 1], [1, 3, 2], [1, 4, 2], [1, 5, 3]]


@pytest.mark.parametrize("name", ["train/cat/e.png", "train/cat/e", "train/e"])
def test_what_becomes_of_a_linked_file_is_noticed(
    root: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also of one that the fingerprint does not read."""
    monkeypatch.setattr(hashing, "SAMPLED_FILES", 1)
    _write(tmp_path / "elsewhere/e")
    (root / name).symlink_to(tmp_path / "elsewhere/e")
    _settle()
    before = _seen(root, cache)
    _write(tmp_path / "elsewhere/e", b"longer")
    assert _seen(root, cache) == _anew(root)
    _settle()
    assert _seen(root, cache) == _anew(root)
    (tmp_path / "elsewhere/e").unlink()
    _write(tmp_path / "elsewhere/e/inner.png")
    after = _seen(root, cache)
    assert after == _anew(root)
    assert len(after[0].train.names) == len(before[0].train.names) + (not name.endswith(".png"))
    shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="a link that leads nowhere"):
        list_streamed(root, "raise", cache)


def test_another_root_behind_a_link_is_another_folder(
    root: Path, cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(root, tmp_path / "other")
    _add(tmp_path / "other")
    (tmp_path / "link").symlink_to(root)
    _settle()
    list_streamed(tmp_path / "link", "raise", cache)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "other")
    listing = list_streamed(tmp_path / "link", "raise", cache)
    assert listing.root == tmp_path / "link"
    assert len(listing.train.names) == 4


def test_only_sampled_files_are_looked_at(root: Path, cache: Path) -> None:
    """What the documentation says is not noticed: another content in a file that is not read."""
    for number in range(SAMPLED_FILES + SAMPLED_FILES // 2):
        _write(root / f"train/cat/{number:04}.png")
    _settle()
    before, noticed = _seen(root, cache)[1], 0
    for number in range(15):
        path = root / f"train/cat/{number:04}.png"
        path.write_bytes(b"longer")
        noticed += fingerprint_streamed(root, "raise", cache) != before
        path.write_bytes(b"x")
        _settle()
        assert fingerprint_streamed(root, "raise", cache) == before
    assert 9 <= noticed <= 11
    (root / "train/cat/0001.png").write_bytes(b"longer")
    (root / "train/cat/0002.png").write_bytes(b"longer")
    shutil.rmtree(cache)
    assert fingerprint_streamed(root, "raise", cache) == _anew(root)[1] != before


def test_what_has_just_changed_is_not_kept(
    root: Path, cache: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    for part in (root, root / "train/cat/b.png"):
        assert not list_streamed(root, "raise", cache).state
        os.utime(part)
    assert not list((cache / "listings").iterdir())


def test_a_list_is_kept_without_the_fingerprint_of_a_recent_file(
    root: Path, cache: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    _settle()
    assert list_streamed(root, "raise", cache).state
    monkeypatch.setattr(stamps, "SETTLED_SECONDS", 60)
    for _ in range(2):
        looks.walked = looks.hashed = 0
        fingerprint_streamed(root, "raise", cache)
        assert (looks.walked, looks.hashed) == (0, 5)


def test_another_clock_may_be_a_minute_behind(tmp_path: Path) -> None:
    moment = moment_of(tmp_path)
    assert moment.time == pytest.approx(time.time_ns(), abs=5 * 10**9)
    assert not list(tmp_path.iterdir())

    def stamp(device: int, seconds: float) -> Stamp:
        return Stamp(device, 1, 1, 0, moment.time - int(seconds * 10**9))

    for device, settled, recent in ((moment.device, 3, 0.01), (moment.device + 1, 61, 59)):
        assert moment.follows([stamp(device, settled)] * 2)
        assert not moment.follows([stamp(device, settled), stamp(device, recent)])
    modified_later = Stamp(moment.device, 1, 1, moment.time + 10**9, 0)
    assert not Moment(*moment).follows([modified_later])


@pytest.mark.parametrize("what", ["files", "fingerprint"])
def test_a_damaged_entry_is_made_again(root: Path, cache: Path, what: str, caplog) -> None:
    _settle()
    expected = _seen(root, cache)
    (path,) = (cache / "listings").glob(f"*.{what}")
    whole = path.read_bytes()
    draw = np.random.default_rng()
    damaged = [b"", whole[: len(whole) // 2], whole + b"x", os.urandom(len(whole))]
    for place in draw.integers(0, len(whole), 20):
        damaged.append(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    for content in damaged:
        path.write_bytes(content)
        assert _seen(root, cache) == expected
        assert path.read_bytes() != content
    assert f"{path} cannot be read and counts as absent: its digest does not match" in caplog.text


def test_an_entry_that_is_a_folder_gives_way(root: Path, cache: Path) -> None:
    _settle()
    expected = _seen(root, cache)
    for path in list((cache / "listings").iterdir()):
        path.unlink()
        path.mkdir()
    assert [_seen(root, cache), _seen(root, cache)] == [expected, expected]
    assert list_streamed(root, "raise", cache).state


def test_a_cache_that_cannot_be_made_is_no_error(root: Path, tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("no folder")
    _settle()
    tell_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert _seen(root, tmp_path / "file") == _anew(root)
    assert caplog.text.count("its files are listed again by the next command: cannot use ") == 1


def test_a_closed_cache_is_no_error() -> None:
    """In a process that is not root's, for which no folder is closed."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o755)
        for split in ("train", "val"):
            _write(place / f"images/{split}/a/0.png")
        (place / "cache/listings").mkdir(parents=True)
        code = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from simclr_ablate.data.kept_listing import fingerprint_streamed\n"
            "if os.geteuid() == 0: os.setuid(65534)\n"
            "os.chmod(sys.argv[2], 0o500) if os.stat(sys.argv[2]).st_uid == os.geteuid() else 0\n"
            "print(fingerprint_streamed(sys.argv[1], 'raise', Path(sys.argv[2]).parent))"
        )
        command = [sys.executable, "-c", code, f"{folder}/images", f"{folder}/cache/listings"]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        (place / "cache/listings").chmod(0o755)
        assert ended.stdout.strip() == _anew(place / "images")[1]
    assert "no permission" in ended.stderr


def test_what_was_left_out_is_told_from_the_cache_too(root: Path, cache: Path, caplog) -> None:
    _write(root / "train/cat/notes.txt")
    _write(root / "train/note.pdf")
    _settle()
    for _ in range(2):
        caplog.clear()
        tell_once.cache_clear()
        with caplog.at_level(logging.WARNING):
            assert list_streamed(root, "raise", cache).state
        assert "left out 1 file of other kinds: 1 .txt" in caplog.text
        assert "left out 1 file in no class's folder" in caplog.text


def test_each_way_with_errors_has_its_own_list(root: Path, cache: Path) -> None:
    _write(root / "train/yak/a.heic")
    _settle()
    assert list_streamed(root, "skip", cache).state
    with pytest.raises(ConfigError, match="train/yak"):
        list_streamed(root, "raise", cache)


def test_a_folder_with_something_unreadable_is_listed_each_time(root: Path, cache: Path) -> None:
    (root / "train/cat/e.png").symlink_to(root.parent / "later.png")
    _settle()
    before = _seen(root, cache, "skip")
    _write(root.parent / "later.png")
    after = _seen(root, cache, "skip")
    assert len(after[0].train.names) == len(before[0].train.names) + 1
    assert after == _anew(root, "skip")
