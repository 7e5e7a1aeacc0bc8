"""A data set too large for memory: processes decode and crop its files as they are needed."""

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from simclr_ablate.augment.operations import RandomResizedCrop, Resize
from simclr_ablate.augment.policies import DrawnViews, Policy
from simclr_ablate.data.decode import unreadable_error
from simclr_ablate.data.listing import Files, list_images
from simclr_ablate.data.processes import naming_shared_memory, serve_parent
from simclr_ablate.data.reading import CentreRead, CropRead, Part, PartReader, Read
from simclr_ablate.files import StorageError
from simclr_ablate.randomness import generator
from simclr_ablate.ranks import SOLO, Ranks

log = logging.getLogger(__name__)

_PART = 32
"""Images that a worker reads at a time: all of them work on the parts of the next batch."""

Crop = RandomResizedCrop | Resize


@dataclass(frozen=True)
class StreamedSet:
    """Images that lie in files, with labels; batches come as uint8 on the CPU.

    names: (N,) bytes, paths relative to `root`. numbers: (N,) int64, each image's own number, by
    which its crops are drawn, whatever subset it is in. workers: processes that read; 0: this one.
    """

    root: Path
    names: np.ndarray
    numbers: Tensor
    labels: Tensor
    classes: list[str]
    size: int
    on_error: str
    workers: int

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor | Sequence[int]) -> "StreamedSet":
        """The images at `indices`, in that order."""
        indices = torch.as_tensor(indices)
        return dataclasses.replace(
            self,
            names=self.names[indices.numpy()],
            numbers=self.numbers[indices],
            labels=self.labels[indices],
        )

    def joined(self, other: "StreamedSet") -> "StreamedSet":
        """Both sets, which are subsets of one, as one set."""
        return dataclasses.replace(
            self,
            names=np.concatenate([self.names, other.names]),
            numbers=torch.cat([self.numbers, other.numbers]),
            labels=torch.cat([self.labels, other.labels]),
        )

    def to(self, device: torch.device | str) -> "StreamedSet":
        """The set itself: its images are read when they are needed."""
        return self

    def view_batches(
        self,
        policy: Policy,
        order: Tensor,
        seed: int,
        epoch: int,
        first: int = 0,
        device: torch.device | str = "cpu",
        positions: Tensor | None = None,
        views: int = 2,
    ) -> Iterator[tuple[DrawnViews, Tensor]]:
        """The views of all images of each batch from `first` on, drawn and yet to be made, and labels.

        order: (steps, N), the images of each step. Workers crop, all else is done on `device`.
        Crops depend on `seed`, `epoch` and the image, other parameters on `seed`, `epoch` and step.
        positions: which images of a batch are read, rising; of the others no views can be made.
        views: two of each image, or one, which is the first branch's.
        Labels are (N,), on the CPU: of the images read, where another took the place of one that can't be.
        """
        crop, crops, rest = split_crop(policy)
        crops = min(crops, views)
        batches = self.epoch(order[first:], crop, crops, seed, epoch, positions)
        n = order.shape[1]
        positions = torch.arange(n) if positions is None else positions
        # Parameters are drawn for the whole batch; an image that isn't there has any row.
        rows = torch.zeros(n, dtype=torch.long)
        rows[positions] = torch.arange(len(positions))
        for step, (images, labels_read) in enumerate(batches, first):
            draw = generator(seed, "views", epoch, step)
            images = images.to(device, non_blocking=True)
            labels = self.labels[order[step]]
            labels[positions] = labels_read
            if views == 1:
                yield rest.draw_one(images[:, 0], draw, rows=rows), labels
            elif crops == 1:
                yield rest.draw_two(images[:, 0], draw, rows), labels
            else:
                crops_of_all = images.transpose(0, 1).flatten(0, 1)
                pairs = torch.cat([rows, rows + len(positions)])
                yield rest.draw_one(crops_of_all, draw, in_pairs=True, rows=pairs), labels

    def epoch(
        self,
        order: Iterable[Tensor],
        crop: Crop,
        crops: int,
        seed: int,
        epoch: int,
        positions: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """For each of `order`, indices (B,): uint8 (B, crops, 3, S, S) and labels (B,).

        Windows are drawn by `crop` per (seed, epoch, image). An unreadable file raises ConfigError;
        with on_error=skip, a neighbour in the batch takes its place. positions: those of a batch to
        read, rising; None for all.
        """
        read = CropRead(crop, crops, seed, epoch, replace=self.on_error == "skip")
        return self._read(read, order, positions)

    def batches(self, batch_size: int, ranks: Ranks = SOLO) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in their order, for evaluation: uint8 (B, 3, S, S) and labels (B,).

        ranks: each reads every `count`-th batch.
        The short side is resized to 8/7 of the size (256 for 224) and the centre cropped. An
        unreadable file raises ConfigError, or is left out with on_error=skip.
        """
        read = CentreRead(round(self.size * 256 / 224), self.size)
        batches = torch.arange(len(self)).split(batch_size)
        return self._read(read, batches[ranks.index :: ranks.count])

    def _read(
        self, read: Read, batches: Iterable[Tensor], positions: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches, or those images of each at `positions`, read in the background, in their order."""
        sizes: list[int] = []
        failed = 0
        with naming_shared_memory("give compute.workers=0"):
            loader = iter(self._loader(self._parts(read, batches, positions, sizes)))
        # Parts are drawn ahead of reading, so the size of a batch is known once its first is read.
        for number in itertools.count():
            collected: list[tuple[Tensor, Tensor, list[str]]] = []
            for part in loader:
                if isinstance(part, StorageError):
                    raise part
                collected.append(part)
                if len(collected) == sizes[number]:
                    break
            if not collected:
                break
            images, used, problems = zip(*collected, strict=True)
            failed += sum(map(len, problems))
            reasons = [reason for part in problems for reason in part]
            empty = not all(map(len, used)) if read.replace else not any(map(len, used))
            if reasons and (self.on_error == "raise" or empty):
                raise unreadable_error(reasons[0])
            yield torch.cat(images), self.labels[torch.cat(used)]
        if failed:
            log.warning("left out %d unreadable images of %d", failed, len(self))

    def _parts(
        self, read: Read, batches: Iterable[Tensor], positions: Tensor | None, sizes: list[int]
    ) -> Iterator[Part]:
        """Each batch in parts, less those of which nothing is read; notes in `sizes` how many each has."""
        for batch in batches:
            wanted = torch.arange(len(batch)) if positions is None else positions
            pieces = [
                (indices, wanted[wanted // _PART == number] % _PART)
                for number, indices in enumerate(batch.split(_PART))
            ]
            pieces = [(indices, read_here) for indices, read_here in pieces if len(read_here)]
            sizes.append(len(pieces))
            for indices, read_here in pieces:
                names = [name.decode("utf-8", "surrogateescape") for name in self.names[indices]]
                numbers = self.numbers[indices].tolist()
                yield Part(read, names, numbers, indices.tolist(), read_here.tolist())

    def _loader(self, parts: Iterable[Part]) -> DataLoader:
        reader = PartReader(self.root)
        if self.workers == 0:
            return DataLoader(reader, batch_size=None, sampler=parts, generator=torch.Generator())
        return DataLoader(
            reader,
            batch_size=None,
            sampler=parts,
            num_workers=self.workers,
            # Its own generator: without one, every loader draws from torch's global one.
            generator=torch.Generator(),
            worker_init_fn=_init_worker,
            multiprocessing_context="fork",
        )


def open_streamed(
    root: str | Path, size: int, on_error: str, workers: int
) -> tuple[StreamedSet, StreamedSet]:
    """Training images and test images (of val/ or test/) of `root`. Raises ConfigError."""
    listing = list_images(root, "imagenet", on_error)

    def open_files(files: Files) -> StreamedSet:
        # One array of bytes: of a list of a million strings, each worker would come to own a copy.
        names = np.array([name.encode("utf-8", "surrogateescape") for name in files.names])
        numbers, labels = torch.arange(len(names)), torch.tensor(files.labels)
        return StreamedSet(
            listing.root, names, numbers, labels, listing.classes, size, on_error, workers
        )

    return open_files(listing.train), open_files(listing.test)


def split_crop(policy: Policy) -> tuple[Crop, int, Policy]:
    """A policy's leading crop, how many an image needs (1 where the views share it), and the rest.

    Raises ValueError where the policy doesn't begin with one crop for all views.
    """
    if policy.shared and isinstance(policy.shared[0], Crop):
        rest = Policy(policy.shared[1:], policy.first, policy.second, policy.chunk_bytes)
        return policy.shared[0], 1, rest
    alike = not policy.shared and policy.first == policy.second
    if alike and policy.first and isinstance(policy.first[0], Crop):
        after = policy.first[1:]
        return policy.first[0], 2, Policy((), after, after, policy.chunk_bytes)
    raise ValueError("a policy for streamed images must begin with the same crop in both branches")


def _init_worker(_: int) -> None:
    serve_parent()
