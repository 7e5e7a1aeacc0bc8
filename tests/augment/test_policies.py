"""Policies: their statistics, which branch they touch, and what their results may depend on."""

import pytest
import torch
from torch import Generator, Tensor

from simclr_ablate.augment.color import to_grayscale
from simclr_ablate.augment.filters import sobel
from simclr_ablate.augment.operations import Operation, Params, RandomResizedCrop, Solarize
from simclr_ablate.augment.policies import (
    OPERATIONS,
    Policy,
    autoaugment_policy,
    crop_policy,
    no_policy,
    pair_policy,
    simclr_policy,
)

NAMES = ["crop", "cutout", "color", "sobel", "noise", "blur", "rotate"]
POLICIES = {
    "simclr": simclr_policy(16),
    "simclr without blur": simclr_policy(16, 0.5, blur=False, interpolation="bilinear"),
    "tensorflow": simclr_policy(16, color="tensorflow"),
    "simclr, broader": simclr_policy(16, extra="broader"),
    "crop": crop_policy(16),
    "autoaugment": autoaugment_policy(16),
    "none": no_policy(16),
    **{f"pair {name}": pair_policy(16, name) for name in NAMES},
    "color, noise": pair_policy(16, "color", "noise"),
    "rotate, color": pair_policy(16, "rotate", "color", strength=0.5),
}


def assert_same(name: str, ours: Tensor, theirs: Tensor, atol: float = 1e-6) -> None:
    """Up to `atol`. AutoAugment rounds to bytes, so that a few values may fall to either side."""
    if name == "autoaugment":
        assert ((ours - theirs).abs() > atol).double().mean() < 0.01
    else:
        torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)


def rng(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def random_bytes(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=rng(seed))


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (20, 27), (12, 9)])
def test_views_are_floats_of_the_size_in_the_unit_interval(
    name: str, height: int, width: int
) -> None:
    images = random_bytes(40, height, width)
    views = POLICIES[name].two_views(images, rng(1))
    assert views.shape == (80, 3, 16, 16)
    assert views.dtype == torch.float32
    assert views.is_contiguous()
    assert views.min() >= 0
    assert views.max() <= 1
    assert POLICIES[name].one_view(images, rng(1)).shape == (40, 3, 16, 16)


@pytest.mark.parametrize("name", POLICIES)
def test_views_depend_on_images_and_generator_alone(name: str) -> None:
    images = random_bytes(33, 18, 21)
    before = images.clone()
    state = torch.random.get_rng_state()
    first = POLICIES[name].two_views(images, rng(2))
    assert torch.equal(first, POLICIES[name].two_views(images, rng(2)))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(images, before)
    if name != "none":
        assert not torch.equal(first, POLICIES[name].two_views(images, rng(3)))


@pytest.mark.parametrize("name", POLICIES)
def test_views_do_not_depend_on_the_chunks(name: str) -> None:
    images = random_bytes(61, 18, 21)
    policy = POLICIES[name]
    whole = policy.two_views(images, rng(4))
    for views_per_chunk in (1, 7, 60):
        chunked = Policy(
            policy.shared, policy.first, policy.second, views_per_chunk * 3 * 16 * 16 * 4
        )
        assert_same(name, chunked.two_views(images, rng(4)), whole)


@pytest.mark.parametrize("name", POLICIES)
def test_views_of_some_images_are_those_of_the_whole_batch(name: str) -> None:
    images = random_bytes(12, 20, 24)
    whole = POLICIES[name].two_views(images, rng(6)).unflatten(0, (2, 12))
    drawn = POLICIES[name].draw_two(images, rng(6))
    one_each = POLICIES[name].one_view(images, rng(6))
    drawn_one = POLICIES[name].draw_one(images, rng(6))
    for part in (slice(0, 5), slice(5, 6), slice(6, 12)):
        made = drawn.of(part).make().in_order().unflatten(0, (2, -1))
        assert_same(name, made, whole[:, part])
        assert_same(name, drawn_one.of(part).make().in_order(), one_each[part])


def test_pairs_of_crops_keep_together_in_parts() -> None:
    images = random_bytes(12, 16, 16)
    policy = simclr_policy(16)
    whole = policy.one_view(images, rng(6)).unflatten(0, (2, 6))
    drawn = policy.draw_one(images, rng(6), in_pairs=True)
    assert drawn.n == 6
    made = drawn.of(slice(2, 5)).make().in_order().unflatten(0, (2, -1))
    torch.testing.assert_close(made, whole[:, 2:5], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", POLICIES)
def test_bytes_and_floats_give_the_same_views(name: str) -> None:
    images = random_bytes(20, 16, 16)
    policy = POLICIES[name]
    from_bytes = policy.two_views(images, rng(5))
    assert torch.equal(policy.two_views(images.float() / 255, rng(5)), from_bytes)
    assert torch.equal(policy.two_views(images.double() / 255, rng(5)), from_bytes)


def test_rows_i_and_i_plus_n_are_views_of_image_i() -> None:
    """Images of one colour each: crops keep it, and blur too."""
    colors = torch.rand(50, 3, 1, 1, generator=rng(6))
    views = simclr_policy(16, strength=0).two_views(colors.expand(50, 3, 20, 20), rng(7))
    grey = to_grayscale(colors)
    for view in (views[:50], views[50:]):
        of_image = torch.minimum((view - colors).abs(), (view - grey).abs()).amax((1, 2, 3))
        assert of_image.max() < 1e-5


def test_simclr_probabilities() -> None:
    n = 4000
    color = torch.tensor([0.25, 0, 0.5])
    images = color.view(1, 3, 1, 1).expand(n, 3, 8, 8)

    def plain(strength: float) -> Tensor:
        """Which of the views keep their colour: (2, n)."""
        views = simclr_policy(8, strength).two_views(images, rng(8))[:, :, 0, 0]
        return ((views - color).abs().amax(1) < 1e-5).view(2, n).double()

    # Jitter of strength 0 changes nothing, so what is left is grayscale's 0.2.
    assert ((plain(0).mean(1) - 0.8).abs() < 0.02).all()
    # 0.2 of the views have no jitter, of which 0.8 keep their colour; views are independent.
    assert ((plain(1).mean(1) - 0.16).abs() < 0.02).all()
    assert abs(plain(1).prod(0).mean() - 0.16**2) < 0.01


def test_simclr_blurs_half_of_the_views_alone() -> None:
    n = 2000
    images = random_bytes(n, 16, 16)
    with_blur = simclr_policy(16).two_views(images, rng(9))
    # Blur is drawn last, so all else is drawn alike.
    without_blur = simclr_policy(16, blur=False).two_views(images, rng(9))
    changed = (with_blur - without_blur).abs().flatten(1).amax(1) > 0
    assert abs(changed.double().mean() - 0.5) < 0.03


@pytest.mark.parametrize("name", NAMES)
def test_pair_leaves_the_other_branch_at_the_shared_crop(name: str) -> None:
    images = random_bytes(64, 20, 24)
    views = pair_policy(16, name).two_views(images, rng(10))
    crop = RandomResizedCrop(16)
    params = crop.draw(64, 20, 24, rng(10))
    expected = crop(images.float() / 255, params)
    torch.testing.assert_close(views[64:], expected, atol=1e-6, rtol=0)
    changed = (views[:64] - views[64:]).abs().flatten(1).amax(1) > 1e-3
    # Colour keeps App. A's probabilities: 0.2 * 0.8 of the images stay as they are. The weakest
    # blurs, of sigma 0.1, move less than 0.001.
    assert changed.sum() >= {"color": 40, "blur": 55}.get(name, 63)


def test_pair_applies_first_then_second() -> None:
    images = random_bytes(32, 16, 16)
    rotated_last = pair_policy(16, "sobel", "rotate").two_views(images, rng(11))
    alone = pair_policy(16, "sobel").two_views(images, rng(11))
    turns = [torch.rot90(alone[:32], k, (2, 3)) for k in (1, 2, 3)]
    matches = torch.stack([(rotated_last[:32] == turn).flatten(1).all(1) for turn in turns])
    assert (matches.sum(0) == 1).all()
    sobel_last = pair_policy(16, "noise", "sobel").two_views(images, rng(12))
    noisy = pair_policy(16, "noise").two_views(images, rng(12))
    assert torch.equal(sobel_last[:32], sobel(noisy[:32]))


def test_pair_of_an_operation_with_itself_is_that_operation_once() -> None:
    images = random_bytes(16, 16, 16)
    once = pair_policy(16, "noise").two_views(images, rng(13))
    assert torch.equal(pair_policy(16, "noise", "noise").two_views(images, rng(13)), once)


def test_pair_settings_reach_their_operations() -> None:
    images = random_bytes(64, 32, 32)
    still = pair_policy(32, "color", strength=0, crop_area=1.0).two_views(images, rng(14))
    color_kept = (still[:64] - still[64:]).abs().flatten(1).amax(1) < 1e-5
    assert abs(color_kept.double().mean() - 0.8) < 0.15
    # Of all the area, no window of another ratio fits, so crops are the square images themselves.
    straight = (still[64:] - images.float() / 255).abs().flatten(1).amax(1) < 1e-5
    mirrored = (still[64:].flip(3) - images.float() / 255).abs().flatten(1).amax(1) < 1e-5
    assert (straight | mirrored).all()
    assert pair_policy(32, "crop", interpolation="bilinear").shared[0].interpolation == "bilinear"


def test_no_policy_is_the_image_twice() -> None:
    images = random_bytes(5, 16, 16)
    views = no_policy(16).two_views(images, rng(15))
    assert torch.equal(views, (images.float() / 255).repeat(2, 1, 1, 1))


def test_an_empty_batch_gives_no_views() -> None:
    for policy in POLICIES.values():
        assert policy.two_views(random_bytes(0, 20, 24), rng(0)).shape == (0, 3, 16, 16)


def test_memory_format_does_not_matter() -> None:
    images = random_bytes(30, 18, 18)
    views = simclr_policy(16).two_views(images, rng(16))
    channels_last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(simclr_policy(16).two_views(channels_last, rng(16)), views)


def test_autocast_does_not_matter() -> None:
    images = random_bytes(30, 18, 18)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = simclr_policy(16).two_views(images, rng(17))
    assert torch.equal(simclr_policy(16).two_views(images, rng(17)), views)


class Shift(Operation):
    """A user's operation: adds what it draws."""

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        return {"shift": torch.rand(n, generator=generator)}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        return (images + params["shift"].to(images.device).view(-1, 1, 1, 1)).clamp(max=1)


def test_policies_take_a_users_operation() -> None:
    policy = Policy(first=[Shift(), Solarize()], second=[])
    views = policy.two_views(torch.zeros(400, 3, 4, 4), rng(19))
    assert (views[400:] == 0).all()
    assert views[:400].max() < 0.5
    assert abs(views[:400].mean() - 0.25) < 0.03


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(4, 1, 8, 8), r"\(N, 3, H, W\), got \(4, 1, 8, 8\)"),
        (torch.rand(3, 8, 8), r"\(N, 3, H, W\), got \(3, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), "uint8 or float, got torch.int64"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simclr_policy(8).two_views(images, rng(0))


def test_operations_are_figure_5s_in_its_order() -> None:
    assert list(OPERATIONS)[:7] == NAMES


@pytest.mark.parametrize(("extra", "share"), [("rotate", 0.75), ("noise", 0.5), ("sobel", 0.5)])
def test_one_more_operation_comes_last_on_some_images(extra: str, share: float) -> None:
    n = 400
    images = torch.rand(n, 3, 20, 20)
    plain = simclr_policy(16, blur=False).two_views(images, rng(3))
    changed = simclr_policy(16, blur=False, extra=extra).two_views(images, rng(3))
    same = (plain == changed).flatten(1).all(1)
    assert abs((~same).double().mean().item() - share) < 5 * (0.25 / (2 * n)) ** 0.5
    if extra == "rotate":
        turned = torch.stack([torch.rot90(plain, k, (2, 3)) for k in range(4)])
        assert (turned == changed).flatten(2).all(2).any(0).all()
    if extra == "sobel":
        torch.testing.assert_close(changed[~same], sobel(plain[~same]))


def test_broader_augmentation_changes_one_view_in_five_by_each_of_four() -> None:
    n = 1500
    images = random_bytes(n, 24, 24)
    plain, broader = (
        simclr_policy(24, blur=False, extra=extra).two_views(images, rng(3))
        for extra in (None, "broader")
    )
    same = (plain == broader).flatten(1).all(1).double().mean().item()
    assert abs(same - 0.8**4) < 5 * (0.25 / (2 * n)) ** 0.5


POLICIES_OF_CROPS = {
    "simclr": lambda flip: simclr_policy(16, 0.0, blur=False, flip=flip),
    "crop": lambda flip: crop_policy(16, flip=flip),
    "pair": lambda flip: pair_policy(16, "crop", flip=flip),
}


@pytest.mark.parametrize("name", POLICIES_OF_CROPS)
def test_without_the_flip_no_view_is_mirrored(name: str) -> None:
    """A ramp in grey that rises from left to right does so in every crop."""
    ramp = torch.linspace(0, 1, 32).expand(200, 3, 32, 32)

    def rising(flip: bool) -> Tensor:
        views = POLICIES_OF_CROPS[name](flip).two_views(ramp, rng(4))
        return views[..., -1].mean((1, 2)) > views[..., 0].mean((1, 2))

    assert rising(False).all()
    assert 0.35 < rising(True).double().mean() < 0.65
