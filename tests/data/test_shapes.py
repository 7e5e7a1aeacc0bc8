"""The drawn data set: reproducible and balanced. What its images tell of their class: test_image_statistics.py."""

import hashlib
import subprocess
import sys

import pytest
import torch

from simclr_ablate.data.shapes import SHAPE_CLASSES, SIDE, make_shapes, open_shapes
from simclr_ablate.data.sizes import SHAPES_TEST, SHAPES_TRAIN


def test_images_are_rgb_and_classes_balanced() -> None:
    images, labels = make_shapes(1_003, seed=3)
    assert images.shape == (1_003, 3, SIDE, SIDE)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    counts = labels.bincount(minlength=10)
    assert len(counts) == len(SHAPE_CLASSES) == 10
    assert set(counts.tolist()) == {100, 101}


def test_classes_are_shuffled() -> None:
    _, labels = make_shapes(2_000, seed=0)
    runs = (labels[1:] == labels[:-1]).float().mean()
    assert 0.05 < runs < 0.15


def test_the_seed_and_the_split_decide_all() -> None:
    images, labels = make_shapes(60, seed=1)
    again, same_labels = make_shapes(60, seed=1)
    assert torch.equal(images, again)
    assert torch.equal(labels, same_labels)
    for other in (make_shapes(60, seed=2), make_shapes(60, seed=1, split="test")):
        matches = (images.flatten(1)[:, None] == other[0].flatten(1)[None]).all(2)
        assert not matches.any()


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    before = torch.random.get_rng_state()
    images, _ = make_shapes(20, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(make_shapes(20, seed=0)[0], images)


@pytest.mark.slow
def test_another_process_draws_the_same_images() -> None:
    code = (
        "import hashlib; from simclr_ablate.data.shapes import make_shapes;"
        "print(hashlib.sha256(make_shapes(50, 7)[0].numpy().tobytes()).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    images, _ = make_shapes(50, 7)
    assert run.stdout.strip() == hashlib.sha256(images.numpy().tobytes()).hexdigest()


@pytest.mark.slow
def test_the_set_is_cached_whole(tmp_path) -> None:
    train, test = open_shapes(tmp_path, seed=5)
    assert (len(train), len(test)) == (SHAPES_TRAIN, SHAPES_TEST)
    images, labels = make_shapes(SHAPES_TEST, 5, "test")
    assert torch.equal(test.images, images)
    assert torch.equal(test.labels, labels)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    open_shapes(tmp_path, seed=5)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == files
