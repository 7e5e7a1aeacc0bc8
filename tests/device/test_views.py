"""Images and views on an accelerator: where they are, what they are, and what is left on the CPU."""

import pytest
import torch

from simclr_ablate.augment.policies import pair_policy, simclr_policy
from simclr_ablate.data import in_memory
from simclr_ablate.data.in_memory import ImageSet
from tests.augment.test_policies import POLICIES, random_bytes, rng


@pytest.fixture
def images() -> ImageSet:
    stored = torch.randint(0, 256, (20, 3, 9, 11), dtype=torch.uint8)
    return ImageSet(stored, torch.randint(0, 3, (20,)), ["a", "b", "c"])


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("n", [0, 1, 64])
def test_views_are_those_on_the_cpu(name: str, n: int, jitter: str) -> None:
    images = random_bytes(n, 18, 21)
    made = POLICIES[name].two_views(images.to("sim"), rng(18))
    assert made.device.type == "sim"
    assert torch.equal(made.cpu(), POLICIES[name].two_views(images, rng(18)))


@pytest.mark.parametrize("n", [0, 1, 9])
@pytest.mark.parametrize(
    "name",
    [
        "torchvision:RandomPerspective",
        "torchvision:GaussianNoise",
        "kornia:RandomGamma",
        "kornia:RandomAffine(degrees=20.0)",
        "kornia:ColorJiggle(hue=0.2)",
    ],
)
def test_views_of_libraries_are_those_on_the_cpu(name: str, n: int) -> None:
    if name.startswith("kornia"):
        pytest.importorskip("kornia")
    images = random_bytes(n, 18, 21)
    policy = pair_policy(16, name)
    made = policy.two_views(images.to("sim"), rng(18))
    assert made.device.type == "sim"
    torch.testing.assert_close(made.cpu(), policy.two_views(images, rng(18)))


def test_a_set_moved_there_has_the_same_images(images: ImageSet) -> None:
    moved = images.subset([4, 2, 9]).to("sim")
    pixels, labels = moved.batch(torch.tensor([1, 2]))
    assert (pixels.device.type, labels.device.type) == ("sim", "cpu")
    assert torch.equal(pixels.cpu(), images.stored[[2, 9]])
    assert torch.equal(moved.subset([2]).images.cpu(), images.stored[[9]])


def test_a_set_that_does_not_fit_stays_where_it_is(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batches are copied, and give the same views."""
    subset, order = images.subset(range(4, 16)), torch.randperm(12)[:10].view(2, 5)
    moved = subset.to("sim")
    monkeypatch.setattr(in_memory, "free_bytes", lambda _: 2 * subset.images.numel() - 1)
    left = subset.to("sim")
    assert left is subset
    monkeypatch.setattr(in_memory, "free_bytes", lambda _: 2 * subset.images.numel())
    assert subset.to("sim").stored.device.type == moved.stored.device.type == "sim"
    arguments = (simclr_policy(8), order, 3, 1, 0, "sim")
    for (one, x), (other, y) in zip(
        left.view_batches(*arguments), moved.view_batches(*arguments), strict=True
    ):
        views, others = (each.make().in_order() for each in (one, other))
        assert views.device.type == others.device.type == "sim"
        assert torch.equal(views.cpu(), others.cpu())
        assert torch.equal(x.cpu(), y.cpu())
