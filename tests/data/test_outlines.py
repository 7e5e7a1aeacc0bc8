"""The outlines: alike in size, unlike in shape, and smooth enough to draw an edge from."""

import itertools

import pytest
import torch

from simclr_ablate.data.outlines import OUTLINES

_STEP = 0.01
_AXIS = torch.arange(-1.5, 1.5, _STEP)
_X, _Y = _AXIS[None, :], _AXIS[:, None]


def _inside(name: str) -> torch.Tensor:
    return OUTLINES[name](_X, _Y) < 0


@pytest.mark.parametrize("name", OUTLINES)
def test_an_object_has_radius_and_area_of_the_frame(name: str) -> None:
    inside = _inside(name)
    radius = torch.hypot(_X, _Y)[inside].max()
    area = inside.sum() * _STEP**2
    assert 0.75 < radius < 1.3
    assert 1.2 < area < 2.6


@pytest.mark.parametrize("name", OUTLINES)
def test_the_distance_changes_by_at_most_the_way_gone(name: str) -> None:
    distance = OUTLINES[name](_X, _Y)
    for axis in (0, 1):
        assert distance.diff(dim=axis).abs().max() <= _STEP * 1.01


@pytest.mark.parametrize(("first", "second"), [*itertools.combinations(OUTLINES, 2)])
def test_two_outlines_differ_by_much_of_their_area(first: str, second: str) -> None:
    a, b = _inside(first), _inside(second)
    assert (a ^ b).sum() > 0.15 * torch.maximum(a.sum(), b.sum())
