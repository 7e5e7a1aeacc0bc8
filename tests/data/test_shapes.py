"""The drawn data set: reproducible, balanced, with the properties that the study argues from."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_ablate.data.shapes import SHAPE_CLASSES, SIDE, make_shapes, open_shapes
from simclr_ablate.data.sizes import SHAPES_TEST, SHAPES_TRAIN
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.randomness import generator, seeded_init

Labelled = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def train() -> Labelled:
    return make_shapes(10_000, seed=0)


@pytest.fixture(scope="module")
def test() -> Labelled:
    return make_shapes(2_000, seed=0, split="test")


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


def test_another_process_draws_the_same_images() -> None:
    code = (
        "import hashlib; from simclr_ablate.data.shapes import make_shapes;"
        "print(hashlib.sha256(make_shapes(50, 7)[0].numpy().tobytes()).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    images, _ = make_shapes(50, 7)
    assert run.stdout.strip() == hashlib.sha256(images.numpy().tobytes()).hexdigest()


def test_the_set_is_cached_whole(tmp_path) -> None:
    train, test = open_shapes(tmp_path, seed=5)
    assert (len(train), len(test)) == (SHAPES_TRAIN, SHAPES_TEST)
    images, labels = make_shapes(SHAPES_TEST, 5, "test")
    assert torch.equal(test.images, images)
    assert torch.equal(test.labels, labels)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    open_shapes(tmp_path, seed=5)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == files


@pytest.mark.slow
def test_colours_tell_nothing_of_the_class(train: Labelled, test: Labelled) -> None:
    for bins in (4, 8):
        accuracy = _linear_accuracy(
            (_histograms(train[0], bins), train[1]), (_histograms(test[0], bins), test[1]), 100
        )
        assert accuracy < 0.2


@pytest.mark.slow
def test_colours_tell_which_image_a_crop_is_of(test: Labelled) -> None:
    draw = np.random.default_rng(0)
    images = test[0][:1_000]
    first, second = (
        _histograms(torch.stack([_random_resized_crop(image, draw) for image in images]), 8).sqrt()
        for _ in range(2)
    )
    nearest = torch.cdist(first, second).argmin(1)
    assert (nearest == torch.arange(1_000)).float().mean() > 0.6


@pytest.mark.slow
def test_raw_pixels_tell_little_of_the_class(train: Labelled, test: Labelled) -> None:
    flat = [(images.flatten(1) / 255, labels) for images, labels in (train, test)]
    assert _linear_accuracy(flat[0], flat[1], 20) < 0.45


@pytest.mark.slow
def test_a_supervised_network_learns_the_class(train: Labelled, test: Labelled) -> None:
    network = _train_supervised(train, epochs=6).eval()
    with torch.no_grad():
        predicted = network(test[0] / 255 - 0.5).argmax(1)
    assert (predicted == test[1]).float().mean() > 0.85


def _histograms(images: Tensor, bins: int) -> Tensor:
    """Joint RGB histograms, (N, bins^3), each summing to 1."""
    level = images.flatten(2).long() * bins // 256
    cell = (level[:, 0] * bins + level[:, 1]) * bins + level[:, 2]
    counts = torch.zeros(len(images), bins**3).scatter_add_(1, cell, torch.ones(cell.shape))
    return counts / cell.shape[1]


def _random_resized_crop(image: Tensor, draw: np.random.Generator) -> Tensor:
    """Area U(0.08, 1), aspect ratio log-uniform in [3/4, 4/3] (App. A), bilinear."""
    while True:
        area = draw.uniform(0.08, 1) * SIDE**2
        ratio = np.exp(draw.uniform(np.log(3 / 4), np.log(4 / 3)))
        height, width = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
        if height <= SIDE and width <= SIDE:
            break
    top, left = draw.integers(SIDE - height + 1), draw.integers(SIDE - width + 1)
    window = image[None, :, top : top + height, left : left + width].float()
    return F.interpolate(window, (SIDE, SIDE), mode="bilinear").round()[0].to(torch.uint8)


def _linear_accuracy(train: Labelled, test: Labelled, iterations: int) -> float:
    """Test accuracy of logistic regression on standardised features."""
    mean, std = train[0].mean(0), train[0].std(0) + 1e-6
    features, tested = ((x - mean) / std for x in (train[0], test[0]))
    weights = torch.zeros(features.shape[1] + 1, 10, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ weights[:-1] + weights[-1], train[1])
        loss = loss + 1e-3 * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    predicted = (tested @ weights[:-1] + weights[-1]).argmax(1)
    return (predicted == test[1]).float().mean().item()


def _train_supervised(train: Labelled, epochs: int, batch_size: int = 100) -> nn.Module:
    """A small ResNet trained with flips and shifted crops."""
    images, labels = train
    with seeded_init(0, "supervised"):
        encoder = build_encoder("resnet8", 1, "strided")
        network = nn.Sequential(encoder, nn.Linear(encoder.dim, 10))
    network = network.to(memory_format=torch.channels_last)
    steps = epochs * (len(images) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=6e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for epoch in range(epochs):
        draw = generator(0, "supervised", epoch)
        for batch in torch.randperm(len(images), generator=draw).split(batch_size):
            x = F.pad(images[batch] / 255 - 0.5, (3, 3, 3, 3), mode="reflect")
            top, left = torch.randint(0, 7, (2,), generator=draw).tolist()
            x = x[:, :, top : top + SIDE, left : left + SIDE]
            x = x.flip(3) if torch.rand((), generator=draw) < 0.5 else x
            x = x.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            F.cross_entropy(network(x), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return network
