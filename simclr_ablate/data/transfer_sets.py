"""The transfer sets (Table 8): their files, decoded once into the cache, and memory-mapped by whoever opens them.

An image is prepared as in the paper: the short side is resized to the size (bicubic, antialiased) and the centre is cut
out. A set goes into the cache only if all of it is there and every image can be read. So its name, the size and the
splits identify its images, and it needs no fingerprint.
"""

import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from simclr_ablate.config import ConfigError
from simclr_ablate.data.cache import IMAGES, build_once, lock, save_labels
from simclr_ablate.data.decoding import decode_files
from simclr_ablate.data.in_memory import ImageSet, open_set
from simclr_ablate.data.layouts import Layout, Listed
from simclr_ablate.data.partial import Partial
from simclr_ablate.data.progress import show_progress
from simclr_ablate.data.sources import TRANSFER, cached_names, not_found, parts_of, read_whole
from simclr_ablate.files import storing

log = logging.getLogger(__name__)

_PARTITIONS = "e3311ea5f812d4cc6faef194688343d1111f6cd6f70f2c62f393c2b8d6ba1ec9"
"""SHA-256 of Partitions.zip, which torchvision does not download."""


def open_transfer(
    name: str, root: Path, size: int, cache: Path, workers: int
) -> dict[str, ImageSet]:
    """The splits `train`, `validation` if there is an official one, and `test`; or `all`, for a set without splits.

    `train` and `validation` are parts of one set. If the cache lacks the images, they are decoded from the files, which
    are unpacked or downloaded first if there are none.

    root: the folder that `sources.root_of` gives. workers: number of processes that decode.

    Raises MissingDataError if files are missing, and ConfigError if one cannot be read.
    """
    opened = {}
    for part, folder in zip(parts_of(name), cached_names(name, root, size), strict=True):

        def build(folder: Path, part: str = part) -> None:
            _decode(name, _found(name, root, cache), part, root, size, folder, workers)

        opened[part] = open_set(build_once(cache, folder, build))
    if "all" in opened:
        return opened
    train, validation = (TRANSFER[name].images.get(k, 0) for k in ("train", "validation"))
    splits = {"train": opened["training"].subset(range(train)), "test": opened["test"]}
    if validation:
        splits["validation"] = opened["training"].subset(range(train, train + validation))
    return splits


def _decode(
    name: str, layout: Layout, part: str, root: Path, size: int, folder: Path, workers: int
) -> None:
    """Fills a folder of the cache with one of the set's parts."""
    listed = _listed(layout, part)
    (cached,) = [each for each in cached_names(name, root, size) if f"-{part}-" in each]
    partial = Partial(folder.parent / f".{cached}.partial", len(listed.names), size)
    with show_progress(f"decoding {name} ({part})", len(listed.names)) as advance:
        left = partial.begin()
        advance(len(listed.names) - len(left))
        for decoded in decode_files(
            root, listed.names, left, size, partial.images, partial.offset, workers
        ):
            for _, _, wrong in decoded:
                if wrong is not None:
                    raise ConfigError(f"data={name} has an image that cannot be read: {wrong}")
            partial.note(decoded)
            advance(len(decoded))
    partial.finish(folder / IMAGES)
    save_labels(folder, listed.labels, layout.classes)


def _listed(layout: Layout, part: str) -> Listed:
    if part != "training":
        return layout.splits[part]
    splits = [layout.splits[k] for k in ("train", "validation") if k in layout.splits]
    names = [name for split in splits for name in split.names]
    return Listed(names, np.concatenate([split.labels for split in splits]))


def _found(name: str, root: Path, cache: Path) -> Layout:
    """The set's layout, after unpacking or downloading it if its folder is missing."""
    place = root / TRANSFER[name].folder
    if not place.exists():
        key = hashlib.sha256(str(place).encode()).hexdigest()[:8]
        with lock(cache, f"{name}-files-{key}"):
            if not place.exists():  # another process may have been faster
                _fetch(name, root)
    return read_whole(name, root)


def _fetch(name: str, root: Path) -> None:
    """Unpacks the set's archives in `root`, or downloads them; the set's folder appears once it is whole."""
    source = TRANSFER[name]
    if not source.archives:
        raise not_found(name, root)
    temporary = root / f".{name}.{uuid.uuid4().hex}.tmp"
    within = temporary / source.folder if name in _ARCHIVES_INSIDE else temporary
    log.info("fetching %s into %s", name, root)
    try:
        with storing(root, "data.root"):
            within.mkdir(parents=True)
            for file in filter(lambda file: (root / file).is_file(), source.archives):
                if Path(file).suffix == ".mat":
                    shutil.copy(root / file, within)
                else:
                    (within / file).symlink_to(root / file)
        try:
            _download(name, temporary)
        except (OSError, RuntimeError, ValueError) as error:
            raise not_found(name, root, " ".join(str(error).split())) from error
        for file in source.archives:
            if Path(file).suffix != ".mat":
                (within / file).unlink(missing_ok=True)
        with storing(root, "data.root"):
            (root / source.folder).parent.mkdir(parents=True, exist_ok=True)
            os.rename(temporary / source.folder, root / source.folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


_ARCHIVES_INSIDE = ("dtd", "oxford_iiit_pet", "caltech101", "flowers102")
"""The sets whose archives torchvision looks for in the set's own folder; for others, in the root."""


def _download(name: str, root: Path) -> None:
    """Lets torchvision download and unpack the set into `root`; archives that are there are not downloaded."""
    # Here, because its import takes longer than everything that opening a cached set needs.
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    makers: dict[str, Callable[..., Any]] = {
        "food101": datasets.Food101,
        "sun397": datasets.SUN397,
        "fgvc_aircraft": datasets.FGVCAircraft,
        "dtd": datasets.DTD,
        "oxford_iiit_pet": datasets.OxfordIIITPet,
        "caltech101": datasets.Caltech101,
        "flowers102": datasets.Flowers102,
    }
    if name == "voc2007":
        for split in ("trainval", "test"):
            datasets.VOCDetection(str(root), year="2007", image_set=split, download=True)
        return
    makers[name](str(root), download=True)
    if name == "sun397":
        address = TRANSFER[name].archives["Partitions.zip"]
        download_and_extract_archive(address, str(root), str(root / "SUN397"))
        _check_partitions(root / "Partitions.zip")


def _check_partitions(archive: Path) -> None:
    with open(archive, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _PARTITIONS:
        raise RuntimeError(f"{archive.name} has the SHA-256 {digest} instead of {_PARTITIONS}")
