"""Figure 4: each panel is the operation that it names, by torchvision and by loops, with the numbers that it tells."""

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.transforms import functional as F
from torchvision.transforms.functional import InterpolationMode

from analysis.artefacts import ARTEFACTS, figure4
from analysis.images import Source
from analysis.report import write
from analysis.views import OPERATORS, operators
from simclr_ablate.augment.operations import Cutout, GaussianBlur, GaussianNoise, RandomResizedCrop


@pytest.fixture(scope="module")
def made():
    seed = int(np.random.default_rng().integers(10**6))
    arrays = operators(Source("n", "shapes", 32, seed))
    return {name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()}


def numbers(made, name, *keys):
    return [made[f"{name}.{key}"].item() for key in keys]


@pytest.mark.parametrize("name", ["crop", "flip"])
def test_crops_are_torchvisions(made, name):
    window = numbers(made, name, "top", "left", "height", "width")
    cut = F.resized_crop(made["original"] / 255, *window, [32, 32], InterpolationMode.BICUBIC)
    cut = F.hflip(cut) if name == "flip" else cut
    assert numbers(made, name, "flip") == [name == "flip"]
    assert (made[name] / 255 - cut.clamp(0, 1)).abs().max() < 0.51 / 255


def test_dropped_colours_are_grey(made):
    expected = F.rgb_to_grayscale(made["original"], 3)
    assert (made["drop"].int() - expected.int()).abs().max() <= 1


def test_a_rotation_is_by_quarter_turns(made):
    (quarters,) = numbers(made, "rotate", "quarters")
    expected = F.rotate(made["original"], 90 * quarters)
    assert quarters in (1, 2, 3)
    assert torch.equal(made["rotate"], expected)


def test_cutout_covers_a_square(made):
    top, left, side = numbers(made, "cutout", "top", "left", "side")
    expected = made["original"].clone()
    for y in range(32):
        for x in range(32):
            if top <= y < top + side and left <= x < left + side:
                expected[:, y, x] = 128
    assert torch.equal(made["cutout"], expected)


def test_noise_has_its_standard_deviation(made):
    (std,) = numbers(made, "noise", "std")
    inside = (made["noise"] > 0) & (made["noise"] < 255)
    change = (made["noise"].float() - made["original"].float())[inside] / 255
    # Values that would leave the range are clipped, which only makes the scatter smaller.
    assert 0.5 * std < change.std() < 1.1 * std


def test_blur_is_torchvisions(made):
    (sigma,) = numbers(made, "blur", "sigma")
    expected = F.gaussian_blur(made["original"] / 255, [3, 3], [sigma, sigma])
    assert (made["blur"] / 255 - expected).abs().max() < 1.5 / 255


def test_jitter_and_edges_change_the_image(made):
    for name in ("jitter", "sobel"):
        assert not torch.equal(made[name], made["original"])


def test_what_is_said_to_be_random_is():
    crop, noise, blur, cutout = RandomResizedCrop(32), GaussianNoise(), GaussianBlur(), Cutout()
    assert figure4.DRAWN["crop"].startswith(f"area from {100 * crop.min_area:.0f}%")
    for name, (low, high) in {"noise": noise.std, "blur": blur.sigma}.items():
        assert f"standard deviation from {low:g} to {high:g}" in figure4.DRAWN[name]
    assert (cutout.share, "half as wide") == (0.5, figure4.DRAWN["cutout"].split("square ")[1][:12])


def test_it_is_written_in_every_form(tmp_path):
    (report,) = ARTEFACTS["figure4"].reports(pd.DataFrame())
    assert len(report.figure.axes) == len(OPERATORS) == 10
    assert [row[0] for row in report.tables[0].rows] == list(OPERATORS.values())
    assert len(write(report, tmp_path)) == 5
    rotated = report.data.set_index(["operation", "parameter"])["value"]["rotate", "quarters"]
    told = {row[0]: row[2] for row in report.tables[0].rows}
    assert told["Rotate"] == f"{90 * rotated:.0f} degrees"
    assert all(name in report.alt for name in OPERATORS.values())
