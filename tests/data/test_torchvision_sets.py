"""Torchvision's sets, from files in torchvision's own format that the test writes."""

import hashlib
import pickle
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets
from torchvision.transforms.v2 import functional as oracle

from simclr_ablate.config import ConfigError
from simclr_ablate.data.splits import open_data
from simclr_ablate.data.torchvision_sets import open_torchvision
from simclr_ablate.schema import Data

CLASSES = [f"class {number}" for number in range(10)]


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def _write_cifar(root: Path, kind: type, labels_key: str, monkeypatch) -> dict[str, np.ndarray]:
    """Small batches under the names that torchvision looks for; returns the pixels by split."""
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    pixels: dict[str, np.ndarray] = {}
    for attribute, split in (("train_list", "train"), ("test_list", "test")):
        entries, parts = [], []
        for name, _ in getattr(kind, attribute):
            data = draw.integers(0, 256, (40, 3072), dtype=np.uint8)
            content = {"data": data, labels_key: [n % 10 for n in range(40)]}
            (folder / name).write_bytes(pickle.dumps(content))
            entries.append([name, _md5(folder / name)])
            parts.append(data.reshape(-1, 3, 32, 32))
        monkeypatch.setattr(kind, attribute, entries)
        pixels[split] = np.concatenate(parts)
    name = kind.meta["filename"]
    (folder / name).write_bytes(pickle.dumps({kind.meta["key"]: CLASSES}))
    monkeypatch.setitem(kind.meta, "md5", _md5(folder / name))
    return pixels


def _write_stl10(root: Path, monkeypatch) -> dict[str, np.ndarray]:
    folder = root / datasets.STL10.base_folder
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    sums: dict[str, str] = {}
    pixels: dict[str, np.ndarray] = {}
    for split, count in (("train", 40), ("test", 20), ("unlabeled", 30)):
        pixels[split] = draw.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
        file = folder / f"{split}_X.bin"
        file.write_bytes(pixels[split].transpose(0, 1, 3, 2).tobytes())
        sums[file.name] = _md5(file)
        if split != "unlabeled":
            labels = (np.arange(count) % 10 + 1).astype(np.uint8)
            (folder / f"{split}_y.bin").write_bytes(labels.tobytes())
            sums[f"{split}_y.bin"] = _md5(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(CLASSES))
    for attribute in ("train_list", "test_list"):
        entries = [[name, sums[name]] for name, _ in getattr(datasets.STL10, attribute)]
        monkeypatch.setattr(datasets.STL10, attribute, entries)
    return pixels


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read(name: str, tmp_path: Path, monkeypatch) -> None:
    kind, key = (
        (datasets.CIFAR10, "labels") if name == "cifar10" else (datasets.CIFAR100, "fine_labels")
    )
    pixels = _write_cifar(tmp_path, kind, key, monkeypatch)
    train, test = open_torchvision(name, tmp_path, 32, tmp_path / "cache")
    assert train.classes == CLASSES
    for images, split in ((train, "train"), (test, "test")):
        assert np.array_equal(images.images.numpy(), pixels[split])
        assert images.labels.tolist() == [n % 10 for n in range(len(pixels[split]))]


def test_images_are_resized_as_torchvision_does(tmp_path: Path, monkeypatch) -> None:
    pixels = _write_cifar(tmp_path, datasets.CIFAR10, "labels", monkeypatch)
    for size in (20, 48):
        _, test = open_torchvision("cifar10", tmp_path, size, tmp_path / "cache")
        for image, before in zip(test.images, torch.from_numpy(pixels["test"]), strict=True):
            whole = oracle.to_pil_image(before)
            resized = oracle.resize(whole, [size, size], oracle.InterpolationMode.BICUBIC)
            assert torch.equal(image, oracle.pil_to_tensor(resized))


def test_stl10_has_an_unlabelled_split(tmp_path: Path, monkeypatch) -> None:
    pixels = _write_stl10(tmp_path, monkeypatch)
    data = Data("stl10", str(tmp_path), 96, 25, 10, "raise", 0, None, None)
    splits = open_data(data, tmp_path / "cache", 0)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (25, 10, 20)
    assert np.array_equal(splits.test.images.numpy(), pixels["test"])
    assert splits.unlabelled is not None
    assert len(splits.unlabelled) == 25
    assert splits.unlabelled.labels.unique().tolist() == [-1]
    known = {image.tobytes() for image in pixels["unlabeled"]}
    assert {image.numpy().tobytes() for image in splits.unlabelled.images} < known


def test_once_cached_the_files_are_not_needed(tmp_path: Path, monkeypatch) -> None:
    _write_cifar(tmp_path / "root", datasets.CIFAR10, "labels", monkeypatch)
    before = open_torchvision("cifar10", tmp_path / "root", 32, tmp_path / "cache")
    (tmp_path / "root").rename(tmp_path / "elsewhere")
    after = open_torchvision("cifar10", tmp_path / "root", 32, tmp_path / "cache")
    assert torch.equal(before[0].images, after[0].images)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_offline_the_error_says_what_to_do(name: str, tmp_path: Path, monkeypatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(ConfigError, match=rf"data={name} was not found in .*unreachable") as caught:
        open_torchvision(name, tmp_path, 32, tmp_path / "cache")
    assert ".tar.gz from http" in str(caught.value)
    assert "data=image_folder data.root=DIR" in str(caught.value)
