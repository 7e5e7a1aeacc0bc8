"""Figure 3: kinds of pairs against masks of pixels, and their shares against torchvision's crops."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.functional import InterpolationMode, resized_crop

from analysis import crops
from analysis.artefacts import ARTEFACTS
from analysis.crops import ADJACENT, AREAS, GLOBAL_TO_LOCAL, KINDS, OVERLAPPING, PAIRS, kinds
from analysis.images import Source
from analysis.report import write

RNG = np.random.default_rng()


def mask(window, side):
    """The pixels of a window."""
    top, left, height, width = window
    return {(y, x) for y in range(top, top + height) for x in range(left, left + width)}


def by_pixels(first, second, side):
    one, other = mask(first, side), mask(second, side)
    if one <= other or other <= one:
        return GLOBAL_TO_LOCAL
    return OVERLAPPING if one & other else ADJACENT


def windows(count, side):
    """Any windows, as (top, left, height, width)."""
    corners = np.sort(RNG.integers(0, side + 1, (count, 2, 2)), axis=2)
    corners[..., 1] = np.maximum(corners[..., 1], corners[..., 0] + 1)
    return np.concatenate([corners[..., 0], corners[..., 1] - corners[..., 0]], axis=1)


def test_kinds_are_those_of_the_pixels():
    first, second = windows(2000, 6), windows(2000, 6)
    second[:50] = first[:50]
    expected = [by_pixels(*pair, 6) for pair in zip(first, second, strict=True)]
    assert kinds(first, second).tolist() == expected
    assert set(expected) == {GLOBAL_TO_LOCAL, OVERLAPPING, ADJACENT}


@pytest.mark.slow
@pytest.mark.parametrize("side", [16, 40])
def test_shares_are_those_of_torchvisions_crops(side):
    measured = crops.pairs_of_crops(Source("n", "shapes", side, int(RNG.integers(10**6))))
    image = torch.empty(3, side, side)
    for area, counted in zip(AREAS, measured["counts"], strict=True):
        draw = [
            tuple(RandomResizedCrop.get_params(image, [area, 1], [3 / 4, 4 / 3]))
            for _ in range(2000)
        ]
        found = [by_pixels(*pair, side) for pair in zip(draw[::2], draw[1::2], strict=True)]
        assert counted.sum() == PAIRS
        for kind in range(len(KINDS)):
            share = counted[kind] / PAIRS
            error = math.sqrt(max(share * (1 - share), 1e-3) / len(found))
            assert abs(found.count(kind) / len(found) - share) < 4.5 * error


@pytest.fixture(scope="module")
def report():
    (report,) = ARTEFACTS["figure3"].reports(pd.DataFrame())
    return report


def test_the_picture_shows_crops_of_its_kinds(report):
    source = Source("n", "shapes", 32, int(RNG.integers(10**6)))
    measured = crops.pairs_of_crops(source)
    (a, b), (c, d) = measured["windows"].tolist()
    assert mask(b, 32) < mask(a, 32)
    assert not mask(c, 32) & mask(d, 32)
    assert len(mask(a, 32)) >= 512
    assert all(len(mask(window, 32)) <= 256 for window in (b, c, d))
    for image, pair, cut in zip(
        *(measured[name] for name in ("images", "windows", "crops")), strict=True
    ):
        for window, crop in zip(pair.tolist(), cut, strict=True):
            expected = resized_crop(
                torch.from_numpy(image) / 255, *window, [32, 32], InterpolationMode.BICUBIC
            )
            torch.testing.assert_close(
                torch.from_numpy(crop) / 255, expected.clamp(0, 1), atol=0.51 / 255, rtol=0
            )


def test_what_is_said_is_what_was_counted(report, tmp_path):
    data = report.data[report.data["drawn"].notna()]
    paper = data[data["crop_area"] == 0.08].set_index("kind_of_pair")
    for kind in KINDS:
        share = float(paper.at[kind, "drawn"]) / 1000
        half = 1.96 * math.sqrt(share * (100 - share) / 100_000)
        for text in (report.caption, report.alt):
            assert f"{share:.1f} ± {half:.1f}% are {kind}" in text
    assert data.groupby("crop_area")["drawn"].sum().tolist() == [PAIRS] * len(AREAS)
    assert {row[-1] for row in report.tables[0].rows} == {"not published"}
    assert len(write(report, tmp_path)) == 5
    assert r"B $\to$ A" in (tmp_path / f"{report.name}.tex").read_text()


def test_crops_that_the_picture_cannot_show_are_told():
    whole = np.tile([0, 0, 8, 8], (5, 1))
    with pytest.raises(ValueError, match="5 pairs of crops have none"):
        crops.picture_pairs(whole, whole, 64)
