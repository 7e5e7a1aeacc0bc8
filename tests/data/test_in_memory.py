"""Image sets in memory: batches and subsets are what plain indexing of all images gives."""

import pytest
import torch

from simclr_ablate.augment.policies import simclr_policy
from simclr_ablate.data import in_memory
from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.randomness import generator


@pytest.fixture
def images() -> ImageSet:
    rng = torch.Generator().manual_seed(0)
    stored = torch.randint(256, (20, 3, 4, 5), dtype=torch.uint8, generator=rng)
    return ImageSet(stored, torch.randint(3, (20,), generator=rng), ["a", "b", "c"])


def test_a_batch_is_the_images_at_the_indices(images: ImageSet) -> None:
    indices = torch.tensor([3, 19, 3, 0])
    x, y = images.batch(indices)
    assert x.dtype == torch.uint8
    assert torch.equal(x, images.stored[indices])
    assert torch.equal(y, images.labels[indices])


def test_a_subset_of_a_subset_indexes_through_both(images: ImageSet) -> None:
    outer, inner = torch.tensor([5, 1, 7, 19, 2]), torch.tensor([4, 0, 3])
    subset = images.subset(outer).subset(inner)
    assert len(subset) == 3
    assert torch.equal(subset.images, images.stored[outer][inner])
    x, y = subset.batch(torch.tensor([2, 0]))
    assert torch.equal(x, images.stored[outer][inner][[2, 0]])
    assert torch.equal(y, images.labels[outer][inner][[2, 0]])


def test_a_subset_copies_no_image(images: ImageSet) -> None:
    assert images.subset([1, 2]).stored.data_ptr() == images.stored.data_ptr()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_set_moved_to_a_device_has_the_same_images_there(images: ImageSet, device: str) -> None:
    subset = images.subset([4, 2, 9])
    moved = subset.to(device)
    x, y = moved.batch(torch.tensor([1, 2]))
    assert (x.device.type, y.device.type) == (device, "cpu")
    assert x.shape == (2, 3, 4, 5)
    if device != "meta":
        assert torch.equal(x.cpu(), images.stored[[2, 9]])
        assert torch.equal(moved.subset([2]).images.cpu(), images.stored[[9]])


def test_images_of_another_kind_are_refused(images: ImageSet) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 \(N, 3, H, W\), got torch.float32"):
        ImageSet(images.stored.float(), images.labels, images.classes)
    with pytest.raises(ValueError, match="images must be uint8"):
        ImageSet(images.stored[:, :1], images.labels, images.classes)
    with pytest.raises(ValueError, match="labels must be one per image, got 19 for 20"):
        ImageSet(images.stored, images.labels[1:], images.classes)


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("positions", [None, [1, 2, 4]])
def test_batches_that_are_copied_give_the_same_views(
    images: ImageSet, views: int, positions: list[int] | None
) -> None:
    subset = images.subset(torch.randperm(len(images))[:12])
    order = torch.randperm(12)[:10].view(2, 5)
    policy = simclr_policy(8)
    wanted = list(range(5)) if positions is None else positions
    where = None if positions is None else torch.tensor(positions)
    usual = subset.view_batches(policy, order, 3, 1, views=views)
    for step, (drawn, _) in enumerate(usual):
        stored, rows = in_memory._gathered(subset.stored, subset.rows_of(order[step]), where, "cpu")
        assert len(stored) == len(wanted)
        draw_views = policy.draw_two if views == 2 else policy.draw_one
        copied = draw_views(stored, generator(3, "views", 1, step), rows=rows)
        for k in wanted:
            one, other = (each.of(slice(k, k + 1)).make().in_order() for each in (drawn, copied))
            assert torch.equal(one, other)
