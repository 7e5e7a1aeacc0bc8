"""A data set of the user's own: split as ours are, kept in the cache, known by its pixels and labels."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simclr_ablate.config import ConfigError
from simclr_ablate.data.own_sets import make_own
from simclr_ablate.data.sizes import data_sizes
from simclr_ablate.data.splits import open_data
from simclr_ablate.plan.plan import complete_data
from simclr_ablate.schema import Data

OWN = """
from pathlib import Path
import torch
from simclr_ablate.data.in_memory import ImageSet

CALLS = []
CLASSES = ["a", "b", "c"]

def random(data, n=90):
    CALLS.append(data)
    drawn = torch.Generator().manual_seed(data.seed)
    images = torch.randint(256, (n, 3, data.size, data.size), dtype=torch.uint8, generator=drawn)
    return ImageSet(images, torch.arange(n) % 3, CLASSES)

def plain(data):
    whole = random(data)
    return whole.subset(range(60)), whole.subset(range(60, 90))

def with_unlabelled(data):
    more = random(data, 200)
    return *plain(data), ImageSet(more.stored, torch.full((200,), -1), CLASSES)

def rooted(data):
    assert Path(data.root, "here").exists()
    return plain(data)

def alone(data):
    return plain(data)[0]

def tensors(data):
    return [each.stored for each in plain(data)]

def small(data):
    train, test = plain(data)
    return train, ImageSet(test.images[..., 1:], test.labels, CLASSES)

def beyond(data):
    train, test = plain(data)
    return ImageSet(train.images, train.labels + 1, CLASSES), test

def unlike(data):
    train, test = plain(data)
    return train, ImageSet(test.images, test.labels, CLASSES[:2])

def halves(data):
    train, test = plain(data)
    return ImageSet(train.images, train.labels.float(), CLASSES), test

def empty(data):
    train, test = plain(data)
    return train, ImageSet(test.images[:0], test.labels[:0], CLASSES)

def labelled(data):
    return *plain(data), plain(data)[0]

def floats(data):
    train, test = plain(data)
    return ImageSet(train.images.float(), train.labels, CLASSES), test
"""


@pytest.fixture
def make_data(own_module: Callable[[str], str]) -> Callable[..., Data]:
    """`make_data(function, key=value)`: the section of a config that names a function of OWN."""
    mine = own_module(OWN)

    def build(function: str, **changes: object) -> Data:
        data = Data(f"{mine}:{function}", None, 8, None, 9, "raise", 3, None, None)
        return dataclasses.replace(data, **changes)  # type: ignore[arg-type]

    return build


def calls(data: Data) -> list[Data]:
    """What the functions of OWN were called with."""
    import importlib

    return importlib.import_module(data.name.partition(":")[0]).CALLS


def test_it_is_made_once_and_split_as_ours_are(
    make_data: Callable[..., Data], tmp_path: Path
) -> None:
    data = complete_data(make_data("plain", limit=30), str(tmp_path))
    assert (data.label, len(data.fingerprint or "")) == ("plain", 16)
    train, validation, test, unlabelled = open_data(data, tmp_path, 0)
    assert len(calls(data)) == 1
    assert unlabelled is None
    assert data_sizes(data, cache=str(tmp_path)).pretraining == len(train) == 30
    assert validation.labels.bincount().tolist() == [3, 3, 3]
    drawn = torch.Generator().manual_seed(3)
    images = torch.randint(256, (90, 3, 8, 8), dtype=torch.uint8, generator=drawn)
    assert torch.equal(test.images, images[60:])
    rows = torch.cat([train.rows_of(torch.arange(30)), validation.rows_of(torch.arange(9))])
    assert len(rows.unique()) == 39
    assert torch.equal(torch.cat([train.images, validation.images]), images[:60][rows])
    assert torch.equal(torch.cat([train.labels, validation.labels]), rows % 3)


def test_unlabelled_images_are_for_pretraining(
    make_data: Callable[..., Data], tmp_path: Path
) -> None:
    data = complete_data(make_data("with_unlabelled", limit=120), str(tmp_path))
    splits = open_data(data, tmp_path, 0)
    assert splits.unlabelled is not None
    assert data_sizes(data, cache=str(tmp_path)).pretraining == len(splits.unlabelled) == 120
    assert data_sizes(data, cache=str(tmp_path)).labelled == len(splits.train) == 51
    with pytest.raises(ConfigError, match=r"data\.limit must be <= 200"):
        open_data(dataclasses.replace(data, limit=201), tmp_path, 0)


def test_it_is_known_by_its_pixels_and_labels(
    make_data: Callable[..., Data], own_module: Callable[[str], str], tmp_path: Path
) -> None:
    data = make_data("plain")
    fingerprint = make_own(data, tmp_path)
    assert make_own(dataclasses.replace(data, limit=5), tmp_path) == fingerprint
    assert (
        make_own(dataclasses.replace(data, name=f"{own_module(OWN)}:plain"), tmp_path)
        == fingerprint
    )
    others = [
        OWN.replace("arange(n) % 3", "arange(n).flip(0) % 3"),
        OWN.replace('"c"]', '"d"]'),
        OWN.replace("return ImageSet(images", "images[7, 2, 1, 0] ^= 1; return ImageSet(images"),
        OWN.replace("range(60)), ", "range(59)), "),
    ]
    found = [
        make_own(dataclasses.replace(data, name=f"{own_module(other)}:plain"), tmp_path)
        for other in others
    ]
    assert len({fingerprint, *found}) == 1 + len(others)


def test_another_machine_makes_the_same_images_or_none(
    make_data: Callable[..., Data], tmp_path: Path
) -> None:
    data = complete_data(make_data("plain"), str(tmp_path / "here"))
    here, there = open_data(data, tmp_path / "here", 0), open_data(data, tmp_path / "there", 0)
    assert len(calls(data)) == 2
    assert torch.equal(here.train.images, there.train.images)
    shutil.rmtree(tmp_path / "there")
    edited = dataclasses.replace(data, seed=4)  # stands for an edited function
    with pytest.raises(ConfigError, match="makes other images than when the run was planned"):
        open_data(edited, tmp_path / "there", 0)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_a_damaged_cache_is_filled_again_by_the_function(
    make_data: Callable[..., Data], tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = complete_data(make_data("plain"), str(tmp_path))
    before = open_data(data, tmp_path, 0).train
    images, labels = before.images.clone(), before.labels.clone()
    (path,) = tmp_path.rglob(f"train/{name}")
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)
    after = open_data(data, tmp_path, 0).train
    assert f"is damaged and is made again: train/{name} has changed" in caplog.text
    assert len(calls(data)) == 2
    assert torch.equal(after.images, images)
    assert torch.equal(after.labels, labels)


def test_its_folder_does_not_depend_on_where_the_command_was_given(
    make_data: Callable[..., Data], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "here").touch()
    monkeypatch.chdir(tmp_path)
    data = complete_data(make_data("rooted", root="images", label="mine"), str(tmp_path / "cache"))
    assert (data.root, data.label) == (str(tmp_path / "images"), "mine")


@pytest.mark.parametrize(
    ("function", "changes", "message"),
    [
        ("nothing", {}, "has no 'nothing'"),
        ("rooted", {}, r"must make images, and failed: TypeError.*\.py, line \d+\)"),
        ("alone", {}, "must return ImageSets of train, test and optionally unlabelled, got"),
        ("tensors", {}, r"must return ImageSets .*, got \['Tensor', 'Tensor'\]"),
        ("floats", {}, r"failed: ValueError: images must be uint8 \(N, 3, H, W\), got torch\.float32"),
        ("small", {}, r"images of \(8, 8\) pixels \(data\.size\), got \(8, 7\) in test"),
        ("beyond", {}, r"int64 labels \(N,\) of 0 to 2, .* got torch\.int64 .* of 1 to 3 in train"),
        ("halves", {}, r"int64 labels .*, got torch\.float32"),
        ("unlike", {}, r"the same classes in all sets, got \['a', 'b', 'c'\] and \['a', 'b'\]"),
        ("empty", {}, "must return images, got none in test"),
        ("labelled", {}, r"int64 labels \(N,\) of -1, got .* of 0 to 2 in unlabelled"),
        ("plain", {"validation": 31}, r"data\.validation must be <= 30"),
    ],
)  # fmt: skip
def test_what_is_no_data_set_is_named(
    make_data: Callable[..., Data], tmp_path: Path, function: str, changes: dict, message: str
) -> None:
    data = make_data(function, **changes)
    with pytest.raises(ConfigError, match=message):
        open_data(complete_data(data, str(tmp_path)), tmp_path, 0)
