"""The embedded data set: ten shapes drawn from a seed, with which everything runs offline in minutes.

It follows the argument of SimCLR's Section 3.1: two crops of one image share a distribution of
colours, so colours alone can solve the contrastive task. Here, each image has its own palette, which
object, background and clutter share. The class is the geometry of one object; colours say nothing
about it.
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
from simclr_ablate.data.sizes import SHAPES_TEST, SHAPES_TRAIN, SHAPES_VERSION
from simclr_ablate.randomness import generator

SIDE = 32
"""Side of an image, pixels."""

_PIXEL = 2 / SIDE
_CHUNK = 256
_CLUTTER = 2
# Photographs vary more in lightness than in hue; so do these palettes.
_CHROMA = 0.4
# Objects lean at most this far: like things in photographs, they have an upright position.
_TILT = math.pi / 5

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
            images[chunk] = _draw(OUTLINES[name], len(chunk), drawn)
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


def _draw(outline: Outline, n: int, rng: torch.Generator) -> Tensor:
    """`n` images of one class, uint8.

    Until its colours are looked up, an image is a field of palette positions, one number per pixel:
    this is how object, background and clutter share their colours.
    """
    x, y = _grid()
    background, foreground = _levels(n, rng)
    field = background + _texture(n, rng)
    for _ in range(_CLUTTER):
        field = _add_clutter(field, rng)
    pose = _Pose.draw(n, rng)
    light_x, light_y = _directions(n, rng)
    inside = _coverage(outline(*pose.to_object(x, y)), pose.pixel)
    reach = _uniform(n, 1.0, 3.0, rng) * _PIXEL
    shadow = outline(*pose.to_object(x - reach * light_x, y - reach * light_y))
    cast = _coverage(shadow, 4 * pose.pixel) * (1 - inside) * _uniform(n, 0.0, 0.4, rng)
    field = torch.lerp(field, foreground + _texture(n, rng), inside)
    slope = _uniform(n, 0.0, 0.3, rng)
    light = (1 - cast) * (1 - slope * (light_x * x + light_y * y))
    return _to_pixels(_look_up(_palette(n, rng), field) * light[:, None], rng)


@dataclass(frozen=True)
class _Pose:
    """Where each object is; tensors (n, 1, 1). Lengths are in halves of the image's side."""

    centre_x: Tensor
    centre_y: Tensor
    cos: Tensor
    sin: Tensor
    radius: Tensor
    stretch: Tensor

    @classmethod
    def draw(cls, n: int, rng: torch.Generator) -> "_Pose":
        radius = _uniform(n, 0.7, 1.0, rng)
        room = 1.1 - radius
        tilt = _uniform(n, -_TILT, _TILT, rng)
        return cls(
            room * _uniform(n, -1.0, 1.0, rng),
            room * _uniform(n, -1.0, 1.0, rng),
            tilt.cos(),
            tilt.sin(),
            radius,
            torch.exp(_uniform(n, -0.12, 0.12, rng)),
        )

    @property
    def pixel(self) -> Tensor:
        """Width of a pixel in the object's frame."""
        return _PIXEL / self.radius

    def to_object(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Maps coordinates of the image to the object's frame, in which y points up."""
        x, y = (x - self.centre_x) / self.radius, (y - self.centre_y) / self.radius
        turned_x, turned_y = x * self.cos + y * self.sin, x * self.sin - y * self.cos
        return turned_x * self.stretch, turned_y / self.stretch


def _grid() -> tuple[Tensor, Tensor]:
    """Centres of the pixels, x (1, 1, SIDE) and y (1, SIDE, 1), in [-1, 1]."""
    centres = (torch.arange(SIDE) + 0.5) * _PIXEL - 1
    return centres[None, None, :], centres[None, :, None]


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return torch.rand(n, 1, 1, generator=rng) * (high - low) + low


def _directions(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    angle = _uniform(n, 0.0, 2 * math.pi, rng)
    return angle.cos(), angle.sin()


def _coverage(distance: Tensor, width: Tensor) -> Tensor:
    """Share of each pixel inside an outline with an edge softened over `width`."""
    return (0.5 - distance / width).clamp(0, 1)


def _levels(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Palette positions of background and object: far apart, with either one the higher."""
    low = _uniform(n, 0.12, 0.3, rng)
    high = low + _uniform(n, 0.45, 0.6, rng)
    swap = torch.rand(n, 1, 1, generator=rng) < 0.5
    return torch.where(swap, high, low), torch.where(swap, low, high)


def _texture(n: int, rng: torch.Generator) -> Tensor:
    """A random surface (n, SIDE, SIDE) around 0: blotches of several sizes, and stripes on some."""
    surface = torch.zeros(n, SIDE, SIDE)
    for cells, most in ((4, 0.09), (9, 0.065), (18, 0.05)):
        noise = torch.rand(n, 1, cells, cells, generator=rng) - 0.5
        blotches = F.interpolate(noise, SIDE, mode="bilinear", align_corners=True)[:, 0]
        surface += blotches * _uniform(n, 0.0, 2 * most, rng)
    x, y = _grid()
    cos, sin = _directions(n, rng)
    cycles = _uniform(n, 1.5, 6.0, rng) * math.pi
    stripes = torch.sin((x * cos + y * sin) * cycles + _uniform(n, 0.0, 2 * math.pi, rng))
    striped = torch.rand(n, 1, 1, generator=rng) < 0.4
    return surface + stripes * striped * _uniform(n, 0.015, 0.045, rng)


def _add_clutter(field: Tensor, rng: torch.Generator) -> Tensor:
    """Draws one small blob or stroke over each image, or none, at any palette position."""
    n = len(field)
    x, y = _grid()
    cos, sin = _directions(n, rng)
    x, y = x - _uniform(n, -1.0, 1.0, rng), y - _uniform(n, -1.0, 1.0, rng)
    x, y = x * cos + y * sin, y * cos - x * sin
    short = _uniform(n, 0.05, 0.17, rng)
    long = short * _uniform(n, 1.0, 4.0, rng)
    distance = (torch.hypot(x / long, y / short) - 1) * short
    shown = torch.rand(n, 1, 1, generator=rng) < 0.7
    inside = _coverage(distance, torch.tensor(_PIXEL)) * shown
    return torch.lerp(field, _uniform(n, 0.0, 1.0, rng).expand_as(field), inside)


def _palette(n: int, rng: torch.Generator) -> Tensor:
    """Colours of each image, (n, 3 colours, 3 channels): two ends that differ in lightness, and a middle."""
    first = torch.rand(n, 1, 3, generator=rng)
    others = torch.rand(n, 6, 3, generator=rng)
    farthest = (others - first).sum(2).abs().argmax(1)
    last = others[torch.arange(n), farthest][:, None]
    bend = (torch.rand(n, 1, 3, generator=rng) - 0.5) * 0.6
    palette = torch.cat([first, (first + last) / 2 + bend, last], 1)
    return torch.lerp(palette.mean(2, keepdim=True), palette, _CHROMA)


def _look_up(palette: Tensor, field: Tensor) -> Tensor:
    """Colours (n, 3, SIDE, SIDE) at positions `field` (n, SIDE, SIDE) of each image's palette."""
    position = field[:, None].clamp(0, 1)
    weights = (1 - 2 * position).clamp(min=0), (2 * position - 1).clamp(min=0)
    first, middle, last = palette[..., None, None].unbind(1)
    return middle + weights[0] * (first - middle) + weights[1] * (last - middle)


def _to_pixels(colours: Tensor, rng: torch.Generator) -> Tensor:
    """Adds the sensor's noise and rounds to uint8."""
    noise = torch.randn(colours.shape, generator=rng) * 0.015
    return ((colours + noise).clamp(0, 1) * 255).round().to(torch.uint8)
