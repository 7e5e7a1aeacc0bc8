"""Changing the images of a batch in different ways without masks, by gathering those of a kind."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from simclr_ablate.device import is_accelerator

_SHORTEST_RUN = 8
"""Average number of images in a run from which working run by run beats gathering first (CPU)."""


class Run(NamedTuple):
    """Neighbours of one kind."""

    kind: int
    rows: slice


class Kinds(NamedTuple):
    """Which images of a batch are of which kind, as the CPU has to know it."""

    runs: list[Run]
    order: Tensor | None
    """(N,), the images in the order of `runs`; None for that of the batch."""

    @classmethod
    def of(cls, kinds: Tensor, device: torch.device) -> "Kinds":
        """The images in runs of a kind: as they are if these are long, else with all of a kind side by side.

        kinds: (N,) whole numbers, on the CPU. device: that of the images.
        """
        runs = _runs(kinds)
        present = len({run.kind for run in runs})
        # Every run is a launch on an accelerator.
        most = max(present, 0 if is_accelerator(device) else len(kinds) // _SHORTEST_RUN)
        if len(runs) <= most:
            return cls(runs, None)
        order = kinds.argsort(stable=True)
        return cls(_runs(kinds[order]), order)

    def take(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """The images' parameters in the order of `runs`."""
        return params if self.order is None else take(params, self.order)


def _runs(kinds: Tensor) -> list[Run]:
    lengths = [(kind, len(list(group))) for kind, group in itertools.groupby(kinds.tolist())]
    stops = itertools.accumulate(length for _, length in lengths)
    return [Run(kind, slice(b - n, b)) for (kind, n), b in zip(lengths, stops, strict=True)]


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """`values` (N,) as (N, 1, 1, 1), with the device and dtype of `images`."""
    return values.to(images.device, images.dtype).view(-1, 1, 1, 1)


def take(params: dict[str, Tensor], rows: Tensor | slice) -> dict[str, Tensor]:
    """The parameters of some images."""
    return {name: values[rows] for name, values in params.items()}


def change_kinds(
    images: Tensor, kinds: Kinds, function: Callable[[int, Tensor, Run], Tensor]
) -> Tensor:
    """Overwrites images by `function(number of the run, its images, the run)`; returns `images`.

    If images of a kind are neighbours already, as in a policy, no image is copied back and forth.

    function: keeps the images' shape and treats every image on its own. It may be called several times for a kind, and
        may work in place. The run's rows are those of the images in the order of `kinds.runs`.
    """
    gathered = images if kinds.order is None else images.index_select(0, kinds.order)
    for number, run in enumerate(kinds.runs):
        part = gathered[run.rows]
        changed = function(number, part, run)
        if changed is not part:
            part.copy_(changed)
    return images if kinds.order is None else images.index_copy_(0, kinds.order, gathered)
