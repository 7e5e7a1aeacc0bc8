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
from simclr_ablate.data.kept_listing import FileArray, list_streamed
from simclr_ablate.data.processes import naming_shared_memory, serve_parent
from simclr_ablate.data.reading import CentreRead, CropRead, Part, PartReader, Read
from simclr_ablate.device import send_ahead
from simclr_ablate.files import StorageError
from simclr_ablate.freed_memory import keep_freed_memory
from simclr_ablate.randomness import generator
from simclr_ablate.ranks import SOLO, Ranks

log = logging.getLogger(__name__)

_PART = 32
"""Number of images that a worker reads at a time: all workers share the parts of the next batch."""

Crop = RandomResizedCrop | Resize


@dataclass(frozen=True)
class StreamedSet:
    """Images in files, with labels; batches are uint8 on the CPU.

    names: (N,) bytes, paths relative to `root`.
    numbers: (N,) int64, each image's own number, from which its crops are drawn, whatever subset it is in.
    workers: number of processes that read; 0: this process reads.
    exact: whether crops are exactly Pillow's.
    """

    root: Path
    names: np.ndarray
    numbers: Tensor
    labels: Tensor
    classes: list[str]
    size: int
    on_error: str
    workers: int
    exact: bool = True

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
        """This set and `other`, both subsets of one set, as one."""
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
        """The views of each batch from step `first` on, drawn but not made yet, and labels.

        Workers crop; everything else is done on `device`. Crops depend on `seed`, `epoch` and the image,
        other parameters on `seed`, `epoch` and step. Labels are (N,), on the CPU; an image that replaces
        one that can't be read comes with its own label.

        order: (steps, N), the images of each step.
        positions: which images of a batch are read, in rising order; no views can be made of the others.
        views: views of each image: 2, or 1, which is the first branch's.
        """
        crop, crops, rest = split_crop(policy)
        crops = min(crops, views)
        batches = self.epoch(order[first:], crop, crops, seed, epoch, positions)
        n = order.shape[1]
        positions = torch.arange(n) if positions is None else positions
        # Parameters are drawn for the whole batch; the row of an image that isn't read is arbitrary.
        rows = torch.zeros(n, dtype=torch.long)
        rows[positions] = torch.arange(len(positions))
        sent = send_ahead(batches, torch.device(device))
        for step, (images, labels_read) in enumerate(sent, first):
            draw = generator(seed, "views", epoch, step)
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
        """Crops, uint8 (B, crops, 3, S, S), and labels (B,) of each batch in `order`, indices (B,).

        `crop` draws windows per (seed, epoch, image). An unreadable file raises ConfigError; with
        on_error=skip, a neighbour in the batch replaces it.

        positions: which images of a batch to read, in rising order; None for all.
        """
        read = CropRead(crop, crops, seed, epoch, self.on_error == "skip", self.exact)
        return self._read(read, order, positions)

    def batches(self, batch_size: int, ranks: Ranks = SOLO) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, for evaluation: uint8 (B, 3, S, S) and labels (B,).

        The short side is resized to 8/7 of the size (256 for 224) and the centre is cropped. An
        unreadable file raises ConfigError, or is left out with on_error=skip.

        ranks: each rank reads every `count`-th batch.
        """
        read = CentreRead(round(self.size * 256 / 224), self.size)
        batches = torch.arange(len(self)).split(batch_size)
        return self._read(read, batches[ranks.index :: ranks.count])

    def _read(
        self, read: Read, batches: Iterable[Tensor], positions: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Reads the batches, or the images of each at `positions`, in the background; yields them in order."""
        sizes: list[int] = []
        failed = 0
        with naming_shared_memory("set compute.workers=0"):
            loader = iter(self._loader(self._parts(read, batches, positions, sizes)))
        # Parts are made ahead of reading: once a batch's first is read, their number is known.
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
        """Each batch in parts, without those of which nothing is read; appends each batch's number to `sizes`."""
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
    root: str | Path,
    size: int,
    on_error: str,
    workers: int,
    exact: bool = True,
    cache: Path | None = None,
) -> tuple[StreamedSet, StreamedSet]:
    """Training images and test images (in val/ or test/) of `root`. Raises ConfigError.

    cache: where the list of files is kept; None: they are listed anew.
    """
    listing = list_streamed(root, on_error, cache)

    def open_files(files: FileArray) -> StreamedSet:
        numbers, labels = torch.arange(len(files.names)), torch.from_numpy(files.labels)
        # Names stay one array: each worker would end up with its own copy of a list of a million strings.
        return StreamedSet(
            listing.root,
            files.names,
            numbers,
            labels,
            listing.classes,
            size,
            on_error,
            workers,
            exact,
        )

    return open_files(listing.train), open_files(listing.test)


def split_crop(policy: Policy) -> tuple[Crop, int, Policy]:
    """A policy's leading crop, how many crops an image needs (1 if its views share one), and the rest.

    Raises ValueError if the policy doesn't begin with the same crop for all views.
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
    keep_freed_memory()  # also where no run's process, which does so, is the parent
    serve_parent()
