"""A folder of images through its cache: right, decoded once, honest about what can't be read."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ablate.config import ConfigError
from simclr_ablate.data import decoding
from simclr_ablate.data.decode import read_square
from simclr_ablate.data.image_folder import count_image_folder, make_image_folder, open_image_folder
from simclr_ablate.data.listing import tell_once
from simclr_ablate.data.sizes import data_sizes
from simclr_ablate.data.splits import open_data
from simclr_ablate.files import StorageError
from simclr_ablate.plan.plan import complete_data
from simclr_ablate.schema import Data

CLASSES = ["ant", "bee", "cat"]


def write_images(root: Path, per_class: int, ending: str = "png", seed: int = 0) -> None:
    draw = np.random.default_rng(seed)
    for split in ("train", "test"):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(per_class):
                height, width = draw.integers(9, 30, 2)
                pixels = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.{ending}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 4)
    return tmp_path / "images"


def test_the_images_are_those_of_the_files(root: Path, tmp_path: Path) -> None:
    train, test = open_image_folder(root, 12, "raise", tmp_path / "cache", 0)
    assert train.classes == test.classes == CLASSES
    assert train.labels.tolist() == test.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for images, split in ((train, "train"), (test, "test")):
        expected = [read_square(path, 12) for path in sorted((root / split).glob("*/*"))]
        assert np.array_equal(images.images.numpy(), np.stack(expected))


def test_several_processes_decode_the_same(root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("simclr_ablate.data.decoding._FILES_PER_TASK", 3)
    one, _ = open_image_folder(root, 12, "raise", tmp_path / "one", 0)
    two, _ = open_image_folder(root, 12, "raise", tmp_path / "two", 2)
    assert torch.equal(one.images, two.images)


def test_a_folder_is_decoded_and_counted_when_it_is_planned(root: Path, tmp_path: Path) -> None:
    cache, own = tmp_path / "cache", {"on_error": "skip", "limit": None, "seed": 0, "label": None}
    (root / "train/bee/2.png").write_bytes(b"not an image")
    data = Data(name="image_folder", root=str(root), size=12, validation=3, fingerprint=None, **own)
    planned = complete_data(data, str(cache))
    assert planned.label == "images"
    assert planned.fingerprint == make_image_folder(root, 12, "skip", cache)
    shutil.rmtree(root)
    assert data_sizes(planned, cache=str(cache)).pretraining == 11 - 3
    train, validation, test, _ = open_data(planned, cache, 0)
    assert (len(train), len(validation), len(test)) == (8, 3, 12)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that this process decodes, as they are decoded."""
    names: list[str] = []
    decode = decoding.decode_rows

    def note(root: Path, some: list[str], *rest: object) -> object:
        names.extend(some)
        return decode(root, some, *rest)

    monkeypatch.setattr(decoding, "decode_rows", note)
    return names


def test_nothing_is_decoded_twice(root: Path, tmp_path: Path, decoded: list[str]) -> None:
    cache = tmp_path / "cache"
    fingerprint = make_image_folder(root, 12, "raise", cache)
    assert len(decoded) == 24
    assert make_image_folder(root, 12, "raise", cache) == fingerprint
    open_image_folder(root, 12, "raise", cache)
    open_image_folder(tmp_path / "gone", 12, "raise", cache, None, fingerprint)
    assert len(decoded) == 24
    assert count_image_folder(12, fingerprint, cache) == [4, 4, 4]
    assert make_image_folder(root, 8, "raise", cache) != fingerprint
    assert len(decoded) == 48
    assert open_image_folder(root, 8, "raise", cache)[0].images.shape[-2:] == (8, 8)


def _invert(path: Path) -> None:
    """Other pixels in a file of the same size; Path.write_bytes changes its times."""
    image = Image.open(path)
    Image.fromarray(255 - np.asarray(image)).save(path)


@pytest.mark.parametrize("ending", ["bmp", "png"])
def test_a_changed_file_is_decoded_again_and_no_other(
    tmp_path: Path, decoded: list[str], ending: str
) -> None:
    root, cache = tmp_path / "images", tmp_path / "cache"
    write_images(root, 4, ending)
    before = make_image_folder(root, 12, "raise", cache)
    (old, old_test), path = (
        open_image_folder(root, 12, "raise", cache),
        root / f"train/bee/1.{ending}",
    )
    stamp = path.stat()
    del decoded[:]
    _invert(path)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # the time of change is not to be set
    after = make_image_folder(root, 12, "raise", cache)
    new, new_test = open_image_folder(root, 12, "raise", cache)
    assert decoded == [f"train/bee/1.{ending}"]
    assert after != before
    assert not torch.equal(new.images[5], old.images[5])
    kept = [row for row in range(12) if row != 5]
    assert torch.equal(new.images[kept], old.images[kept])
    assert torch.equal(new_test.images, old_test.images)
    same, _ = open_image_folder(root, 12, "raise", cache, None, before)
    assert torch.equal(same.images, old.images)
    _invert(path)
    assert make_image_folder(root, 12, "raise", cache) == before


def test_files_that_come_and_go_cost_themselves(
    root: Path, tmp_path: Path, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"
    make_image_folder(root, 12, "raise", cache)
    del decoded[:]
    (root / "train/ant/0.png").unlink()
    Image.new("RGB", (20, 30), "red").save(root / "train/bee/11.png")
    (root / "train/bee/broken.png").write_bytes(b"")
    train, _ = open_image_folder(root, 12, "skip", cache)
    assert sorted(decoded) == ["train/bee/11.png", "train/bee/broken.png"]
    names = [path for path in sorted(root.glob("train/*/*")) if path.name != "broken.png"]
    assert np.array_equal(train.images.numpy(), np.stack([read_square(path, 12) for path in names]))
    assert train.labels.tolist() == [0] * 3 + [1] * 5 + [2] * 4
    del decoded[:]
    (root / "train/bee/broken.png").unlink()
    again, _ = open_image_folder(root, 12, "raise", cache)
    assert decoded == []
    assert torch.equal(train.images, again.images)


def test_the_fingerprint_is_of_pixels_classes_and_order(root: Path, tmp_path: Path) -> None:
    def fingerprint(place: Path, size: int = 12, on_error: str = "raise") -> str:
        return make_image_folder(place, size, on_error, tmp_path / "cache")

    before, copy = fingerprint(root), tmp_path / "copy"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)
    assert fingerprint(copy) == before
    (copy / "train/ant/3.png").rename(copy / "train/ant/4.png")
    Image.open(copy / "test/bee/1.png").save(copy / "test/bee/1.png", compress_level=0)
    assert fingerprint(copy) == before
    (copy / "train/ant/broken.png").write_bytes(b"no image")
    assert fingerprint(copy, on_error="skip") == before
    (copy / "train/ant/broken.png").unlink()
    seen = {before, fingerprint(copy, 13)}
    for number, change in enumerate(
        [
            lambda: _invert(copy / "test/cat/2.png"),
            lambda: (copy / "train/ant/4.png").rename(copy / "train/ant/00.png"),
            lambda: (copy / "train/ant/00.png").rename(copy / "train/bee/00.png"),
            lambda: (copy / "train/bee/00.png").rename(copy / "test/bee/00.png"),
            lambda: [
                (copy / split / "cat").rename(copy / split / "cow") for split in ("train", "test")
            ],
        ],
        start=3,
    ):
        change()
        seen.add(fingerprint(copy))
        assert len(seen) == number


def test_planning_needs_no_torch(root: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from simclr_ablate.data.image_folder import make_image_folder\n"
        "from simclr_ablate.data.image_folder import count_image_folder\n"
        "made = make_image_folder(sys.argv[1], 12, 'raise', Path(sys.argv[2]))\n"
        "count_image_folder(12, made, Path(sys.argv[2]))\n"
        "sys.exit('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(root), str(tmp_path / "cache")]
    assert subprocess.run(command).returncode == 0


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
@pytest.mark.parametrize("change", ["bit", "gone"])
def test_a_damaged_set_is_decoded_again_or_refused(
    root: Path, tmp_path: Path, caplog, name: str, change: str
) -> None:
    cache = tmp_path / "cache"
    fingerprint = make_image_folder(root, 12, "raise", cache)
    opened, _ = open_image_folder(root, 12, "raise", cache, 0, fingerprint)
    images, labels = opened.images.clone(), opened.labels

    def harm() -> None:
        (path,) = cache.rglob(f"train/{name}")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 16
        path.write_bytes(content) if change == "bit" else path.unlink()

    harm()
    with caplog.at_level(logging.WARNING):
        after, _ = open_image_folder(root, 12, "raise", cache, 0, fingerprint)
    assert f"is damaged and is made again: train/{name}" in caplog.text
    assert torch.equal(after.images, images)
    assert torch.equal(after.labels, labels)
    harm()
    if (change, name) != ("bit", "images.npy"):  # of which planning looks at the size
        assert make_image_folder(root, 12, "raise", cache) == fingerprint
        harm()
    _invert(root / "train/bee/1.png")
    with pytest.raises(ConfigError, match="have changed since the run was planned"):
        open_image_folder(root, 12, "raise", cache, 0, fingerprint)
    root.rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"data\.root must be a folder that holds"):
        open_image_folder(root, 12, "raise", cache, 0, fingerprint)


def test_a_table_that_is_damaged_costs_a_decoding(
    root: Path, tmp_path: Path, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"
    fingerprint = make_image_folder(root, 12, "raise", cache)
    (table,) = cache.glob("folders/*.json")
    for content in ("{", "null", "{}", "[1]", '{"fingerprint": 1, "files": 2, "unreadable": 3}'):
        table.write_text(content)
        assert make_image_folder(root, 12, "raise", cache) == fingerprint
    assert len(decoded) == 6 * 24


def test_a_full_disk_is_one_line(root: Path, tmp_path: Path, small_disk: Path) -> None:
    for size, filled in ((300, 0), (90, 600_000)):
        (small_disk / "filler").write_bytes(bytes(filled))
        with pytest.raises(StorageError, match=r"cannot write .*: the disk is full .* cache=DIR"):
            make_image_folder(root, size, "raise", small_disk, 2)
        assert list(small_disk.rglob("images*")) == []


@pytest.mark.slow
def test_a_process_that_is_killed_is_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_FILES_PER_TASK", 2)
    monkeypatch.setattr(decoding, "serve_parent", _die)
    with pytest.raises(ConfigError, match=r"a process that decodes .* was killed, perhaps because"):
        make_image_folder(root, 12, "raise", tmp_path / "cache", 2)


def _die() -> None:
    """In a worker: as the system ends the greediest where memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_unreadable_file_stops_with_its_path(root: Path, tmp_path: Path) -> None:
    (root / "train/bee/2.png").write_bytes(b"not an image")
    with pytest.raises(ConfigError, match=r"data\.root must .*train/bee/2\.png: .*on_error=skip"):
        open_image_folder(root, 12, "raise", tmp_path / "cache", 0)


def test_an_unreadable_file_is_skipped_and_counted(root: Path, tmp_path: Path, caplog) -> None:
    whole, _ = open_image_folder(root, 12, "raise", tmp_path / "whole", 0)
    (root / "train/bee/2.png").write_bytes(b"not an image")
    for _ in range(2):  # decoded, then from the cache
        caplog.clear()
        tell_once.cache_clear()
        with caplog.at_level(logging.WARNING):
            train, test = open_image_folder(root, 12, "skip", tmp_path / "cache", 0)
        assert "left out 1 unreadable images of 24" in caplog.text
        kept = [row for row in range(12) if row != 6]
        assert torch.equal(train.images, whole.images[kept])
        assert torch.equal(train.labels, whole.labels[kept])
        assert len(test) == 12
    with pytest.raises(ConfigError, match=r"train/bee/2\.png"):
        open_image_folder(root, 12, "raise", tmp_path / "cache", 0)


def test_a_file_that_can_be_read_again_counts_again(root: Path, tmp_path: Path) -> None:
    """As after an error of a network's file system, which changes no file."""
    before = make_image_folder(root, 12, "raise", tmp_path / "whole")
    path = root / "train/bee/2.png"
    content, stamp = path.read_bytes(), path.stat()
    path.write_bytes(b"no image".ljust(len(content)))
    without, cache = make_image_folder(root, 12, "skip", tmp_path / "cache"), tmp_path / "cache"
    path.write_bytes(content)
    (table,) = cache.glob("folders/*.json")
    known = json.loads(table.read_text())
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    again = path.stat()
    known["files"]["train/bee/2.png"] = [again.st_size, again.st_mtime_ns, again.st_ctime_ns]
    table.write_text(json.dumps(known))
    assert make_image_folder(root, 12, "raise", cache) == before != without


def test_names_that_are_no_text_do_no_harm(root: Path, tmp_path: Path, caplog) -> None:
    folder = os.fsencode(root / "train/ant")
    for name in (b"\xff\xfe.png", b"a\nb.png", "ä, ß.png".encode()):
        shutil.copy(root / "train/ant/0.png", os.path.join(folder, name))
    Path(os.fsdecode(os.path.join(folder, b"\xfd\n.png"))).write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        made = make_image_folder(root, 12, "skip", tmp_path / "cache")
    assert r"\udcfd\n.png: " in caplog.text
    assert count_image_folder(12, made, tmp_path / "cache") == [7, 4, 4]
    assert make_image_folder(root, 12, "skip", tmp_path / "cache") == made


def test_a_folder_of_unreadable_files_is_refused(root: Path, tmp_path: Path) -> None:
    for path in root.glob("test/*/*"):
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"data\.root must hold images that can be read"):
        open_image_folder(root, 12, "skip", tmp_path / "cache", 0)


def test_decoding_killed_halfway_ends_its_workers_and_is_done_again(
    root: Path, tmp_path: Path, kill_session
) -> None:
    cache = tmp_path / "cache"
    Image.new("1", (12_000, 12_000)).save(root / "train/bee/large.png")  # takes a second to decode
    for number in range(100):
        os.link(root / "train/bee/large.png", root / f"train/bee/large{number}.png")
    script = tmp_path / "open.py"
    script.write_text(
        "import simclr_ablate.data.decoding as decoding\n"
        "import simclr_ablate.data.image_folder as folder\n"
        "decoding._FILES_PER_TASK = 4\n"
        "if __name__ == '__main__':\n"
        f"    folder.open_image_folder({str(root)!r}, 12, 'raise', folder.Path({str(cache)!r}), 2)"
    )
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    kill_session(process, members=3)
    for path in root.glob("train/bee/large*"):
        path.unlink()
    assert list(cache.rglob("images-*")) == []
    train, _ = open_image_folder(root, 12, "raise", cache, 0)
    assert len(train) == 12


@pytest.mark.parametrize("name", ["pets3", "dtd10", "flowers12"])
def test_real_images_are_read(name: str, tmp_path: Path) -> None:
    folder = os.environ.get("SIMCLR_ABLATE_TEST_DATA")
    if folder is None:
        pytest.skip("SIMCLR_ABLATE_TEST_DATA, a folder of extracted data sets, is not set")
    root = Path(folder) / name
    if not root.is_dir():
        pytest.skip(f"SIMCLR_ABLATE_TEST_DATA holds no {name}")
    train, test = open_image_folder(root, 24, "raise", tmp_path, 0)
    files = sorted((root / "train").glob("*/*"))
    assert len(train) == len(files)
    for index in (0, len(files) // 2, len(files) - 1):
        assert np.array_equal(train.images[index].numpy(), read_square(files[index], 24))
        assert train.classes[train.labels[index]] == files[index].parent.name
    assert test.labels.bincount(minlength=len(test.classes)).min() > 0
