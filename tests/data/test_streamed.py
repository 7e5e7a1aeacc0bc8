"""Streaming: the same batches whatever the number of workers, and in the policies' own terms."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from simclr_ablate.augment.policies import (
    Policy,
    autoaugment_policy,
    no_policy,
    pair_policy,
    simclr_policy,
)
from simclr_ablate.config import ConfigError
from simclr_ablate.data.streamed import StreamedSet, open_streamed, split_crop
from simclr_ablate.randomness import generator

SIZE, CLASSES, PER_CLASS = 16, 3, 30


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("streamed")
    draw = np.random.default_rng(0)
    for split, count in (("train", PER_CLASS), ("val", 4)):
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                coarse = draw.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                height, width = draw.integers(20, 80, 2).tolist()
                image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
                image.save(folder / f"{number:02}.jpg")
    return root


def _open(root: Path, workers: int = 0, on_error: str = "raise") -> tuple[StreamedSet, StreamedSet]:
    return open_streamed(root, SIZE, on_error, workers)


def _order(n: int, steps: int, seed: int = 0) -> torch.Tensor:
    shuffled = torch.randperm(n, generator=generator(seed, "order"))
    return shuffled[: n // steps * steps].view(steps, -1)


def test_batches_do_not_depend_on_the_number_of_workers(root: Path) -> None:
    order = _order(CLASSES * PER_CLASS, 2)
    crop, crops, _ = split_crop(simclr_policy(SIZE))
    results = []
    for workers in (0, 1, 2):
        train, _ = _open(root, workers)
        results.append(list(train.epoch(order, crop, crops, seed=4, epoch=2)))
    for other in results[1:]:
        for (images, labels), (same, same_labels) in zip(results[0], other, strict=True):
            assert images.dtype == torch.uint8
            assert images.shape == (45, 2, 3, SIZE, SIZE)
            assert torch.equal(images, same)
            assert torch.equal(labels, same_labels)


def test_labels_follow_their_images(root: Path) -> None:
    train, _ = _open(root)
    order = _order(len(train), 3)
    for batch, (_, labels) in zip(
        order, train.epoch(order, *split_crop(no_policy(SIZE))[:2], 0, 0), strict=True
    ):
        assert labels.tolist() == [int(train.names[index][11:12]) for index in batch]
        assert torch.equal(labels, train.labels[batch])


def test_a_crop_does_not_depend_on_the_batch_or_the_subset(root: Path) -> None:
    train, _ = _open(root)
    crop, crops, _ = split_crop(simclr_policy(SIZE))
    whole = torch.cat([x for x, _ in train.epoch(_order(90, 1), crop, crops, 0, 0)])
    place = {int(index): row for row, index in enumerate(_order(90, 1)[0])}
    subset = train.subset(torch.tensor([80, 3, 41]))
    part = next(subset.epoch(torch.tensor([[2, 0]]), crop, crops, 0, 0))[0]
    assert torch.equal(part, whole[[place[41], place[80]]])


@pytest.mark.parametrize(
    "policy",
    [
        simclr_policy(SIZE, blur=True),
        pair_policy(SIZE, "color", "cutout"),
        pair_policy(SIZE, "crop", "blur"),
        no_policy(SIZE),
        autoaugment_policy(SIZE),
    ],
    ids=["simclr", "pair", "crop-pair", "none", "autoaugment"],
)
def test_views_are_the_policy_on_the_crops(root: Path, policy: Policy) -> None:
    train, _ = _open(root)
    order = _order(len(train), 3)
    views = [
        drawn.make().in_order() for drawn, _ in train.view_batches(policy, order, seed=1, epoch=0)
    ]
    assert [tuple(x.shape) for x in views] == [(60, 3, SIZE, SIZE)] * 3
    crop, crops, _ = split_crop(policy)
    images, _ = list(train.epoch(order, crop, crops, 1, 0))[1]
    draw = generator(1, "views", 0, 1)
    if policy.shared:
        rest = Policy(policy.shared[1:], policy.first, policy.second)
        expected = rest.two_views(images[:, 0], draw)
    else:
        rest = Policy(first=policy.first[1:])
        expected = rest.one_view(torch.cat([images[:, 0], images[:, 1]]), draw)
    assert torch.equal(views[1], expected)


@pytest.mark.parametrize(
    "policy",
    [simclr_policy(SIZE), pair_policy(SIZE, "color", "cutout"), autoaugment_policy(SIZE)],
    ids=["simclr", "pair", "autoaugment"],
)
def test_one_view_of_each_image_with_its_label(root: Path, policy: Policy) -> None:
    train, _ = _open(root)
    order = _order(len(train), 3)
    batches = list(train.view_batches(policy, order, seed=1, epoch=0, views=1))
    crop, _, rest = split_crop(policy)
    cropped = train.epoch(order, crop, 1, 1, 0)
    for step, ((drawn, labels), (images, expected)) in enumerate(
        zip(batches, cropped, strict=True)
    ):
        view = rest.one_view(images[:, 0], generator(1, "views", 0, step))
        assert torch.equal(drawn.make().in_order(), view)
        assert torch.equal(labels, expected)
        ((some, some_labels),) = list(
            train.view_batches(policy, order, 1, 0, step, positions=torch.arange(8, 20), views=1)
        )[:1]
        assert torch.equal(some.of(slice(8, 20)).make().in_order(), view[8:20])
        assert torch.equal(some_labels, labels)


def test_the_label_is_that_of_the_image_that_took_the_place(root: Path, spoilt: Path) -> None:
    train, _ = _open(root, on_error="skip")
    order = torch.tensor([[35, 70]])  # class1/05.jpg and an image of class2
    ((drawn, labels),) = train.view_batches(simclr_policy(SIZE), order, 0, 0, views=1)
    assert labels.tolist() == [2, 2]
    assert train.labels[order].tolist() == [[1, 2]]
    assert drawn.n == 2


def test_a_resumed_epoch_goes_on_as_it_would_have(root: Path) -> None:
    train, _ = _open(root, workers=1)
    order = _order(len(train), 5)
    whole = list(train.view_batches(simclr_policy(SIZE), order, 0, 3))
    resumed = list(train.view_batches(simclr_policy(SIZE), order, 0, 3, first=3))
    assert len(resumed) == 2
    for (ours, labels), (theirs, same_labels) in zip(resumed, whole[3:], strict=True):
        assert torch.equal(ours.make().images, theirs.make().images)
        assert torch.equal(labels, same_labels)


def test_epochs_and_seeds_give_other_crops(root: Path) -> None:
    train, _ = _open(root)
    crop, crops, _ = split_crop(simclr_policy(SIZE))
    order = torch.arange(8)[None]
    drawn = [next(train.epoch(order, crop, crops, *at))[0] for at in ((0, 0), (0, 1), (1, 0))]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_evaluation_reads_all_in_order(root: Path) -> None:
    _, test = _open(root, workers=2)
    batches = list(test.batches(5))
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    assert torch.cat([labels for _, labels in batches]).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    bicubic = v2.InterpolationMode.BICUBIC
    resize = v2.Compose([v2.Resize(round(SIZE * 256 / 224), bicubic), v2.CenterCrop(SIZE)])
    files = sorted((root / "val").glob("*/*"))
    for file, image in zip(files, torch.cat([images for images, _ in batches]), strict=True):
        expected = np.asarray(resize(Image.open(file).convert("RGB"))).transpose(2, 0, 1)
        assert np.abs(image.numpy().astype(int) - expected).mean() < 3


def test_the_global_generator_is_not_moved(root: Path) -> None:
    train, test = _open(root, workers=1)
    before = torch.random.get_rng_state()
    list(test.batches(4))
    list(train.view_batches(simclr_policy(SIZE), _order(90, 9), 0, 0))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.fixture
def spoilt(root: Path):
    path = root / "train/class1/05.jpg"
    content = path.read_bytes()
    path.write_bytes(content[:200])
    yield path
    path.write_bytes(content)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_file_stops_with_its_path(root: Path, spoilt: Path, workers: int) -> None:
    train, _ = _open(root, workers)
    with pytest.raises(ConfigError, match=r"data\.root must .*class1/05\.jpg: .*on_error=skip"):
        list(train.batches(10))
    with pytest.raises(ConfigError, match=r"class1/05\.jpg"):
        list(train.view_batches(simclr_policy(SIZE), _order(90, 9), 0, 0))


def test_an_unreadable_file_is_skipped_and_counted(root: Path, spoilt: Path, caplog) -> None:
    train, _ = _open(root, on_error="skip")
    with caplog.at_level(logging.WARNING):
        labels = torch.cat([labels for _, labels in train.batches(10)])
    assert "left out 1 unreadable images of 90" in caplog.text
    assert labels.bincount().tolist() == [30, 29, 30]
    order = _order(90, 9)
    for workers in (0, 2):
        train, _ = _open(root, workers, "skip")
        batches = list(train.view_batches(simclr_policy(SIZE), order, 0, 0))
        assert [len(drawn.make().images) for drawn, _ in batches] == [20] * 9


@pytest.mark.parametrize("policy", [simclr_policy(SIZE), pair_policy(SIZE, "color")])
def test_views_of_some_places_are_those_of_the_whole_batch(
    root: Path, spoilt: Path, policy: Policy
) -> None:
    """Also of the image that can't be read: the same neighbour takes its place."""
    order = _order(90, 1)
    ((whole, labels),) = _open(root, on_error="skip")[0].view_batches(policy, order, 2, 1)
    for workers, share in ((0, slice(0, 30)), (2, slice(30, 60)), (0, slice(60, 90))):
        train, _ = _open(root, workers, "skip")
        positions = torch.arange(90)[share]
        ((some, some_labels),) = train.view_batches(policy, order, 2, 1, positions=positions)
        assert torch.equal(some_labels[share], labels[share])
        assert len(some.images) < len(whole.images)
        ours, theirs = (drawn.of(share).make().in_order() for drawn in (some, whole))
        assert torch.equal(ours, theirs)


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(tmp_path: Path, kill_session) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.new("1", (12_000, 12_000)).save(tmp_path / split / "a" / "0.png")
        for number in range(1, 100):  # each takes a second to decode
            os.link(tmp_path / split / "a" / "0.png", tmp_path / split / "a" / f"{number}.png")
    code = (
        "from simclr_ablate.data.streamed import open_streamed;"
        f"next(open_streamed({str(tmp_path)!r}, 16, 'raise', 2)[0].batches(99))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    kill_session(process, members=3)


@pytest.mark.slow
@pytest.mark.parametrize("room", ["4k", "1m"])
def test_full_shared_memory_is_one_line_and_no_hang(root: Path, room: str) -> None:
    """In a process that has a /dev/shm of its own: full, so that there is no lock, or too small for images."""
    code = (
        "from simclr_ablate.data.streamed import open_streamed;"
        f"list(open_streamed({str(root)!r}, 224, 'raise', 2)[0].batches(90))"
    )
    fill = "head -c 4096 /dev/zero > /dev/shm/fill;" if room == "4k" else ""
    mount = f"mount -t tmpfs -o size={room} tmpfs /dev/shm"
    alone = ["unshare", "--mount", "sh", "-c"]
    if subprocess.run([*alone, mount], capture_output=True).returncode:
        pytest.skip("a /dev/shm of one's own needs root")
    command = [*alone, f'{mount}; {fill} exec "$0" -c "$1"', sys.executable, code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    last = ended.stderr.splitlines()[-1]
    assert "StorageError: /dev/shm, the memory in which processes share images, is full" in last
    assert "compute.workers=0" in last


def test_a_policy_without_a_common_crop_is_refused() -> None:
    color = pair_policy(SIZE, "color").first
    with pytest.raises(ValueError, match="must begin with the same crop"):
        split_crop(Policy(first=color, second=color))
