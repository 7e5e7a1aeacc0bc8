"""What operations draw, and that they treat every image by itself."""

import math

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torch import Generator, Tensor
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop

from simclr_ablate.augment import noise
from simclr_ablate.augment.batching import Kinds, Run, change_kinds, take
from simclr_ablate.augment.color import to_grayscale
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
    Resize,
    Rotate,
    Sobel,
    Solarize,
)
from simclr_ablate.augment.policies import Policy, pair_policy, simclr_policy

ALL: list[Operation] = [
    RandomResizedCrop(12),
    RandomResizedCrop(20, interpolation="bilinear"),
    Resize(12),
    Cutout(),
    ColorJitter(),
    ColorJitter(0.5, "tensorflow"),
    Grayscale(),
    Sobel(),
    GaussianNoise(),
    GaussianBlur(),
    MotionBlur(),
    Rotate(),
    Solarize(),
    Equalize(),
    RandomApply(ColorJitter(), 0.8),
    RandomApply(GaussianBlur(), 0.5),
]


def rng(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def kolmogorov(values: Tensor, low: float, high: float) -> float:
    """The greatest distance of the values' distribution from the uniform one on [low, high]."""
    place = (values.double().sort().values - low) / (high - low)
    return (place - (torch.arange(len(place)) + 0.5) / len(place)).abs().max().item()


@pytest.mark.parametrize("operation", ALL, ids=repr)
def test_each_image_is_treated_by_itself(operation: Operation) -> None:
    n, side = 40, 16
    images = torch.rand(n, 3, side, side, generator=rng(0))
    before = images.clone()
    params = operation.draw(n, side, side, rng(1))
    assert all(len(values) == n and values.device.type == "cpu" for values in params.values())
    together = operation(images, params)
    assert together.shape == (n, 3, *operation.size_after(side, side))
    shuffled = torch.randperm(n, generator=rng(2))
    alone = torch.cat(
        [operation(images[i : i + 1], take(params, slice(i, i + 1))) for i in range(n)]
    )
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    rearranged = operation(images[shuffled], take(params, shuffled))
    torch.testing.assert_close(together[shuffled], rearranged, atol=1e-6, rtol=0)
    assert torch.equal(images, before)
    assert together.min() >= 0
    assert together.max() <= 1


def test_crop_windows_are_distributed_as_in_the_paper() -> None:
    n, height, width = 20_000, 4000, 4000
    params = RandomResizedCrop(32, min_area=0.08).draw(n, height, width, rng(3))
    rows, columns = params["height"].double(), params["width"].double()
    area, ratio = rows * columns / (height * width), columns / rows
    assert 0.0799 < area.min() < 0.081
    assert area.max() <= 1
    assert 0.749 < ratio.min() < 0.755
    assert 1.325 < ratio.max() < 1.335
    # Windows under 3/4 of the image fit whatever their ratio, so there the draw is as it was.
    small = area < 0.7
    assert kolmogorov(area[small], 0.08, 0.7) < 0.015
    assert kolmogorov(ratio[small].log(), math.log(3 / 4), math.log(4 / 3)) < 0.015
    for start, length, extent in (("top", rows, height), ("left", columns, width)):
        room = extent - length
        assert (params[start] >= 0).all()
        assert (params[start] <= room).all()
        assert kolmogorov((params[start] / room)[room > 100], 0, 1) < 0.02


def test_crop_windows_agree_with_torchvisions_sampler() -> None:
    n, height, width = 4000, 30, 44
    params = RandomResizedCrop(32).draw(n, height, width, rng(4))
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        image = torch.rand(3, height, width)
        theirs = torch.tensor(
            [
                TorchvisionCrop.get_params(image, scale=[0.08, 1.0], ratio=[3 / 4, 4 / 3])
                for _ in range(n)
            ]
        ).double()
    ours = torch.stack([params[key] for key in ("top", "left", "height", "width")], 1).double()
    error = (ours.var(0) / n + theirs.var(0) / n).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 4 * error).all()
    assert ((ours.std(0) / theirs.std(0) - 1).abs() < 0.06).all()


def test_crops_without_flips_are_the_same_windows() -> None:
    images = torch.rand(300, 3, 12, 12, generator=rng(21))
    mirrored, upright = (RandomResizedCrop(12, flip=flip) for flip in (True, False))
    windows = mirrored.draw(300, 12, 12, rng(22)), upright.draw(300, 12, 12, rng(22))
    assert not windows[1]["flip"].any()
    flipped = windows[0]["flip"]
    assert 0.4 < flipped.double().mean() < 0.6
    one, other = mirrored(images, windows[0]), upright(images, windows[1])
    torch.testing.assert_close(one[~flipped], other[~flipped])
    torch.testing.assert_close(one[flipped].flip(3), other[flipped], atol=1e-5, rtol=0)


def test_crop_flips_half_of_the_images() -> None:
    flip = RandomResizedCrop(32).draw(10_000, 32, 32, rng(5))["flip"]
    assert abs(flip.double().mean() - 0.5) < 0.02


@pytest.mark.parametrize(("height", "width"), [(10, 400), (400, 10)])
def test_crop_of_a_strip_has_an_allowed_ratio_and_fits(height: int, width: int) -> None:
    params = RandomResizedCrop(32, min_area=0.9).draw(500, height, width, rng(6))
    assert (params["top"] + params["height"] <= height).all()
    assert (params["left"] + params["width"] <= width).all()
    assert set(params["height"].tolist()) == {min(height, 13)}
    assert set(params["width"].tolist()) == {min(width, 13)}


def test_random_apply_changes_the_chosen_images_alone() -> None:
    n = 4000
    images = torch.rand(n, 3, 4, 4, generator=rng(7))
    operation = RandomApply(Grayscale(), 0.2)
    params = operation.draw(n, 4, 4, rng(8))
    result = operation(images, params)
    chosen = params["applied"]
    assert abs(chosen.double().mean() - 0.2) < 0.02
    assert torch.equal(result[~chosen], images[~chosen])
    assert torch.equal(result[chosen], to_grayscale(images[chosen]))


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0), (1.0, 50)])
def test_random_apply_at_the_ends(probability: float, expected: int) -> None:
    params = RandomApply(Sobel(), probability).draw(50, 4, 4, rng(9))
    assert params["applied"].sum() == expected


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_jitter_draws_the_ranges_of_the_paper(strength: float) -> None:
    """The coefficients drawn hold each factor as a scale."""
    n = 20_000
    params = ColorJitter(strength).draw(n, 32, 32, rng(10))
    scale, grey, mean = params["tones"].flatten(0, 1).unbind(1)
    low, high = 1 - 0.8 * strength, 1 + 0.8 * strength
    plain = (mean == 0) & (grey == 0)
    for chosen in (plain, mean != 0, grey != 0):
        assert kolmogorov(scale[chosen], low, high) < 0.02
        assert chosen.sum() == n
    assert kolmogorov(params["hue"], -0.2 * strength, 0.2 * strength) < 0.02
    shares = torch.bincount(params["before_hue"], minlength=4) / n
    assert ((shares - 0.25).abs() < 0.02).all()


@pytest.mark.parametrize("strength", [0.25, 1.0, 2.5])
def test_tensorflows_jitter_draws_the_ranges_of_the_papers_code(strength: float) -> None:
    n, reach = 20_000, 0.8 * strength
    params = ColorJitter(strength, "tensorflow").draw(n, 32, 32, rng(20))
    assert kolmogorov(params["brightness"], -reach, reach) < 0.02
    for name in ("contrast", "saturation"):
        assert kolmogorov(params[name], max(0, 1 - reach), 1 + reach) < 0.02
    assert kolmogorov(params["hue"], -0.2 * strength, 0.2 * strength) < 0.02
    orders = torch.bincount(params["order"], minlength=24) / n
    assert ((orders - 1 / 24).abs() < 0.01).all()


@pytest.mark.parametrize("color", ["pytorch", "tensorflow"])
def test_jitter_of_strength_zero_changes_nothing(color: str) -> None:
    images = torch.rand(60, 3, 8, 8, generator=rng(11))
    images[0], images[1], images[2] = 0, 1, images[2, :1]
    operation = ColorJitter(0.0, color)
    result = operation(images, operation.draw(60, 8, 8, rng(12)))
    torch.testing.assert_close(result, images, atol=2e-6, rtol=0)


def test_blur_and_noise_draw_their_ranges() -> None:
    n = 5000
    assert kolmogorov(GaussianBlur().draw(n, 8, 8, rng(13))["sigma"], 0.1, 2) < 0.03
    motion = MotionBlur().draw(n, 60, 50, rng(14))
    assert kolmogorov(motion["length"], 1, 10) < 0.03
    assert kolmogorov(motion["angle"], 0, math.pi) < 0.03
    assert MotionBlur().draw(n, 8, 8, rng(15))["length"].max() > 4.9
    params = GaussianNoise().draw(n, 2, 2, rng(14))
    assert kolmogorov(params["std"], 0.05, 0.15) < 0.03
    assert abs(params["noise"].mean()) < 0.02
    assert abs(params["noise"].std() - 1) < 0.02


def test_cutout_centres_anywhere_and_is_half_the_shorter_side() -> None:
    params = Cutout().draw(20_000, 16, 24, rng(15))
    assert set(params["side"].tolist()) == {8}
    for start, extent in (("top", 16), ("left", 24)):
        counts = torch.bincount(params[start] + 4, minlength=extent) / 20_000
        assert len(counts) == extent
        assert ((counts - 1 / extent).abs() < 0.01).all()


def test_rotation_is_one_of_three_turns() -> None:
    counts = torch.bincount(Rotate().draw(9000, 8, 8, rng(16))["quarters"], minlength=4) / 9000
    assert counts[0] == 0
    assert ((counts[1:] - 1 / 3).abs() < 0.03).all()


def test_resize_equals_torchvision_and_spares_images_of_the_size() -> None:
    images = torch.rand(3, 3, 20, 31, generator=rng(17))
    operation = Resize(12, "bilinear")
    resized = operation(images, operation.draw(3, 20, 31, rng(18)))
    expected = tv.resize(images, [12, 12], antialias=True)
    torch.testing.assert_close(resized, expected, atol=1e-5, rtol=0)
    assert torch.equal(operation(resized, operation.draw(3, 12, 12, rng(19))), resized)


@pytest.mark.parametrize("rows", [[3], [0, 1, 2, 39], [20, 4, 21, 5, 4], list(range(40))])
def test_noise_of_some_images_is_their_part_of_all(
    monkeypatch: pytest.MonkeyPatch, rows: list[int]
) -> None:
    """Drawn later or at once, and what is drawn after it stays the same."""
    plain, later = rng(5), rng(5)
    whole = GaussianNoise().draw(40, 8, 8, plain)
    monkeypatch.setattr(noise, "LAZY_BYTES", 0)
    drawn = GaussianNoise().draw(40, 8, 8, later)
    assert not isinstance(drawn["noise"], Tensor)
    assert torch.equal(torch.rand(9, generator=plain), torch.rand(9, generator=later))
    chosen = torch.tensor(rows)
    images = torch.rand(len(rows), 3, 8, 8)
    expected = GaussianNoise()(images, take(whole, chosen))
    assert torch.equal(GaussianNoise()(images, take(drawn, chosen)), expected)


def test_views_do_not_depend_on_when_noise_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor those of a part of the batch, as ranks make them."""
    images = torch.rand(60, 3, 16, 16)
    for policy in (pair_policy(16, "noise", "color"), simclr_policy(16, extra="noise")):
        whole = policy.draw_two(images, rng(6)).make().in_order()
        with monkeypatch.context() as patch:
            patch.setattr(noise, "LAZY_BYTES", 0)
            drawn = policy.draw_two(images, rng(6))
            assert torch.equal(drawn.make().in_order(), whole)
            part = drawn.of(slice(20, 31)).make().in_order()
        assert torch.equal(part, torch.cat([whole[20:31], whole[80:91]]))


def test_noise_is_drawn_once_however_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "LAZY_BYTES", 0)
    drawn: list[int] = []
    draw = noise.Normals.draw
    monkeypatch.setattr(noise.Normals, "draw", lambda self: drawn.append(len(self)) or draw(self))
    images = torch.rand(60, 3, 16, 16)
    usual = pair_policy(16, "noise", "color")
    chunked = Policy(usual.shared, usual.first, usual.second, 7 * 3 * 16 * 16 * 4)
    views = chunked.two_views(images, rng(6))
    assert drawn == [60]
    assert torch.equal(views, usual.two_views(images, rng(6)))


@pytest.mark.parametrize("kinds", [[3], [0, 0, 1, 1], [2, 0, 2, 1, 0, 1, 2, 0, 0, 1] * 5])
def test_change_kinds_keeps_the_order(kinds: list[int]) -> None:
    n = len(kinds)
    images = torch.arange(float(n)).view(n, 1, 1, 1)
    seen = []

    arranged = Kinds.of(torch.tensor(kinds, dtype=torch.long), images.device)
    in_order = arranged.take({"images": images})["images"]

    def tag(number: int, part: Tensor, run: Run) -> Tensor:
        assert arranged.runs[number] == run
        assert torch.equal(part, in_order[run.rows])
        seen.extend(part.flatten().tolist())
        return part * 10 + run.kind

    result = change_kinds(images, arranged, tag)
    assert result.flatten().tolist() == [i * 10 + kind for i, kind in enumerate(kinds)]
    assert sorted(seen) == list(range(n))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ColorJitter(-0.1), r"strength must be in \[0, 2.5\], got -0.1"),
        (lambda: ColorJitter(2.6), r"strength must be in \[0, 2.5\], got 2.6"),
        (lambda: ColorJitter(1, "keras"), "color must be pytorch or tensorflow, got 'keras'"),
        (lambda: RandomApply(Sobel(), 1.5), r"probability must be in \[0, 1\], got 1.5"),
        (lambda: RandomResizedCrop(32, 0), "crop_area must be > 0 and <= 1, got 0"),
    ],
)
def test_bad_arguments_are_named(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]
