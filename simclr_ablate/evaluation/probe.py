"""The protocol `probe`: a small network predicts from frozen features which transformation was applied (Table 3)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from simclr_ablate.augment.geometry import rotate_quarters
from simclr_ablate.augment.operations import GaussianNoise, Grayscale, Operation, Sobel
from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.metrics import top_accuracy
from simclr_ablate.evaluation.protocol import Evaluator, Frozen, Result, Subject, classified
from simclr_ablate.randomness import generator, seeded_init
from simclr_ablate.ranks import SOLO, Ranks

BATCH, LR = 256, 1e-3
_EPOCHS, _MOST_EPOCHS = 20, 1000


@dataclass(frozen=True)
class Transformation:
    """A transformation of images, which their labels name.

    shares: the probability of each label. apply: from images (N, 3, H, W) in [0, 1], labels (N,) and a generator to
    transformed images.
    """

    shares: tuple[float, ...]
    apply: Callable[[Tensor, Tensor, Generator], Tensor]

    def draw(self, n: int, draw: Generator) -> Tensor:
        """(N,) labels."""
        edges = torch.tensor(self.shares).cumsum(0)[:-1]
        return torch.bucketize(torch.rand(n, generator=draw), edges, right=True)


def _applied(operation: Operation) -> Callable[[Tensor, Tensor, Generator], Tensor]:
    """The operation on the images with label 1."""

    def apply(images: Tensor, labels: Tensor, draw: Generator) -> Tensor:
        n, _, height, width = images.shape
        params = operation.draw(n, height, width, draw)
        changed = operation(images, params)
        return torch.where(labels.bool().view(-1, 1, 1, 1).to(images.device), changed, images)

    return apply


TRANSFORMATIONS = {
    # One image in five grey, as SimCLR's views have it: the paper's random guess is 80 %.
    "color": Transformation((0.8, 0.2), _applied(Grayscale())),
    "rotation": Transformation(
        (0.25,) * 4, lambda images, labels, _: rotate_quarters(images, labels)
    ),
    "noise": Transformation((0.5, 0.5), _applied(GaussianNoise())),
    "sobel": Transformation((0.5, 0.5), _applied(Sobel())),
}
"""The rows of Table 3: colour against grayscale, rotation, original against corrupted, original against Sobel."""


class ProbeResult(NamedTuple):
    """The accuracies of a probe, in percent."""

    scores: Tensor
    """Scores of the test split, (N, labels)."""
    validation_accuracy: float
    """The validation accuracy of the chosen epoch, by which it was chosen."""
    guess: float
    """The test accuracy of always naming the label that is most frequent in training."""
    epochs: int
    """Epochs of training."""


def evaluate(subject: Subject, frozen: Frozen) -> Result:
    """A probe on features of transformed images, which predicts their transformation."""
    experiment = subject.experiment
    probe = evaluate_probe(*frozen, experiment.seed, subject.device, experiment.evaluation.patience)
    metrics, examples = classified(probe.scores, frozen.test.labels, "top1")
    accuracies = {
        "probe_accuracy": metrics["top1"],
        "probe_validation_accuracy": probe.validation_accuracy,
        "probe_guess": probe.guess,
    }
    return Result(accuracies, examples)


PROTOCOL = Evaluator(on_features=evaluate)


def transformed(
    batches: Iterable[tuple[Tensor, Tensor]],
    name: str,
    seed: int,
    split: str,
    ranks: Ranks = SOLO,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each batch with the transformation applied at random: images in [0, 1], and the label of each.

    batches: images (B, 3, H, W), uint8 or in [0, 1], with any labels. Each batch draws from (seed, name, split, its
    number).

    ranks: the `batches` of each rank are every `count`-th, as `in_batches` gives them.
    """
    transformation = TRANSFORMATIONS[name]
    for position, (images, _) in enumerate(batches):
        number = ranks.index + position * ranks.count
        draw = generator(seed, f"probe {name} {split}", number)
        labels = transformation.draw(len(images), draw)
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        yield transformation.apply(images, labels, draw), labels


def evaluate_probe(
    train: Features,
    validation: Features,
    test: Features,
    seed: int,
    device: torch.device | str,
    patience: int | None = None,
) -> ProbeResult:
    """An MLP with one hidden layer, as wide as the features, trained to predict the labels from them.

    The paper only says that it is an MLP. Here, features are standardised by the training split, the optimiser is
    AdamW, and the epoch with the best validation accuracy counts.

    patience: training ends after this many epochs without a better one. None: 20 epochs with a cosine schedule, as
        before this argument existed.
    """
    mean, std = train.features.mean(0), train.features.std(0).clamp(min=1e-6)
    x, validation_x, test_x = (
        ((split.features - mean) / std).to(device) for split in (train, validation, test)
    )
    y = train.labels.to(device)
    labels = 1 + int(train.labels.max())
    with seeded_init(seed, "probe"):
        width = x.shape[1]
        network = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, labels))
    network.to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS)
    best, best_epoch, scores = -1.0, 0, torch.empty(0)
    epochs = _EPOCHS if patience is None else _MOST_EPOCHS
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=generator(seed, "probe order", epoch)).to(device)
        for rows in order.split(BATCH):
            loss = F.cross_entropy(network(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if patience is None:
            schedule.step()
        reached = top_accuracy(1, _scores(network, validation_x), validation.labels)
        if reached > best:
            best, best_epoch, scores = reached, epoch, _scores(network, test_x)
        elif patience is not None and epoch - best_epoch >= patience:
            break
    commonest = train.labels.bincount().argmax()
    guess = 100 * (test.labels == commonest).double().mean().item()
    return ProbeResult(scores, best, guess, epoch + 1)


def _scores(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(part) for part in x.split(8192)]).cpu()
