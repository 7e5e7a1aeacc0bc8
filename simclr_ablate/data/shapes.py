"""The embedded data set: ten shapes drawn from a seed, with which everything runs offline in minutes.

They stand for small photographs. The class is the outline of one object, bent out of shape as things in photographs
are; its colours, its surface and its surroundings tell a little of the class as well (`simclr_ablate.data.typical`).
What simple classifiers can make of each cue equals what they can make of CIFAR-10: see docs/data.md.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_ablate.data.cache import build_once, save_set
from simclr_ablate.data.in_memory import ImageSet, open_set
from simclr_ablate.data.outlines import OUTLINES, Outline
from simclr_ablate.data.sizes import SHAPES_TEST, SHAPES_TRAIN
from simclr_ablate.data.typical import (
    COAT_COLORS,
    COATS,
    ROUGHNESS,
    SCENE_COLORS,
    SCENES,
    SURFACES,
    TYPICAL,
    Typical,
    draw_usual,
)
from simclr_ablate.randomness import generator
from simclr_ablate.schema import SHAPES_VERSION

SIDE = 32
"""Side of an image, pixels."""

_PIXEL = 2 / SIDE
_CHUNK = 256

# In how many images scene, coat and surface are of the class's usual ones.
_USUAL_SCENE, _USUAL_COAT, _USUAL_SURFACE = 0.64, 0.72, 0.4
# Means and steps, by which classes differ, of logarithms, and the scatter of images around them.
_VIVIDNESS, _VIVIDNESS_SCATTER = -1.15, 0.35
_CONTRAST, _CONTRAST_SCATTER = 0.25, 0.2
_ROUGHNESS, _ROUGHNESS_SCATTER = 0.75, 0.3
# Scatter of colours around their means, of all channels at once and of each.
_LIGHTNESS, _HUE = 0.035, 0.08
_LIGHT = 0.13
_BEND = 0.35
# Objects lean at most this far: like things in photographs, they have an upright position.
_TILT = 0.25
_CLUTTER = 3

SHAPE_CLASSES: list[str] = list(OUTLINES)


def make_shapes(n: int, seed: int, split: str = "train") -> tuple[Tensor, Tensor]:
    """`n` images, uint8 (n, 3, 32, 32), and labels, int64 (n,), which are indices into `SHAPE_CLASSES`.

    Classes are balanced (their counts differ by at most 1) and shuffled. `split` names an
    independent draw: train and test share no random number.
    """
    images = torch.empty(n, 3, SIDE, SIDE, dtype=torch.uint8)
    labels = torch.arange(n) % len(SHAPE_CLASSES)
    order = torch.randperm(n, generator=generator(seed, f"shapes/{split}/order"))
    for label, name in enumerate(SHAPE_CLASSES):
        rows = order[labels == label]
        for number, start in enumerate(range(0, len(rows), _CHUNK)):
            chunk = rows[start : start + _CHUNK]
            drawn = generator(seed, f"shapes/{split}", label, number)
            images[chunk] = _draw(OUTLINES[name], TYPICAL[name], len(chunk), drawn)
    shuffled = torch.empty_like(labels)
    shuffled[order] = labels
    return images, shuffled


def open_shapes(cache: Path, seed: int) -> tuple[ImageSet, ImageSet]:
    """Training and test images of `seed`, drawn once and then memory-mapped from `cache`."""

    def open_split(split: str, n: int) -> ImageSet:
        name = f"shapes-v{SHAPES_VERSION}-{split}-{n}-seed{seed}"

        def build(folder: Path) -> None:
            images, labels = make_shapes(n, seed, split)
            save_set(folder, images.numpy(), labels.numpy(), SHAPE_CLASSES)

        return open_set(build_once(cache, name, build))

    return open_split("train", SHAPES_TRAIN), open_split("test", SHAPES_TEST)


def _draw(outline: Outline, typical: Typical, n: int, rng: torch.Generator) -> Tensor:
    """`n` images of one class, uint8."""
    roughness = _log_normal(n, _ROUGHNESS * typical.roughness, _ROUGHNESS_SCATTER, rng)
    images = _surroundings(typical, roughness, n, rng)
    pose = _Pose.draw(n, rng)
    x, y = pose.to_object(*_grid(), rng)
    inside = _coverage(outline(x, y), pose.pixel) * _uniform(n, 0.5, 1.0, rng)
    images = torch.lerp(images, _object(x, y, typical, roughness, n, rng), inside[:, None])
    return _to_pixels(_develop(images, typical, rng), rng)


def _surroundings(typical: Typical, roughness: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """What is around the object, (n, 3, SIDE, SIDE): a textured scene with a horizon, and clutter."""
    _, y = _grid()
    scene = draw_usual(n, typical.scenes, tuple(SCENES), _USUAL_SCENE, rng)
    colors = _scattered(SCENE_COLORS[scene], rng)
    horizon = torch.randn(n, 1, 1, generator=rng) * 0.35 + 0.1
    below = ((y - horizon) / _uniform(n, 0.1, 0.8, rng) + 0.5).clamp(0, 1)
    top, bottom = colors[..., None, None].unbind(1)
    texture = _texture(n, rng) * roughness * ROUGHNESS[scene][:, None, None]
    tint = 1 + torch.randn(n, 3, 1, 1, generator=rng) * 0.3
    images = torch.lerp(top, bottom, below[:, None]) + texture[:, None] * tint
    for _ in range(_CLUTTER):
        images = _add_clutter(images, colors.mean(1), rng)
    return images


def _object(
    x: Tensor, y: Tensor, typical: Typical, roughness: Tensor, n: int, rng: torch.Generator
) -> Tensor:
    """The object's surface at its own coordinates, (n, 3, SIDE, SIDE): between its colours in light and in shade."""
    coat = draw_usual(n, typical.coats, tuple(COATS), _USUAL_COAT, rng)
    light, shade = _scattered(COAT_COLORS[coat], rng)[..., None, None].unbind(1)
    pattern = _pattern(x, y, draw_usual(n, typical.surfaces, SURFACES, _USUAL_SURFACE, rng), rng)
    light_x, light_y = _directions(n, rng)
    slope = 0.35 * (x * light_x + y * light_y) * _uniform(n, 0.0, 1.0, rng)
    position = 0.5 + pattern * _uniform(n, 0.2, 1.0, rng) + slope
    position += _texture(n, rng) * roughness
    return torch.lerp(shade, light, position.clamp(-0.2, 1.2)[:, None])


def _pattern(x: Tensor, y: Tensor, surface: Tensor, rng: torch.Generator) -> Tensor:
    """Each object's pattern (n, SIDE, SIDE) around 0. surface: indices into SURFACES."""
    n = len(surface)
    chosen = {name: (surface == SURFACES.index(name))[:, None, None] for name in SURFACES}
    turn = torch.where(chosen["across"], math.pi / 2, 0.0) + _uniform(n, -0.35, 0.35, rng)
    cycles, phase = _uniform(n, 2.0, 4.5, rng) * math.pi, _uniform(n, 0.0, 2 * math.pi, rng)
    along = torch.sin((x * turn.cos() + y * turn.sin()) * cycles + phase)
    across = torch.sin((y * turn.cos() - x * turn.sin()) * cycles + phase)
    pattern = 0.35 * along * (chosen["across"] | chosen["along"])
    pattern += 0.5 * along * across * chosen["checked"]
    grains = torch.rand(n, SIDE, SIDE, generator=rng) - 0.5
    return pattern + 0.8 * grains * chosen["grainy"]


@dataclass(frozen=True)
class _Pose:
    """How each object lies in the middle of its image; tensors (n, 1, 1). Lengths are in halves of the image's side."""

    cos: Tensor
    sin: Tensor
    radius: Tensor
    stretch: Tensor
    side: Tensor
    """1, or -1 for a mirrored object."""

    @classmethod
    def draw(cls, n: int, rng: torch.Generator) -> "_Pose":
        tilt = _uniform(n, -_TILT, _TILT, rng)
        return cls(
            tilt.cos(),
            tilt.sin(),
            _uniform(n, 0.55, 1.0, rng),
            torch.exp(_uniform(n, -0.25, 0.25, rng)),
            torch.where(torch.rand(n, 1, 1, generator=rng) < 0.5, 1.0, -1.0),
        )

    @property
    def pixel(self) -> Tensor:
        """Width of a pixel in the object's frame."""
        return _PIXEL / self.radius

    def to_object(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Maps coordinates of the image to the object's frame, in which y points up, and bends that at random."""
        x, y = x / self.radius, y / self.radius
        turned_x, turned_y = x * self.cos + y * self.sin, x * self.sin - y * self.cos
        knots = torch.randn(len(self.radius), 2, 4, 4, generator=rng)
        bent = _BEND * F.interpolate(knots, SIDE, mode="bicubic", align_corners=True)
        return turned_x * self.stretch * self.side + bent[:, 0], turned_y / self.stretch + bent[
            :, 1
        ]


def _grid() -> tuple[Tensor, Tensor]:
    """Centres of the pixels, x (1, 1, SIDE) and y (1, SIDE, 1), in [-1, 1]; y points down."""
    centres = (torch.arange(SIDE) + 0.5) * _PIXEL - 1
    return centres[None, None, :], centres[None, :, None]


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return torch.rand(n, 1, 1, generator=rng) * (high - low) + low


def _log_normal(n: int, mean: float, scatter: float, rng: torch.Generator) -> Tensor:
    return torch.exp(torch.randn(n, 1, 1, generator=rng) * scatter + mean)


def _directions(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    angle = _uniform(n, 0.0, 2 * math.pi, rng)
    return angle.cos(), angle.sin()


def _coverage(distance: Tensor, width: Tensor | float) -> Tensor:
    """Share of each pixel inside an outline with an edge softened over `width`."""
    return (0.5 - distance / width).clamp(0, 1)


def _scattered(colors: Tensor, rng: torch.Generator) -> Tensor:
    """Each image's own colours (n, 2, 3) around means of that shape."""
    hue = torch.randn(colors.shape, generator=rng) * _HUE
    return colors + hue + torch.randn(len(colors), 1, 1, generator=rng) * _LIGHTNESS


def _texture(n: int, rng: torch.Generator) -> Tensor:
    """A random surface (n, SIDE, SIDE) around 0: blotches of several sizes, the coarse ones stronger."""
    surface = torch.zeros(n, SIDE, SIDE)
    for cells, most in ((3, 0.18), (6, 0.12), (12, 0.09), (24, 0.06)):
        noise = torch.rand(n, 1, cells, cells, generator=rng) - 0.5
        blotches = F.interpolate(noise, SIDE, mode="bilinear", align_corners=True)[:, 0]
        surface += blotches * _uniform(n, 0.0, 2 * most, rng)
    return surface


def _add_clutter(images: Tensor, around: Tensor, rng: torch.Generator) -> Tensor:
    """Draws one small blob or stroke over each image, or none. around: mean colours of the scenes, (n, 3)."""
    n = len(images)
    x, y = _grid()
    cos, sin = _directions(n, rng)
    x, y = x - _uniform(n, -1.0, 1.0, rng), y - _uniform(n, -1.0, 1.0, rng)
    x, y = x * cos + y * sin, y * cos - x * sin
    short = _uniform(n, 0.05, 0.25, rng)
    long = short * _uniform(n, 1.0, 4.0, rng)
    distance = (torch.hypot(x / long, y / short) - 1) * short
    shown = torch.rand(n, 1, 1, generator=rng) < 0.7
    light, shade = COAT_COLORS[torch.randint(len(COATS), (n,), generator=rng)].unbind(1)
    color = torch.lerp(light, shade, torch.rand(n, 1, generator=rng))
    color = torch.lerp(color, around, torch.rand(n, 1, generator=rng) * 0.8)
    inside = _coverage(distance, _PIXEL) * shown
    return torch.lerp(images, color[..., None, None], inside[:, None])


def _develop(images: Tensor, typical: Typical, rng: torch.Generator) -> Tensor:
    """The images with the saturation, the contrast and the light that they are taken with."""
    n = len(images)
    vividness = _log_normal(n, _VIVIDNESS, _VIVIDNESS_SCATTER, rng)
    contrast = _log_normal(n, _CONTRAST * typical.contrast, _CONTRAST_SCATTER, rng)
    images = torch.lerp(images.mean(1, keepdim=True), images, vividness[:, None])
    images = (images - 0.5) * contrast[:, None] + 0.5
    return images * _log_normal(n, 0.0, _LIGHT, rng)[:, None]


def _to_pixels(colors: Tensor, rng: torch.Generator) -> Tensor:
    """Adds the sensor's noise and rounds to uint8."""
    noise = torch.randn(colors.shape, generator=rng) * 0.012
    return ((colors + noise).clamp(0, 1) * 255).round().to(torch.uint8)
