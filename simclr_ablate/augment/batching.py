"""Changing the images of a batch in different ways without masks, by gathering those of a kind."""

import itertools
from collections.abc import Callable

from torch import Tensor

from simclr_ablate.device import is_accelerator

_SHORTEST_RUN = 8
"""Average number of images in a run from which working run by run beats gathering first (CPU)."""


def per_image(values: Tensor, images: Tensor) -> Tensor:
    """`values` (N,) as (N, 1, 1, 1), with the device and dtype of `images`."""
    return values.to(images.device, images.dtype).view(-1, 1, 1, 1)


def take(params: dict[str, Tensor], rows: Tensor | slice) -> dict[str, Tensor]:
    """The parameters of some images."""
    return {name: values[rows] for name, values in params.items()}


def change_kinds(
    images: Tensor, kinds: Tensor, function: Callable[[int, Tensor, Tensor | slice], Tensor]
) -> Tensor:
    """Overwrites images by `function(kind, images of the kind, their rows)`; returns `images`.

    kinds: (N,) whole numbers. If images of a kind are neighbours already, as in a policy, no image is copied back and
        forth.
    function: keeps the images' shape and treats every image on its own. It may be called several times for a kind, and
        may work in place.
    """
    runs = [(kind, len(list(group))) for kind, group in itertools.groupby(kinds.tolist())]
    present = len({kind for kind, _ in runs})
    if len(runs) > max(
        present, 0 if is_accelerator(images.device) else len(images) // _SHORTEST_RUN
    ):
        order = kinds.cpu().argsort(stable=True)
        gathered = images.index_select(0, order.to(images.device))
        change_kinds(gathered, kinds[order], lambda k, part, rows: function(k, part, order[rows]))
        return images.index_copy_(0, order.to(images.device), gathered)
    start = 0
    for kind, length in runs:
        rows = slice(start, start + length)
        part = images[rows]
        changed = function(kind, part, rows)
        if changed is not part:
            part.copy_(changed)
        start = rows.stop
    return images
