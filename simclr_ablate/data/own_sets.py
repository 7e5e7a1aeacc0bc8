"""A user's own data set, `data.name=package.module:function`, made when a run is planned and kept in the cache.

A hash of its pixels, labels and classes stands for it in the cache and in a run's identity: if the function makes other
images, the run is another run.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from simclr_ablate import own
from simclr_ablate.config import ConfigError
from simclr_ablate.data.cache import build_once, folder_of, is_whole, save_set
from simclr_ablate.data.in_memory import ImageSet, open_set
from simclr_ablate.schema import Data

SPLITS = ("train", "test", "unlabelled")


def make_own(data: Data, cache: Path) -> str:
    """Calls the user's function and keeps what it returns in the cache; returns the hash.

    The function takes `data`, and returns an ImageSet of training images, one of test images, and optionally one of
    unlabelled images with labels -1: uint8, (N, 3, data.size, data.size).

    Raises ConfigError if the function can't be found, fails, or returns something else.
    """
    function = own.find("data.name", data.name)
    with own.blamed(f"data.name={data.name}", "make images"):
        sets = function(data)
    _check(sets, data)
    fingerprint = _fingerprint(sets)

    def build(folder: Path) -> None:
        for split, images in zip(SPLITS, sets, strict=False):
            (folder / split).mkdir()
            pixels, labels = images.images.cpu().numpy(), images.labels.cpu().numpy()
            save_set(folder / split, pixels, labels, images.classes)

    build_once(cache, _name(fingerprint), build)
    return fingerprint


def open_own(data: Data, cache: Path) -> list[ImageSet]:
    """The sets of `data.fingerprint`, or if that is null, what the function makes now.

    If the cache lacks the sets, or has them damaged, they are made again. Raises ConfigError if they differ then.
    """
    fingerprint = data.fingerprint
    if fingerprint is None or not is_whole(cache, _name(fingerprint)):
        made = make_own(data, cache)
        if fingerprint not in (None, made):
            raise ConfigError(
                f"data.name={data.name} makes other images than when the run was planned "
                f"(data.fingerprint is {fingerprint}, theirs {made}): run the command again to use the new ones"
            )
        fingerprint = made
    folders = [folder_of(cache, _name(fingerprint)) / split for split in SPLITS]
    return [open_set(folder) for folder in folders if folder.is_dir()]


def count_own(data: Data, cache: Path) -> tuple[list[int], int]:
    """Numbers of training images of each class, and of unlabelled images. Raises ConfigError."""
    train, _, *unlabelled = open_own(data, cache)
    return train.labels.bincount(minlength=len(train.classes)).tolist(), sum(map(len, unlabelled))


def _name(fingerprint: str) -> str:
    return f"own-{fingerprint}"


def _fingerprint(sets: Sequence[ImageSet]) -> str:
    digest = hashlib.sha256(json.dumps(sets[0].classes).encode())
    for images in sets:
        for tensor in (images.images, images.labels):
            digest.update(f"{tuple(tensor.shape)}\n".encode())
            digest.update(tensor.cpu().contiguous().numpy().reshape(-1).data)
    return digest.hexdigest()[:16]


def _check(sets: Any, data: Data) -> None:
    """Raises ConfigError if `sets` is not what `make_own` asks for."""
    wanted = f"data.name={data.name} must return"
    whole = isinstance(sets, list | tuple) and len(sets) in (2, 3)
    if not whole or not all(isinstance(images, ImageSet) for images in sets):
        got = [type(each).__name__ for each in sets] if isinstance(sets, list | tuple) else sets
        raise ConfigError(
            f"{wanted} ImageSets of train, test and optionally unlabelled, got {got!r}"
        )
    for split, images in zip(SPLITS, sets, strict=False):
        shape, classes = tuple(images.stored.shape[2:]), images.classes
        if shape != (data.size, data.size):
            raise ConfigError(
                f"{wanted} images of {(data.size, data.size)} pixels (data.size), got {shape} in {split}"
            )
        if not len(images):
            raise ConfigError(f"{wanted} images, got none in {split}")
        if classes != sets[0].classes:
            raise ConfigError(
                f"{wanted} the same classes in all sets, got {sets[0].classes} and {classes}"
            )
        _check_labels(images.labels, split, len(classes), wanted)


def _check_labels(labels: Tensor, split: str, classes: int, wanted: str) -> None:
    lowest, highest = (-1, -1) if split == "unlabelled" else (0, classes - 1)
    least, most = int(labels.min()), int(labels.max())
    if labels.dtype != torch.int64 or labels.ndim != 1 or least < lowest or most > highest:
        accepted = "-1" if split == "unlabelled" else f"0 to {highest}, one for each of the classes"
        raise ConfigError(
            f"{wanted} int64 labels (N,) of {accepted}, got {labels.dtype} {tuple(labels.shape)} "
            f"of {least} to {most} in {split}"
        )
