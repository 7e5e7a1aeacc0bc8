"""The operations that Figure 5 composes, by name, and users' own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simclr_ablate import own
from simclr_ablate.augment.libraries import library_operations
from simclr_ablate.augment.operations import (
    ColorJitter,
    Cutout,
    Equalize,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    MotionBlur,
    Operation,
    RandomApply,
    RandomResizedCrop,
    Rotate,
    Sobel,
    Solarize,
)
from simclr_ablate.calls import is_of_library
from simclr_ablate.config import ConfigError


@dataclass(frozen=True)
class Magnitudes:
    """What operations need to know: the side of a view, and keys of the config's `views`."""

    size: int
    strength: float = 1.0
    color: str = "pytorch"
    crop_area: float = 0.08
    interpolation: str = "bicubic"
    flip: bool = True

    def crop(self) -> RandomResizedCrop:
        """The random resized crop of these magnitudes."""
        return RandomResizedCrop(self.size, self.crop_area, self.interpolation, self.flip)


Maker = Callable[[Magnitudes], Sequence[Operation]]

OPERATIONS: dict[str, Maker] = {
    "crop": lambda m: [m.crop()],
    "cutout": lambda m: [Cutout()],
    # All of App. A's color distortion, with its own probabilities.
    "color": lambda m: [
        RandomApply(ColorJitter(m.strength, m.color), 0.8),
        RandomApply(Grayscale(), 0.2),
    ],
    "sobel": lambda m: [Sobel()],
    "noise": lambda m: [GaussianNoise()],
    "blur": lambda m: [GaussianBlur()],
    "rotate": lambda m: [Rotate()],
}
"""Figure 5's seven operations, in its order."""

BROADER = (Equalize(), Solarize(), Sobel(), MotionBlur())
"""The operations that App. B.2 adds to SimCLR's policy, which does not say in what order."""


def make_operations(name: str, magnitudes: Magnitudes, key: str = "views.first") -> list[Operation]:
    """The operations called `name`, the value of `key`.

    A name `package.module:function` is a user's own Maker; `torchvision:NAME` and `kornia:NAME` are transforms of these
    libraries, which know nothing of magnitudes.

    Raises ConfigError if there are none, or if a user's own Maker fails or makes something else.
    """
    if name in OPERATIONS:
        return list(OPERATIONS[name](magnitudes))
    if is_of_library(name):
        return library_operations(name, magnitudes.size, key)
    maker = own.find(key, name, OPERATIONS)
    with own.blamed(f"{key}={name}", "make operations from the magnitudes"):
        made = maker(magnitudes)
    if not isinstance(made, list | tuple) or not all(isinstance(o, Operation) for o in made):
        raise ConfigError(f"{key}={name} must make a list of Operations, got {made!r}")
    return list(made)
