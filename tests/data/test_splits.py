"""Splits: disjoint, balanced, decided by the seed alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from simclr_ablate.config import ConfigError
from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.sizes import data_sizes
from simclr_ablate.data.splits import open_data, split_training, take_balanced
from simclr_ablate.data.streamed import StreamedSet
from simclr_ablate.schema import Data


def make_data(name: str, **changed: object) -> Data:
    values = {
        "name": name,
        "root": None,
        "size": 32,
        "limit": None,
        "validation": 100,
        "on_error": "raise",
        "seed": 0,
        "label": None,
        "fingerprint": None,
    }
    return Data(**{**values, **changed})  # type: ignore[arg-type]


def make_set(counts: list[int]) -> ImageSet:
    """Images that can be told apart, in random order."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    numbers = torch.arange(len(labels))
    stored = torch.stack([numbers // 256, numbers % 256, numbers * 0], 1).to(torch.uint8)
    return ImageSet(stored[:, :, None, None], labels, [str(n) for n in range(len(counts))])


def numbers(images: ImageSet) -> list[int]:
    """Which images of `make_set` they are."""
    high, low, _ = images.images[:, :, 0, 0].long().T
    return (high * 256 + low).tolist()


@pytest.mark.parametrize("total", [0, 1, 10, 99, 250, 290, 300])
def test_classes_are_balanced_as_far_as_they_reach(total: int) -> None:
    counts = [100, 20, 180]
    labels = make_set(counts).labels
    taken = take_balanced(labels, total, counts, 0, "test")
    assert len(taken.unique()) == len(taken) == total
    shares = labels[taken].bincount(minlength=3).tolist()
    # Water poured into vessels of unlike depth: all stand alike or are full.
    level = max(shares)
    assert all(
        share >= level - 1 or share == count for share, count in zip(shares, counts, strict=True)
    )


def test_a_larger_total_takes_the_same_and_more() -> None:
    labels = make_set([40, 7, 25, 60]).labels
    before: set[int] = set()
    for total in range(133):
        taken = set(take_balanced(labels, total, [40, 7, 25, 60], 3, "test").tolist())
        assert before <= taken
        before = taken


def test_training_and_validation_share_no_image() -> None:
    images = make_set([300, 300, 300])
    data = make_data("shapes", validation=90, limit=120)
    train, validation = split_training(data, images)
    assert (len(train), len(validation)) == (120, 90)
    assert train.labels.bincount().tolist() == [40] * 3
    assert validation.labels.bincount().tolist() == [30] * 3
    assert not set(numbers(train)) & set(numbers(validation))
    for part in (train, validation):
        assert torch.equal(images.labels[numbers(part)], part.labels)


def test_the_limit_does_not_move_the_validation_split() -> None:
    images = make_set([200, 200])
    everything, held = split_training(make_data("shapes", validation=50), images)
    limited, same = split_training(make_data("shapes", validation=50, limit=33), images)
    assert numbers(held) == numbers(same)
    assert set(numbers(limited)) < set(numbers(everything))


def test_the_seed_decides() -> None:
    images = make_set([200, 200])
    held = [numbers(split_training(make_data("shapes", seed=s), images)[1]) for s in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


def test_no_class_is_lost_to_validation() -> None:
    train, validation = split_training(make_data("shapes", validation=50), make_set([4, 200]))
    assert train.labels.bincount().tolist() == [2, 152]
    assert validation.labels.bincount().tolist() == [2, 48]


def test_too_large_a_split_is_refused() -> None:
    images = make_set([10, 10])
    with pytest.raises(ConfigError, match=r"data\.validation must be <= 10.* got 11"):
        split_training(make_data("shapes", validation=11), images)
    with pytest.raises(ConfigError, match=r"data\.limit must be <= 16.* got 17"):
        split_training(make_data("shapes", validation=4, limit=17), images)


@pytest.mark.slow
def test_shapes_are_opened_as_counted(tmp_path: Path) -> None:
    data = make_data("shapes", validation=1_000, limit=500)
    splits = open_data(data, tmp_path, 0)
    assert len(splits.train) == data_sizes(data).pretraining == 500
    assert (len(splits.validation), splits.unlabelled) == (1_000, None)
    images, labels = splits.test.batch(torch.arange(3))
    assert images.shape == (3, 3, 32, 32)
    assert labels.shape == (3,)
    with pytest.raises(ConfigError, match=r"data\.size must be 32 for data=shapes, got 64"):
        open_data(make_data("shapes", size=64), tmp_path, 0)


def test_folders_are_opened_in_memory_or_streamed(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(6):
                pixels = draw.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / label / f"{number}.png")
    changed = {"root": str(tmp_path), "size": 16, "validation": 4, "limit": 6}
    memory = open_data(make_data("image_folder", **changed), tmp_path / "cache", 0)
    streamed = open_data(make_data("imagenet", **changed), tmp_path / "cache", 0)[:3]
    assert all(isinstance(part, StreamedSet) for part in streamed)
    for held, streaming in zip(memory[:3], streamed, strict=True):
        assert torch.equal(held.labels, streaming.labels)
    assert [len(part) for part in streamed] == [6, 4, 12]
