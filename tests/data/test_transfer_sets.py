"""The transfer sets, from tiny copies of their files; which image is which, and how it is resized, torchvision says."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms.v2 import functional as oracle

from simclr_ablate.config import ConfigError, MissingDataError
from simclr_ablate.data import decoding, sources
from simclr_ablate.data.layouts import Layout
from simclr_ablate.data.sizes import data_sizes
from simclr_ablate.data.splits import Splits, open_data
from simclr_ablate.schema import OFFICIAL_VALIDATION, TRANSFER_SETS, Data
from tests.data import fake_sets

SIZE = 20
SPLITS = ("train", "validation", "test")


def make_data(name: str, root: Path, **changed: Any) -> Data:
    values = {
        "name": name,
        "root": str(root),
        "size": SIZE,
        "limit": None,
        "validation": None if name in OFFICIAL_VALIDATION else 10,
        "on_error": "raise",
        "seed": 0,
        "label": None,
        "fingerprint": None,
    }
    return Data(**{**values, **changed})


def pictured(image: Image.Image, size: int = SIZE) -> bytes:
    """The paper's preparation, by torchvision: the short side to the size, bicubic, and the centre."""
    resized = oracle.resize(image.convert("RGB"), [size], oracle.InterpolationMode.BICUBIC)
    return oracle.pil_to_tensor(oracle.center_crop(resized, [size, size])).numpy().tobytes()


def of_torchvision(name: str, root: Path) -> dict[str, list[tuple[bytes, Any]]]:
    """Torchvision's images, prepared, with the names of their classes, by our splits."""
    here = str(root)
    if name == "voc2007":
        return {
            split: [
                (pictured(image), _objects(target))
                for image, target in datasets.VOCDetection(here, year="2007", image_set=theirs)
            ]
            for split, theirs in (("train", "train"), ("validation", "val"), ("test", "test"))
        }
    made: dict[str, Any] = {
        "food101": lambda split: datasets.Food101(here, split=split),
        "stanford_cars": lambda split: datasets.StanfordCars(here, split=split),
        "fgvc_aircraft": lambda split: datasets.FGVCAircraft(here, split=split),
        "dtd": lambda split: datasets.DTD(here, split=split),
        "oxford_iiit_pet": lambda split: datasets.OxfordIIITPet(here, split=split),
        "flowers102": lambda split: datasets.Flowers102(here, split=split),
    }
    theirs = {"train": "train", "validation": "val", "test": "test"}
    if name == "oxford_iiit_pet":
        theirs["train"] = "trainval"
    return {
        split: [(pictured(image), label) for image, label in made[name](theirs[split])]
        for split in sources.TRANSFER[name].images
    }


def _objects(target: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes that an image shows, and those of which it shows only difficult objects."""
    listed = target["annotation"]["object"]
    easy = {each["name"] for each in listed if each["difficult"] == "0"}
    return tuple(sorted(easy)), tuple(sorted({each["name"] for each in listed} - easy))


def ours(splits: Splits) -> dict[str, list[tuple[bytes, Any]]]:
    found = {}
    for split in SPLITS:
        images = getattr(splits, split)
        labels = images.labels.tolist()
        if images.labels.ndim == 2:
            labels = [
                tuple(
                    tuple(sorted(images.classes[k] for k, v in enumerate(row) if v == x))
                    for x in (1, -1)
                )
                for row in labels
            ]
        found[split] = [
            (image.numpy().tobytes(), label)
            for image, label in zip(images.images, labels, strict=True)
        ]
    return found


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision's class for the flowers accepts other files than the real ones."""
    monkeypatch.setattr(datasets.Flowers102, "_check_integrity", lambda self: True)


@pytest.mark.parametrize("name", [n for n in TRANSFER_SETS if n not in ("sun397", "caltech101")])
@pytest.mark.usefixtures("unchecked")
def test_images_labels_and_splits_are_torchvisions(name: str, tmp_path: Path, monkeypatch) -> None:
    fake_sets.write(name, tmp_path, monkeypatch)
    found = ours(open_data(make_data(name, tmp_path), tmp_path / "cache", 0))
    expected = of_torchvision(name, tmp_path)
    if name not in OFFICIAL_VALIDATION:
        assert len(found["validation"]) == 10
        found["train"] += found.pop("validation")
    for split in expected:
        assert sorted(found[split]) == sorted(expected[split])


@pytest.mark.usefixtures("unchecked")
def test_classes_have_torchvisions_names(tmp_path: Path, monkeypatch) -> None:
    for name in ("food101", "stanford_cars", "fgvc_aircraft", "dtd", "oxford_iiit_pet"):
        fake_sets.write(name, tmp_path, monkeypatch)
        maker = {
            "food101": datasets.Food101,
            "stanford_cars": datasets.StanfordCars,
            "fgvc_aircraft": datasets.FGVCAircraft,
            "dtd": datasets.DTD,
            "oxford_iiit_pet": datasets.OxfordIIITPet,
        }[name]
        classes = open_data(make_data(name, tmp_path), tmp_path / "cache", 0).train.classes
        assert [c.lower() for c in classes] == [c.lower() for c in maker(str(tmp_path)).classes]


def test_sun397_has_its_first_split(tmp_path: Path, monkeypatch) -> None:
    fake_sets.write("sun397", tmp_path, monkeypatch)
    everything = datasets.SUN397(str(tmp_path))
    label_of = {
        f"/{path.relative_to(tmp_path / 'SUN397')}": label
        for path, label in zip(everything._image_files, everything._labels, strict=True)
    }
    splits = open_data(make_data("sun397", tmp_path), tmp_path / "cache", 0)
    found = ours(splits)
    found["train"] += found.pop("validation")
    for split, file in (("train", "Training_01.txt"), ("test", "Testing_01.txt")):
        names = (tmp_path / "SUN397" / file).read_text().split()
        expected = [(pictured(Image.open(f"{tmp_path}/SUN397{n}")), label_of[n]) for n in names]
        assert sorted(found[split]) == sorted(expected)
    assert splits.train.classes == everything.classes


@pytest.mark.parametrize("place", ["SUN397/Partitions", "."])
def test_the_lists_of_sun397_may_lie_elsewhere(place: str, tmp_path: Path, monkeypatch) -> None:
    fake_sets.write("sun397", tmp_path, monkeypatch)
    before = sources.read_whole("sun397", tmp_path)
    (tmp_path / place).mkdir(exist_ok=True)
    for file in ("Training_01.txt", "Testing_01.txt"):
        (tmp_path / "SUN397" / file).rename(tmp_path / place / file)
    after = sources.read_whole("sun397", tmp_path)
    assert after.splits["train"].names == before.splits["train"].names


def test_caltech101_has_30_training_images_a_class(tmp_path: Path, monkeypatch) -> None:
    writer = fake_sets.write("caltech101", tmp_path, monkeypatch)
    by_seed = {}
    for seed in (0, 0, 1):
        splits = open_data(make_data("caltech101", tmp_path, seed=seed), tmp_path / "cache", 0)
        found = ours(splits)
        by_seed.setdefault(seed, []).append(found)
        counts = splits.train.labels.bincount() + splits.validation.labels.bincount()
        assert counts.tolist() == [30] * writer.classes
        assert splits.test.labels.bincount().tolist() == [6] * writer.classes
        theirs = datasets.Caltech101(str(tmp_path))
        named = {(pictured(image), theirs.categories[label]) for image, label in theirs}
        mine = {
            (image, splits.train.classes[label])
            for split in SPLITS
            for image, label in found[split]
        }
        assert {each for each in mine if each[1] != "BACKGROUND_Google"} == named
        assert len(mine) == 5 * 36  # every image is in one split only
    assert by_seed[0][0] == by_seed[0][1]
    assert by_seed[0][0]["test"] != by_seed[1][0]["test"]


@pytest.mark.parametrize("name", TRANSFER_SETS)
def test_sizes_are_known_before_any_file_is_read(name: str, tmp_path: Path, monkeypatch) -> None:
    nowhere = data_sizes(make_data(name, tmp_path))
    real = sources.TRANSFER[name]
    held = 0 if name in OFFICIAL_VALIDATION else 10
    assert nowhere == (real.of_training - held, real.of_training - held, real.classes)
    fake_sets.write(name, tmp_path, monkeypatch)
    data = make_data(name, tmp_path, limit=20)
    train = open_data(data, tmp_path / "cache", 0).train
    assert len(train) == data_sizes(data).labelled == 20
    assert len(train.classes) == data_sizes(data).classes


def test_the_table_is_the_papers() -> None:
    """Training, with validation, and test images as in Kornblith et al. 2019, Table 1, whose count of Pets has a
    misprint and of Caltech-101 an image more than the set."""
    sizes = {
        "food101": (101, 75_750, 25_250),
        "sun397": (397, 19_850, 19_850),
        "stanford_cars": (196, 8_144, 8_041),
        "fgvc_aircraft": (100, 6_667, 3_333),
        "voc2007": (20, 5_011, 4_952),
        "dtd": (47, 3_760, 1_880),
        "oxford_iiit_pet": (37, 3_680, 3_669),
        "caltech101": (102, 3_060, 6_084),
        "flowers102": (102, 2_040, 6_149),
    }
    for name in TRANSFER_SETS:
        entry = sources.TRANSFER[name]
        training = entry.of_training + entry.images.get("validation", 0)
        test = entry.images.get("test", sum(entry.images.values()) - training)
        assert (entry.classes, training, test) == sizes[name]
        assert (name in OFFICIAL_VALIDATION) == ("validation" in entry.images)


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_the_number_of_workers_changes_nothing(workers: int, tmp_path: Path, monkeypatch) -> None:
    fake_sets.write("dtd", tmp_path, monkeypatch, each=40)
    alone = open_data(make_data("dtd", tmp_path), tmp_path / "alone", 0)
    shared = open_data(make_data("dtd", tmp_path), tmp_path / f"{workers}", workers)
    for split in SPLITS:
        assert torch.equal(getattr(alone, split).images, getattr(shared, split).images)
        assert torch.equal(getattr(alone, split).labels, getattr(shared, split).labels)


def test_train_and_validation_can_be_joined(tmp_path: Path, monkeypatch) -> None:
    fake_sets.write("flowers102", tmp_path, monkeypatch)
    splits = open_data(make_data("flowers102", tmp_path), tmp_path / "cache", 0)
    both = splits.train.joined(splits.validation)
    assert torch.equal(both.images, torch.cat([splits.train.images, splits.validation.images]))


def test_once_decoded_the_files_are_not_needed(tmp_path: Path, monkeypatch) -> None:
    root, cached = tmp_path / "root", tmp_path / "cache"
    fake_sets.write("voc2007", root, monkeypatch)
    before = open_data(make_data("voc2007", root), cached, 0)
    shutil.rmtree(root)
    sources.check_there("voc2007", root.resolve(), cached, SIZE)
    after = open_data(make_data("voc2007", root), cached, 0)
    assert torch.equal(before.test.labels, after.test.labels)
    assert torch.equal(before.test.images, after.test.images)


@pytest.mark.parametrize("name", TRANSFER_SETS)
def test_a_part_of_a_set_is_refused(name: str, tmp_path: Path, monkeypatch) -> None:
    fake_sets.write(name, tmp_path, monkeypatch)
    listed = sources.read_whole(name, tmp_path).splits
    split = "all" if "all" in listed else "test"
    count = len(listed[split].names)
    lost = listed[split].names[count // 2]
    (tmp_path / lost).unlink()
    for check in (
        lambda: sources.check_there(name, tmp_path, tmp_path / "cache", SIZE),
        lambda: open_data(make_data(name, tmp_path), tmp_path / "cache", 0),
    ):
        with pytest.raises(MissingDataError) as caught:
            check()
        message = str(caught.value)
        assert message.startswith(f"data={name} must have ")
        unit = "images" if split == "all" else "test images"
        assert f"{count} {unit}, " in message
        assert f"{count - 1} {unit}, " in message.partition(", got ")[2]
        assert str(tmp_path / sources.TRANSFER[name].folder) in message
    assert not list((tmp_path / "cache").glob(f"sets/{name}*"))


@pytest.mark.parametrize("name", TRANSFER_SETS)
def test_a_set_of_another_size_is_refused(name: str, tmp_path: Path, monkeypatch) -> None:
    writer = fake_sets.write(name, tmp_path, monkeypatch)
    more = {split: count + 1 for split, count in writer.images.items()}
    fake_sets.expect(name, monkeypatch, writer.classes, more)
    with pytest.raises(MissingDataError, match=rf"data={name} must have .*, got .* in {tmp_path}"):
        sources.read_whole(name, tmp_path)


@pytest.mark.parametrize("name", TRANSFER_SETS)
def test_a_set_without_its_lists_is_refused(name: str, tmp_path: Path, monkeypatch) -> None:
    fake_sets.write(name, tmp_path, monkeypatch)
    place = tmp_path / sources.TRANSFER[name].folder
    for path in (*place.rglob("*.txt"), *place.rglob("*.mat"), *place.rglob("*.json")):
        path.unlink()
    if name == "caltech101":
        shutil.rmtree(place / "101_ObjectCategories")
    with pytest.raises(MissingDataError, match=rf"data={name} in {place} is not whole \(.*No such"):
        sources.check_there(name, tmp_path, tmp_path / "cache", SIZE)


@pytest.mark.parametrize("name", TRANSFER_SETS)
def test_damaged_lists_are_refused(name: str, tmp_path: Path, monkeypatch) -> None:
    fake_sets.write(name, tmp_path, monkeypatch)
    place = tmp_path / sources.TRANSFER[name].folder
    lists = [*place.rglob("*.txt"), *place.rglob("*.mat"), *place.rglob("*.json")]
    if not lists:
        pytest.skip("its folders are its lists")
    for path in lists:
        path.write_bytes(b"\x00\xff garbage " * 9)
    with pytest.raises(MissingDataError, match=rf"data={name} "):
        sources.check_there(name, tmp_path, tmp_path / "cache", SIZE)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch) -> None:
    fake_sets.write("dtd", tmp_path, monkeypatch)
    broken = tmp_path / sources.read_whole("dtd", tmp_path).splits["validation"].names[3]
    broken.write_bytes(b"no image")
    with pytest.raises(ConfigError, match=rf"data=dtd has an image that cannot be read: {broken}"):
        open_data(make_data("dtd", tmp_path), tmp_path / "cache", 2)
    assert not list((tmp_path / "cache/sets").glob("[!.]*"))


@pytest.mark.parametrize("harm", ["none", "pixels", "journal", "file"])
def test_decoding_goes_on_where_it_ended(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an image that cannot be read at the end; what a crash has damaged in the meantime is decoded again."""
    monkeypatch.setattr(decoding, "_FILES_PER_TASK", 4)
    fake_sets.write("dtd", tmp_path, monkeypatch)
    expected = open_data(make_data("dtd", tmp_path), tmp_path / "other", 0)
    layout = sources.read_whole("dtd", tmp_path)
    last = tmp_path / layout.splits["validation"].names[-1]
    content = last.read_bytes()
    last.write_bytes(b"no image")
    with pytest.raises(ConfigError, match="cannot be read"):
        open_data(make_data("dtd", tmp_path), tmp_path / "cache", 0)
    last.write_bytes(content)
    (partial,) = (tmp_path / "cache/sets").glob(".dtd-training-*.partial")
    count = layout_size(layout)
    there, left = 4 * ((count - 1) // 4), count - 4 * ((count - 1) // 4)
    if harm == "pixels":
        with open(partial / "images.npy", "r+b") as file:
            file.seek(-(3 * SIZE * SIZE) * (count - 5), os.SEEK_END)  # in the sixth image
            file.write(b"overwritten")
        left += 1
    elif harm == "journal":
        journal = (partial / "done").read_bytes()
        (partial / "done").write_bytes(journal[: len(journal) - 24 * 7 - 5])
        left += 8
    elif harm == "file":
        os.truncate(partial / "images.npy", 5000)
        left += there
    decode, decoded = decoding.decode_rows, list[int]()

    def note(*arguments: Any) -> Any:
        decoded.extend(arguments[-1])
        return decode(*arguments)

    monkeypatch.setattr(decoding, "decode_rows", note)
    found = open_data(make_data("dtd", tmp_path), tmp_path / "cache", 0)
    assert len(decoded) == left + len(layout.splits["test"].names)
    for split in SPLITS:
        assert torch.equal(getattr(found, split).images, getattr(expected, split).images)
    assert not list((tmp_path / "cache/sets").glob(".*.partial"))


def layout_size(layout: Layout) -> int:
    return sum(len(layout.splits[split].names) for split in ("train", "validation"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    sources.why_unreachable.cache_clear()
    yield
    sources.why_unreachable.cache_clear()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", [*TRANSFER_SETS, *sources.SOURCES])
def test_offline_the_error_says_which_files_go_where(name: str, tmp_path: Path) -> None:
    checks = [lambda: sources.check_there(name, tmp_path, tmp_path / "cache", SIZE)]
    if name in TRANSFER_SETS:
        checks.append(lambda: open_data(make_data(name, tmp_path), tmp_path / "cache", 0))
    for check in checks:
        with pytest.raises(MissingDataError) as caught:
            check()
        message = str(caught.value)
        assert message.startswith(f"data={name} was not found in {tmp_path}")
        assert "\n" not in message
        if name == "stanford_cars":
            assert "devkit/cars_meta.mat" in message
            continue
        assert "unreachable" in message
        for file, address in (sources.SOURCES | sources.TRANSFER)[name].archives.items():
            assert f"{file} from {address}" in message
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]


@pytest.mark.skipif(
    "SIMCLR_ABLATE_TEST_DATA" not in os.environ,
    reason="SIMCLR_ABLATE_TEST_DATA, a folder of extracted data sets, is not set",
)
@pytest.mark.parametrize("size", [32, 224])
def test_photographs_are_prepared_as_torchvision_does(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten textures of DTD, in its own layout."""
    photographs = Path(os.environ["SIMCLR_ABLATE_TEST_DATA"]) / "dtd10" / "train"
    names = {split: list[str]() for split in SPLITS}
    for folder in sorted(photographs.iterdir()):
        for number, photograph in enumerate(sorted(folder.iterdir())[:12]):
            place = tmp_path / "dtd/dtd/images" / folder.name / photograph.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(photograph)
            names[SPLITS[number % 3]].append(f"{folder.name}/{photograph.name}")
    (tmp_path / "dtd/dtd/labels").mkdir()
    for split, file in zip(SPLITS, ("train1", "val1", "test1"), strict=True):
        (tmp_path / f"dtd/dtd/labels/{file}.txt").write_text("\n".join(names[split]))
    fake_sets.expect("dtd", monkeypatch, 10, dict.fromkeys(SPLITS, 40))
    found = ours(open_data(make_data("dtd", tmp_path, size=size), tmp_path / "cache", 2))
    for split, theirs in zip(SPLITS, ("train", "val", "test"), strict=True):
        images = datasets.DTD(str(tmp_path), split=theirs)
        assert found[split] == [(pictured(image, size), label) for image, label in images]
