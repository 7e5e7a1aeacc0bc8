"""Views of test images: the two of SimCLR's policy (Figure 2), and one of each operation (Figure 4).

They have a module of their own, since they are made again if it changes (`images.kept_of_images`).
"""

from typing import TYPE_CHECKING

from .cache import Arrays
from .images import Source, to_bytes

if TYPE_CHECKING:
    from simclr_ablate.augment.operations import Operation

OPERATORS = {
    "original": "Original",
    "crop": "Crop and resize",
    "flip": "Crop, resize and flip",
    "drop": "Colour distortion (drop)",
    "jitter": "Colour distortion (jitter)",
    "rotate": "Rotate",
    "cutout": "Cutout",
    "noise": "Gaussian noise",
    "blur": "Gaussian blur",
    "sobel": "Sobel filtering",
}
"""Figure 4's panels, in its order."""

_DRAWS = 32
"""How many draws an operation has; the first that fits its panel is shown. All but the crop's do."""


def two_views(source: Source) -> Arrays:
    """An image, (3, S, S), and its two views, (2, 3, S, S), by SimCLR's policy. All are uint8."""
    from simclr_ablate.augment.policies import simclr_policy
    from simclr_ablate.randomness import generator

    image = source.images(1)
    views = simclr_policy(source.size).two_views(image, generator(source.seed, "figure2"))
    return {"image": image[0].numpy(), "views": to_bytes(views)}


def operators(source: Source) -> Arrays:
    """An image after each of OPERATORS, (3, S, S) uint8 by its name, and the parameters drawn, as `NAME.PARAMETER`."""
    from simclr_ablate.augment.batching import take
    from simclr_ablate.augment.policies import to_float
    from simclr_ablate.randomness import generator

    image = to_float(source.images(1))
    made = {"original": to_bytes(image)[0]}
    for name, operation in _operations(source.size).items():
        side = source.size
        drawn = operation.draw(_DRAWS, side, side, generator(source.seed, "figure4"))
        fitting = drawn["flip"] == (name == "flip") if "flip" in drawn else None
        row = 0 if fitting is None else int(fitting.long().argmax())
        of_row = take(drawn, slice(row, row + 1))
        made[name] = to_bytes(operation(image, of_row))[0]
        made |= {
            f"{name}.{key}": value[0].numpy() for key, value in of_row.items() if value.dim() == 1
        }
    return made


def _operations(size: int) -> "dict[str, Operation]":
    """The operation behind each panel but the first."""
    from simclr_ablate.augment.operations import ColorJitter, Grayscale
    from simclr_ablate.augment.registry import Magnitudes, make_operations

    others = ("rotate", "cutout", "noise", "blur", "sobel")
    (crop,) = make_operations("crop", Magnitudes(size))
    named = {name: make_operations(name, Magnitudes(size))[0] for name in others}
    return {"crop": crop, "flip": crop, "drop": Grayscale(), "jitter": ColorJitter(), **named}
