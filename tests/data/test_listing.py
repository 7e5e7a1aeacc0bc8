"""Listing a folder of images: what counts as one, in what order, and what is refused."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from simclr_ablate.config import ConfigError
from simclr_ablate.data.hashing import SAMPLED_BYTES, SAMPLED_FILES, hash_files
from simclr_ablate.data.listing import Listing, list_images


def _touch(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * (number + 1))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _touch(tmp_path, "train/cat/b.png", "train/cat/a.JPEG", "train/ant/deep/c.webp")
    _touch(tmp_path, "test/cat/d.gif", "test/ant/e.bmp")
    return tmp_path


def test_images_are_listed_by_class_and_name(root: Path) -> None:
    _touch(root, "train/cat/notes.txt", "train/cat/.hidden.png", "train/.git/x.png")
    (root / "train" / "empty").mkdir()
    listing = list_images(root)
    assert listing.classes == ["ant", "cat"]
    assert listing.train.names == ["train/ant/deep/c.webp", "train/cat/a.JPEG", "train/cat/b.png"]
    assert listing.train.labels == [0, 1, 1]
    assert listing.test == (["test/ant/e.bmp", "test/cat/d.gif"], [0, 1])


def test_a_class_without_test_images_keeps_its_label(root: Path) -> None:
    shutil.rmtree(root / "test" / "ant")
    assert list_images(root).test == (["test/cat/d.gif"], [1])


def test_imagenet_may_call_its_test_images_val(root: Path) -> None:
    (root / "test").rename(root / "val")
    assert list_images(root, "imagenet").test.names == ["val/ant/e.bmp", "val/cat/d.gif"]
    with pytest.raises(ConfigError, match="has no folder test/"):
        list_images(root)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"data\.root must be a folder that holds train/<class>/\* .*, got '.*'"),
        (lambda root: shutil.rmtree(root / "train"), "which has no folder train/"),
        (lambda root: shutil.rmtree(root / "test"), "which has no folder test/"),
        (lambda root: shutil.rmtree(root / "train" / "ant"), "train/ has no images of ant"),
        (
            lambda root: [path.unlink() for path in root.glob("test/*/*")],
            "test/ holds no images",
        ),
    ],
)
def test_a_folder_that_lacks_something_is_refused(root: Path, spoil, message: str) -> None:
    spoil(root)
    with pytest.raises(ConfigError, match=message) as caught:
        list_images(root)
    assert str(root) in str(caught.value)


@pytest.mark.parametrize("where", ["train/cat", "train/ant/deep", "test", "train"])
def test_folders_that_systems_make_are_none(root: Path, where: str) -> None:
    before = list_images(root)
    for name in ("@eaDir", "__MACOSX", "lost+found", ".thumbnails"):
        _touch(root, f"{where}/{name}/b.png", f"{where}/{name}/SYNOFILE_THUMB_M.jpg")
    _touch(root, f"{where}/Thumbs.db", f"{where}/desktop.ini", f"{where}/._b.png")
    assert list_images(root) == before


def _told(root: Path, caplog, on_error: str = "raise") -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        list_images(root, on_error=on_error)
    return caplog.text


def test_what_is_left_out_is_counted_by_ending_and_told_once(root: Path, caplog) -> None:
    _touch(root, "train/cat/a.heic", "train/ant/b.HEIC", "test/cat/c", "train/note.pdf")
    _touch(root, "train/cat/page.pdf")
    (root / "train" / "empty").mkdir()
    told = _told(root, caplog)
    assert "left out 4 files of other kinds: 2 .heic, 1 .pdf, 1 without an ending" in told
    assert "left out 1 file in no class's folder" in told
    assert "left out folders without images: train/empty" in told
    assert _told(root, caplog) == ""
    _touch(root, "train/cat/more.heic")
    assert "3 .heic" in _told(root, caplog)


def test_a_class_of_unknown_files_is_refused_or_told(root: Path, caplog) -> None:
    _touch(root, "train/yak/deep/a.heic", "train/yak/b.heic", "train/yak/c")
    expected = r"data\.root must .*train/yak, which has 3 files of other kinds: 2 \.heic, 1 without"
    with pytest.raises(ConfigError, match=expected):
        list_images(root)
    assert "left out folders without images: train/yak" in _told(root, caplog, "skip")
    assert list_images(root, on_error="skip").classes == ["ant", "cat"]
    shutil.rmtree(root / "train/yak")
    _touch(root, "test/yak/a.heic")
    with pytest.raises(ConfigError, match="test/yak"):
        list_images(root)


def _dangling(place: Path) -> None:
    place.symlink_to("/nonexistent/x.png")


def _own_circle(place: Path) -> None:
    place.symlink_to(place.name)


def _socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, tempfile.TemporaryDirectory() as folder:
        server.bind(f"{folder}/s")  # where its name is short enough
        shutil.move(f"{folder}/s", place)


@pytest.mark.parametrize("name", ["x.png", "x"])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_dangling, "a link that leads nowhere"),
        (_own_circle, "Too many levels of symbolic links"),
        (lambda place: place.symlink_to(".."), "a link to a folder that holds it"),
        (lambda place: place.symlink_to("/"), "a link to a folder that holds it"),
        (os.mkfifo, "not a regular file"),
        (_socket, "not a regular file"),
    ],
)
@pytest.mark.parametrize("kind", ["image_folder", "imagenet"])
def test_what_is_no_regular_file_is_named_or_left_out(
    root: Path, caplog, make, reason: str, name: str, kind: str
) -> None:
    before = list_images(root).train
    make(root / "train" / "cat" / name)
    with pytest.raises(ConfigError, match=rf"/{name}: .*{reason}; .*on_error=skip") as caught:
        list_images(root, kind)
    assert "\n" not in str(caught.value)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        after = list_images(root, kind, on_error="skip").train
    assert after == before
    assert "that cannot be read: " in caplog.text
    assert reason in caplog.text


def test_folders_that_link_to_each_other_end(root: Path) -> None:
    (root / "train/cat/ants").symlink_to(root / "train/ant")
    assert list_images(root).train.labels == [0, 1, 1, 1]
    (root / "train/ant/cats").symlink_to(root / "train/cat")
    with pytest.raises(ConfigError, match="/ants: a link to a folder that holds it"):
        list_images(root)
    assert list_images(root, on_error="skip").train.labels == [0, 0, 0, 1, 1, 1]


def test_links_to_folders_and_files_elsewhere_are_followed(root: Path, tmp_path_factory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    _touch(elsewhere, "dogs/d.png", "e.png")
    (root / "train" / "dog").symlink_to(elsewhere / "dogs")
    (root / "train" / "cat" / "dogs").symlink_to(elsewhere / "dogs")
    (root / "train" / "cat" / "e.png").symlink_to(elsewhere / "e.png")
    names = list_images(root).train.names
    assert {"train/dog/d.png", "train/cat/dogs/d.png", "train/cat/e.png"} < set(names)


def test_a_folder_that_is_closed_to_us_is_named_or_left_out() -> None:
    """In a process that is not root's, for which no folder is closed."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        _touch(root, "train/cat/a.png", "train/cat/shut/b.png", "test/cat/c.png")
        (root / "train/cat/shut").chmod(0)
        code = (
            "import os, sys\n"
            "from simclr_ablate.data.listing import list_images\n"
            "if os.geteuid() == 0: os.setuid(65534)\n"
            "print(list_images(sys.argv[1], on_error=sys.argv[2]).train.names)"
        )
        command = [sys.executable, "-c", code, folder]
        refused, skipped = (
            subprocess.run([*command, on_error], capture_output=True, text=True)
            for on_error in ("raise", "skip")
        )
        (root / "train/cat/shut").chmod(0o755)
    assert "train/cat/shut: Permission denied; repair or remove" in refused.stderr
    assert skipped.stdout == "['train/cat/a.png']\n"


def _hash(root: Path) -> str:
    return hash_files(list_images(root, "imagenet")).fingerprint


def test_the_fingerprint_is_of_names_sizes_and_contents(root: Path, tmp_path_factory) -> None:
    before = _hash(root)
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(root, copy)
    os.utime(copy / "train/cat/b.png", (1, 1))
    assert _hash(copy) == before
    content = (copy / "train/cat/b.png").read_bytes()
    (copy / "train/cat/b.png").write_bytes(b"y" * len(content))
    rewritten = _hash(copy)
    (copy / "train/cat/b.png").write_bytes(b"longer")
    resized = _hash(copy)
    (copy / "train/cat/b.png").rename(copy / "train/cat/z.png")
    renamed = _hash(copy)
    (copy / "test/ant/e.bmp").unlink()
    assert len({before, rewritten, resized, renamed, _hash(copy)}) == 5


def test_the_fingerprint_reads_a_sample_of_large_folders(tmp_path: Path) -> None:
    count = SAMPLED_FILES + SAMPLED_FILES // 2
    _touch(tmp_path, *(f"train/a/{number:04}.png" for number in range(count)), "test/a/x.png")
    before, changed = _hash(tmp_path), 0
    for number in range(0, 100):
        path = tmp_path / f"train/a/{number:04}.png"
        content = path.read_bytes()
        path.write_bytes(b"y" * len(content))
        changed += _hash(tmp_path) != before
        path.write_bytes(content)
    assert 60 <= changed <= 73
    assert SAMPLED_BYTES >= 2**20


def test_a_file_that_is_gone_is_named_or_left_out(root: Path) -> None:
    listing: Listing = list_images(root)
    (root / "train/cat/b.png").unlink()
    with pytest.raises(ConfigError, match=r"train/cat/b\.png: No such file"):
        hash_files(listing)
    left = hash_files(list_images(root), "skip")
    assert hash_files(listing, "skip") == (left.fingerprint, None)


def test_listing_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.root must be a folder"):
        list_images(tmp_path / "missing")
