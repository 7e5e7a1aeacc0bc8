"""The ten outlines of the shapes, as signed distances in the object's own frame.

A distance is below 0 inside; x points right and y up. Every object has a radius of about 1 and an
area of about 2: the share of the image that it covers says little about its class.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Outline = Callable[[Tensor, Tensor], Tensor]


def _disc(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 0.82


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.74).abs() - 0.22


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.74


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    slanted = x.abs() * math.cos(math.pi / 6) + y * 0.5
    return torch.maximum(slanted, -y) - 0.54


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Five points; the plane is folded onto the wedge between a point and the notch beside it."""
    sector = 2 * math.pi / 5
    angle = (torch.remainder(torch.atan2(x, y), sector) - sector / 2).abs()
    radius = torch.hypot(x, y)
    notch = radius * angle.cos(), radius * angle.sin()
    point_x, point_y = 1.12 * math.cos(sector / 2), 1.12 * math.sin(sector / 2)
    along_x, along_y = point_x - 0.45, point_y
    length = math.hypot(along_x, along_y)
    return ((notch[0] - 0.45) * along_y - notch[1] * along_x) / length


def _cross(x: Tensor, y: Tensor) -> Tensor:
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    return torch.maximum(long - 0.98, short - 0.27)


def _crescent(x: Tensor, y: Tensor) -> Tensor:
    bite = torch.hypot(x - 0.55, y) - 0.72
    return torch.maximum(torch.hypot(x, y) - 0.98, -bite)


def _bar(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs() - 1.08, y.abs() - 0.34)


def _hourglass(x: Tensor, y: Tensor) -> Tensor:
    slope = 0.85
    sides = (x.abs() - slope * y.abs() - 0.1) / math.hypot(1, slope)
    return torch.maximum(sides, y.abs() - 0.88)


def _heart(x: Tensor, y: Tensor) -> Tensor:
    """A square on its corner with a disc on each of its two upper sides."""
    half, y = 0.52, y + 0.2
    diamond = (x.abs() + y.abs() - half * math.sqrt(2)) / math.sqrt(2)
    centre = half / math.sqrt(2)
    lobe = torch.hypot(x.abs() - centre, y - centre) - half
    return torch.minimum(diamond, lobe)


OUTLINES: dict[str, Outline] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "bar": _bar,
    "hourglass": _hourglass,
    "heart": _heart,
}
