"""The operations that Figure 5 composes, by name, and the user's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simclr_ablate.augment.operations import (
    ColorJitter,
    Cutout,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    Operation,
    RandomApply,
    RandomResizedCrop,
    Rotate,
    Sobel,
)


@dataclass(frozen=True)
class Magnitudes:
    """What operations need to know of a policy: their side, and settings of a config's `views`."""

    size: int
    strength: float = 1.0
    brightness: str = "additive"
    crop_area: float = 0.08
    interpolation: str = "bicubic"


Maker = Callable[[Magnitudes], Sequence[Operation]]

OPERATIONS: dict[str, Maker] = {
    "crop": lambda m: [RandomResizedCrop(m.size, m.crop_area, m.interpolation)],
    "cutout": lambda m: [Cutout()],
    # The whole of App. A's color distortion, so its own probabilities stay.
    "color": lambda m: [
        RandomApply(ColorJitter(m.strength, m.brightness), 0.8),
        RandomApply(Grayscale(), 0.2),
    ],
    "sobel": lambda m: [Sobel()],
    "noise": lambda m: [GaussianNoise()],
    "blur": lambda m: [GaussianBlur()],
    "rotate": lambda m: [Rotate()],
}
"""The operations a pair can name: Figure 5's seven in its order, then registered ones."""


def register(name: str, maker: Maker) -> None:
    """Adds an operation, e.g. `register("invert", lambda magnitudes: [Solarize(threshold=0)])`.

    Raises ValueError when the name is taken.
    """
    if name in OPERATIONS:
        raise ValueError(f"operation name must be a new one, got {name!r}")
    OPERATIONS[name] = maker


def make_operations(name: str, magnitudes: Magnitudes) -> list[Operation]:
    """The operations called `name`. Raises ValueError when there are none."""
    if name not in OPERATIONS:
        raise ValueError(f"operation must be one of {', '.join(OPERATIONS)}, got {name!r}")
    return list(OPERATIONS[name](magnitudes))
