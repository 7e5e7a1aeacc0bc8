"""Sets that are not unpacked yet: archives in data.root, or on a server, in the form in which they are published."""

import http.server
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torchvision import datasets

from simclr_ablate.config import MissingDataError
from simclr_ablate.data import sources, transfer_sets
from simclr_ablate.data.splits import open_data
from simclr_ablate.schema import TRANSFER_SETS
from tests.data import fake_sets
from tests.data.test_transfer_sets import SIZE, make_data

ARCHIVED = [name for name in TRANSFER_SETS if name != "stanford_cars"]


def packed(archive: Path, content: Path, *names: str) -> None:
    with tarfile.open(archive, "w" if archive.suffix == ".tar" else "w:gz") as tar:
        for name in names:
            tar.add(content / name, name)


def archive(name: str, files: Path, root: Path) -> None:
    """Packs the files of a set as they are published, into `root`."""
    root.mkdir(exist_ok=True)
    into = {Path(file).name: root / file for file in sources.TRANSFER[name].archives}
    if name == "sun397":
        with zipfile.ZipFile(into["Partitions.zip"], "w") as lists:
            for file in ("Training_01.txt", "Testing_01.txt", "ClassName.txt"):
                lists.write(files / "SUN397" / file, file)
        for file in ("Training_01.txt", "Testing_01.txt"):
            (files / "SUN397" / file).unlink()
        packed(into["SUN397.tar.gz"], files, "SUN397")
    elif name == "voc2007":
        folder = "VOCdevkit/VOC2007"
        test, trainval = (into[f"VOC{part}_06-Nov-2007.tar"] for part in ("test", "trainval"))
        packed(test, files, f"{folder}/JPEGImages")
        packed(trainval, files, f"{folder}/ImageSets", f"{folder}/Annotations")
    elif name == "dtd":
        packed(into["dtd-r1.0.1.tar.gz"], files / "dtd", "dtd")
    elif name == "oxford_iiit_pet":
        for part in ("images", "annotations"):
            packed(into[f"{part}.tar.gz"], files / "oxford-iiit-pet", part)
    elif name == "caltech101":
        inner = files / "101_ObjectCategories.tar.gz"
        packed(inner, files / "caltech101", "101_ObjectCategories")
        with zipfile.ZipFile(into["caltech-101.zip"], "w") as outer:
            outer.write(inner, f"caltech-101/{inner.name}")
    elif name == "flowers102":
        packed(into["102flowers.tgz"], files / "flowers-102", "jpg")
        for file in ("imagelabels.mat", "setid.mat"):
            shutil.copy(files / "flowers-102" / file, root)
    else:
        ((_, place),) = into.items()
        packed(place, files, sources.TRANSFER[name].folder)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any file has the checksum of the real archive."""
    for module in ("utils", "flowers102"):
        monkeypatch.setattr(
            f"torchvision.datasets.{module}.check_integrity",
            lambda path, md5=None: Path(path).is_file(),
        )
    monkeypatch.setattr(transfer_sets, "_check_partitions", lambda archive: None)


@pytest.fixture
def asked() -> Iterator[None]:
    ask = sources.why_unreachable
    ask.cache_clear()
    yield
    ask.cache_clear()


@pytest.mark.parametrize("name", ARCHIVED)
@pytest.mark.usefixtures("unchecked", "asked")
def test_archives_in_the_root_are_unpacked(name: str, tmp_path: Path, monkeypatch) -> None:
    fake_sets.write(name, tmp_path / "files", monkeypatch)
    expected = open_data(make_data(name, tmp_path / "files"), tmp_path / "one", 0)
    root = tmp_path / "root"
    archive(name, tmp_path / "files", root)
    before = sorted(path.name for path in root.iterdir())
    monkeypatch.setattr(sources, "why_unreachable", lambda address: "no network")
    sources.check_there(name, root, tmp_path / "two", SIZE)
    found = open_data(make_data(name, root), tmp_path / "two", 0)
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(found, split).images, getattr(expected, split).images)
        assert torch.equal(getattr(found, split).labels, getattr(expected, split).labels)
    top = sources.TRANSFER[name].folder.partition("/")[0]
    assert sorted(path.name for path in root.iterdir()) == sorted([*before, top])
    assert not [
        path for path in (root / top).rglob("*") if path.suffix in (".gz", ".tgz", ".tar", ".zip")
    ]


@pytest.mark.parametrize("name", [name for name in ARCHIVED if name != "fgvc_aircraft"])
def test_a_damaged_archive_leaves_nothing(name: str, tmp_path: Path, monkeypatch) -> None:
    """Torchvision compares checksums, of all sets but one; nothing is downloaded in its place."""
    for file in sources.TRANSFER[name].archives:
        (tmp_path / file).write_bytes(b"half an archive")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    with pytest.raises(MissingDataError, match=rf"data={name} was not found .*unreachable"):
        open_data(make_data(name, tmp_path), tmp_path / "cache", 0)
    assert sorted(path for path in tmp_path.iterdir() if path.name != "cache") == before


def _no_network(*_: object, **__: object) -> None:
    raise OSError("Network is unreachable")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the files in `tmp_path / "site"`."""
    (tmp_path / "site").mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.usefixtures("unchecked", "asked")
def test_a_set_is_downloaded(server: str, tmp_path: Path, monkeypatch) -> None:
    fake_sets.write("dtd", tmp_path / "files", monkeypatch)
    address = f"{server}/dtd-r1.0.1.tar.gz"
    monkeypatch.setattr(datasets.DTD, "_URL", address)
    changed = replace(sources.TRANSFER["dtd"], archives={"dtd-r1.0.1.tar.gz": address})
    monkeypatch.setitem(sources.TRANSFER, "dtd", changed)
    root = tmp_path / "root"
    with pytest.raises(MissingDataError, match=r"could not be downloaded .*404"):
        sources.check_there("dtd", root, tmp_path / "cache", SIZE)
    sources.why_unreachable.cache_clear()
    archive("dtd", tmp_path / "files", tmp_path / "site")
    sources.check_there("dtd", root, tmp_path / "cache", SIZE)
    assert not root.exists()
    found = open_data(make_data("dtd", root), tmp_path / "cache", 0)
    expected = open_data(make_data("dtd", tmp_path / "files"), tmp_path / "cache", 0)
    assert torch.equal(found.test.images, expected.test.images)
    assert [path.name for path in root.iterdir()] == ["dtd"]


def test_addresses_are_torchvisions() -> None:
    ours = {address for each in sources.TRANSFER.values() for address in each.archives.values()}
    theirs = {
        *(datasets.Food101._URL, datasets.FGVCAircraft._URL, datasets.DTD._URL),
        datasets.SUN397._DATASET_URL,
        *(address for address, _ in datasets.OxfordIIITPet._RESOURCES),
        *(datasets.voc.DATASET_YEAR_DICT[year]["url"] for year in ("2007", "2007-test")),
        *(
            datasets.Flowers102._download_url_prefix + file
            for file, _ in datasets.Flowers102._file_dict.values()
        ),
    }
    assert theirs < ours
    for name, kind in (("cifar10", datasets.CIFAR10), ("stl10", datasets.STL10)):
        assert list(sources.SOURCES[name].archives.values()) == [kind.url]
        assert sources.SOURCES[name].folder == kind.base_folder
