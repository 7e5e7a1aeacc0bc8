"""Figure 6: histograms and what they tell apart, against loops over pixels and crops."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms.functional import InterpolationMode, hflip, resized_crop

import analysis
from analysis import histograms
from analysis.artefacts import ARTEFACTS
from analysis.histograms import BINS, counts, layout, recognised
from analysis.images import Source
from analysis.report import LeftOut, write

RNG = np.random.default_rng()


@pytest.fixture(scope="module")
def report():
    (report,) = ARTEFACTS["figure6"].reports(pd.DataFrame())
    return report


@pytest.fixture
def few(monkeypatch):
    """Few batches, which take no time."""
    monkeypatch.setattr(histograms, "BATCHES", 2)
    monkeypatch.setattr(histograms, "BATCH", 8)


def test_a_histogram_counts_the_values_of_all_channels():
    views = RNG.integers(0, 256, (5, 3, 7, 6), dtype=np.uint8)
    for view, found in zip(views, counts(views), strict=True):
        expected = [0] * BINS
        for value in view.ravel().tolist():
            expected[value // (256 // BINS)] += 1
        assert found.tolist() == expected


def test_a_crop_is_recognised_if_its_partner_is_nearer_than_all_others():
    for _ in range(5):
        # Few values make many ties, and the second views are often like the first.
        first = RNG.multinomial(12, np.full(BINS, 1 / BINS), 9)
        second = np.where(RNG.random((9, 1)) < 0.5, first, RNG.permutation(first.T).T)
        rows = np.concatenate([first, second]).tolist()
        found, same, other = [], [], []
        for i, row in enumerate(rows):
            distance = [
                100 * sum(abs(a - b) for a, b in zip(row, each, strict=True)) / 24 for each in rows
            ]
            partner = (i + 9) % 18
            others = [distance[j] for j in range(18) if j not in (i, partner)]
            found.append(all(distance[partner] < each for each in others))
            same.append(distance[partner])
            other += others
        expected = 100 * np.mean(found), np.mean(same), np.mean(other)
        assert recognised(np.array(rows)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("images", "expected"), [(4, (2, 2)), (7, (2, 3)), (300, (2, 128)), (5000, (16, 128))]
)
def test_there_are_always_several_batches(images, expected):
    assert layout(images) == expected


def test_too_few_images_are_told():
    with pytest.raises(ValueError, match="at least 4 test images, got 3"):
        layout(3)


def test_crops_are_those_of_the_windows_and_colour_distortion_works_on_the_same(few):
    unchanged, crops = 0, 0
    for seed in RNG.integers(0, 10**6, 12).tolist():
        measured = histograms.histograms(Source("n", "shapes", 32, seed))
        for image, of_image, plain, distorted in zip(
            torch.from_numpy(measured["images"]),
            measured["windows"].tolist(),
            *measured["crops"],
            strict=True,
        ):
            for window, crop, changed in zip(of_image, plain, distorted, strict=True):
                cut = resized_crop(image / 255, *window, [32, 32], InterpolationMode.BICUBIC)
                cut = cut.clamp(0, 1)
                found = torch.from_numpy(crop) / 255
                error = min((found - each).abs().max() for each in (cut, hflip(cut)))
                assert error < 0.51 / 255
                crops += 1
                unchanged += np.array_equal(crop, changed)
    # Neither jitter, with probability 0.8, nor grey, 0.2, happens to 16% of the crops.
    assert stats.binomtest(unchanged, crops, 0.2 * 0.8).pvalue > 1e-6


def test_what_is_said_is_what_was_measured(report, tmp_path):
    batches = report.data[report.data["batch"].notna()].astype({"found": float})
    without, distorted = (
        batches[batches["colour_distortion"] == on]["found"] for on in (False, True)
    )
    assert len(without) == len(distorted) == 16
    told = []
    for sample in (without, distorted):
        low, high = stats.t.interval(0.95, 15, sample.mean(), stats.sem(sample))
        told.append(f"{sample.mean():.1f} ± {(high - low) / 2:.1f}")
    gap = stats.ttest_rel(without, distorted)
    assert gap.pvalue < 1e-6
    assert gap.statistic > 0
    for text in (report.caption, report.alt):
        assert f"By histograms alone, {told[0]}% of crops find the other crop" in text
        assert f"among 255 without colour distortion, and {told[1]}% with it (chance: 0.4%)" in text
        assert "colour distortion hides which crops are of one image" in text
    rows = {row[0]: row[1:] for row in report.tables[0].rows}
    assert [row[0] for row in rows.values()] == told
    assert {row[1] for row in rows.values()} == {f"{100 / 255:.1f}"}
    assert len(write(report, tmp_path)) == 5


def test_the_drawn_histograms_are_those_of_the_drawn_crops(report):
    drawn = report.data[report.data["bin"].notna()]
    sizes = drawn.groupby(["colour_distortion", "image", "crop"])["values"].sum()
    assert len(sizes) == 16
    assert set(sizes) == {3 * 32 * 32}
    outlines = [
        patch.get_data().values
        for axes in report.figure.axes
        for patch in axes.patches
        if hasattr(patch, "get_data")
    ]
    shares = [
        group["values"].to_numpy(float) / 30.72
        for _, group in drawn.groupby(["image", "colour_distortion", "crop"])
    ]
    assert len(outlines) == len(shares) == 16
    np.testing.assert_allclose(outlines, shares)
    limits = {
        (axes.get_xlim(), axes.get_ylim()) for axes in report.figure.axes if len(axes.patches) == 1
    }
    assert len(limits) == 1


@pytest.mark.parametrize("alike", [False, True])
def test_flat_images_are_told_apart_by_their_colours_alone(few, tmp_path, make, alike):
    for split in ("train", "test"):
        folder = tmp_path / "images" / split / "a"
        folder.mkdir(parents=True)
        for number in range(16):
            Image.new("RGB", (8, 8), (100 if alike else 16 * number,) * 3).save(
                folder / f"{number}.png"
            )
    data = {"data.name": "image_folder", "data.root": str(tmp_path / "images"), "data.size": 8}
    make.put(
        tmp_path / "runs",
        make.experiment(**data, **{"data.validation": 4, "data.label": "flat"}),
        1.0,
    )
    (report,) = ARTEFACTS["figure6"].reports(analysis.load(tmp_path / "runs"))
    assert report.title == "Figure 6 on flat"
    without = report.data[~report.data["colour_distortion"] & report.data["batch"].notna()]
    # If all images are alike, no partner is nearer than the others.
    assert set(without["found"]) == {0.0 if alike else 100.0}
    assert set(without["same"]) == {0.0}


def test_a_data_set_of_few_images_is_told(tmp_path, make):
    for split in ("train", "test"):
        folder = tmp_path / "images" / split / "a"
        folder.mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8)).save(folder / f"{number}.png")
    data = {"data.name": "image_folder", "data.root": str(tmp_path / "images"), "data.size": 8}
    make.put(tmp_path / "runs", make.experiment(**data, **{"data.validation": 1}), 1.0)
    left_out, report = ARTEFACTS["figure6"].reports(analysis.load(tmp_path / "runs"))
    assert left_out == LeftOut(
        "image_folder", "histograms of pairs need at least 4 test images, got 3"
    )
    assert report.title == "Figure 6 on shapes"
