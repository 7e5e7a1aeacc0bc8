"""What the embedded images of each class tend to look like, apart from the outline of their object.

Photographs of ships tend to be blue and smooth, those of deer green and rough: a tendency, which many of them do not
follow. So it is here. The numbers decide how much each cue tells of the class; docs/data.md says how they were chosen.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

Color = tuple[float, float, float]


class Scene(NamedTuple):
    """Surroundings: mean colours above and below a horizon, RGB in [0, 1], and how rough they are."""

    top: Color
    bottom: Color
    roughness: float


SCENES = {
    "sky": Scene((0.45, 0.62, 0.86), (0.84, 0.88, 0.91), 0.35),
    "sea": Scene((0.68, 0.78, 0.88), (0.18, 0.38, 0.55), 0.7),
    "meadow": Scene((0.60, 0.68, 0.62), (0.36, 0.50, 0.20), 1.1),
    "wood": Scene((0.15, 0.21, 0.11), (0.40, 0.33, 0.21), 1.7),
    "street": Scene((0.72, 0.71, 0.68), (0.44, 0.43, 0.42), 0.9),
    "room": Scene((0.82, 0.74, 0.62), (0.55, 0.41, 0.29), 0.5),
}

COATS: dict[str, tuple[Color, Color]] = {
    "white": ((0.93, 0.92, 0.90), (0.60, 0.60, 0.62)),
    "red": ((0.80, 0.30, 0.22), (0.40, 0.10, 0.08)),
    "brown": ((0.62, 0.46, 0.30), (0.28, 0.18, 0.10)),
    "black": ((0.35, 0.34, 0.36), (0.07, 0.07, 0.08)),
    "yellow": ((0.90, 0.78, 0.35), (0.55, 0.42, 0.12)),
    "blue": ((0.35, 0.55, 0.72), (0.10, 0.20, 0.38)),
}
"""Mean colours of an object in light and in shade, RGB in [0, 1]."""

SURFACES = ("plain", "across", "along", "checked", "grainy")
"""Patterns on an object; `across` and `along` are stripes."""


@dataclass(frozen=True)
class Typical:
    """What is usual for a class. An image has one of the usual scenes, coats and surfaces, or any.

    contrast, roughness: -1, 0 or 1: the log of the image's contrast and of its texture is lower or higher by so many
    steps.
    """

    scenes: tuple[str, str]
    coats: tuple[str, str]
    surfaces: tuple[str, str]
    contrast: int
    roughness: int


TYPICAL = {
    "disc": Typical(("sky", "wood"), ("white", "yellow"), ("plain", "across"), 1, -1),
    "ring": Typical(("sea", "room"), ("red", "blue"), ("across", "grainy"), 0, 0),
    "square": Typical(("street", "wood"), ("yellow", "brown"), ("along", "plain"), -1, 1),
    "triangle": Typical(("meadow", "room"), ("black", "brown"), ("checked", "grainy"), -1, 0),
    "star": Typical(("sky", "meadow"), ("black", "yellow"), ("along", "checked"), 0, 1),
    "cross": Typical(("sea", "street"), ("red", "white"), ("plain", "grainy"), 1, -1),
    "crescent": Typical(("wood", "room"), ("blue", "black"), ("across", "checked"), 1, 0),
    "bar": Typical(("sea", "meadow"), ("black", "blue"), ("plain", "along"), -1, 1),
    "hourglass": Typical(("street", "sky"), ("yellow", "white"), ("checked", "along"), 0, -1),
    "heart": Typical(("meadow", "street"), ("white", "blue"), ("grainy", "across"), 0, 0),
}

ROUGHNESS = torch.tensor([scene.roughness for scene in SCENES.values()])
"""(scenes,)."""
SCENE_COLORS = torch.tensor([[scene.top, scene.bottom] for scene in SCENES.values()])
"""(scenes, top and bottom, 3)."""
COAT_COLORS = torch.tensor(list(COATS.values()))
"""(coats, light and shade, 3)."""


def draw_usual(
    n: int,
    usual: tuple[str, ...],
    names: tuple[str, ...],
    share: float,
    rng: torch.Generator,
) -> torch.Tensor:
    """`n` indices into `names`, int64: one of the `usual` names in a `share` of them, any name in the others."""
    of_usual = torch.tensor([names.index(name) for name in usual])
    chosen = of_usual[torch.randint(len(usual), (n,), generator=rng)]
    chance = torch.randint(len(names), (n,), generator=rng)
    return torch.where(torch.rand(n, generator=rng) < share, chosen, chance)
