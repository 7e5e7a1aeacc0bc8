"""Features of a frozen network, computed once for all protocols that need the same ones, and kept in the cache.

    CACHE/features/sets/KEY/{train,validation,test}.{features,labels}.npy

Readers memory-map them. The key covers the weights, the images and their preprocessing, and what rounding depends on:
the kind of device, the number of threads and the versions of the libraries. So no bit of a result depends on whether
features come from the cache.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from simclr_ablate.data.cache import discard, folder_of, is_whole, keep, lock, save_array
from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.protocol import Frozen
from simclr_ablate.files import StorageError
from simclr_ablate.ranks import SOLO, Ranks

log = logging.getLogger(__name__)


def digest_of(network: nn.Module) -> str:
    """The SHA-256 of the network's parameters and buffers, by their names."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cached_features(
    cache: Path,
    made_of: Mapping[str, Any],
    room: float,
    compute: Callable[[], Frozen],
    ranks: Ranks = SOLO,
) -> Frozen:
    """The features that `compute` returns, read from the cache if they are there.

    Two processes that ask at once compute them once: the second waits for the first. With several ranks, all must call
    this, and they compute together; only the first gets the features. If the cache cannot be written, nothing is kept.

    made_of: all that the features depend on, as plain values. room: bytes that features may take in the cache; the
        least recently used are removed first, and features that do not fit are not kept.
    """
    folder, key = cache / "features", _key(made_of)
    if room <= 0:
        return compute()
    is_there = ranks.from_first(ranks.is_first and _is_there(folder, key))
    if not is_there:
        with _locked(folder, key) if ranks.is_first else nullcontext():
            is_there = ranks.from_first(ranks.is_first and _is_there(folder, key))
            if not is_there:
                frozen = compute()
                if not (ranks.is_first and _keep(folder, key, room, frozen)):
                    return frozen
    if not ranks.is_first:
        return Frozen(*(Features.none() for _ in Frozen._fields))
    return _open(folder_of(folder, key))


def _key(made_of: Mapping[str, Any]) -> str:
    text = json.dumps(made_of, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@contextmanager
def _locked(folder: Path, key: str) -> Iterator[None]:
    """Holds `lock`, or nothing if the cache has no room for one."""
    with ExitStack() as held:
        with suppress(StorageError):
            held.enter_context(lock(folder, key))
        yield


def _is_there(folder: Path, key: str) -> bool:
    try:
        return is_whole(folder, key)
    except StorageError:
        return False


def _keep(folder: Path, key: str, room: float, frozen: Frozen) -> bool:
    """Keeps the features; returns whether it did."""
    size = sum(t.numel() * t.element_size() for split in frozen for t in split)
    if size > room:
        return False

    def write(temporary: Path) -> None:
        for split, (features, labels) in zip(Frozen._fields, frozen, strict=True):
            save_array(temporary / f"{split}.features.npy", features.numpy())
            save_array(temporary / f"{split}.labels.npy", labels.numpy())

    try:
        make_room(folder, room - size)
        keep(folder, key, write, lambda: key)
    except StorageError as error:
        log.warning("features are not kept: %s", error)
        return False
    return True


def make_room(folder: Path, room: float) -> None:
    """Removes the least recently used features until the others take at most `room` bytes."""
    kept = []
    for path in folder_of(folder, "").glob("[!.]*"):
        with suppress(OSError):
            size = sum(each.stat().st_size for each in path.iterdir())
            kept.append((path.stat().st_mtime, size, path))
    left = sum(size for _, size, _ in kept)
    for _, size, path in sorted(kept):
        if left <= room:
            break
        with suppress(StorageError):
            discard(path)
        left -= size


def _open(folder: Path) -> Frozen:
    with suppress(OSError):  # the time of last use, if we may set it
        os.utime(folder)
    # Copy-on-write: PyTorch has no read-only tensors, and nobody may change the file.
    return Frozen(
        *(
            Features(
                *(
                    torch.from_numpy(np.load(folder / f"{split}.{part}.npy", mmap_mode="c"))
                    for part in Features._fields
                )
            )
            for split in Frozen._fields
        )
    )
