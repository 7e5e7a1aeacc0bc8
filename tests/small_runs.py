"""Runs of less than a second, on images that are smaller than ours; and their command, given in this process."""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf

from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.splits import Splits
from simclr_ablate.launch.command import Command, execute
from simclr_ablate.schema import Data, Experiment
from simclr_ablate.stopping import StopSignal
from simclr_ablate.tasks.networks import build_models
from simclr_ablate.tasks.pretrain import build_loop
from simclr_ablate.training.loop import Loop

CLASSES = ["a", "b", "c", "d"]
TRAINING, TEST = 48, 20

SMALL = [
    "data.name=tests.small_runs:images",
    "data.size=16",
    "data.validation=16",
    "optimizer.batch_size=16",
    "optimizer.epochs=1",
    "optimizer.warmup_epochs=0",
    "evaluation.l2_count=1",
    "evaluation.l2_min=1",
    "evaluation.l2_max=1",
    "evaluation.knn=5",
    "compute.threads=1",
    "compute.checkpoint_minutes=0",
    "tracker.every=1",
]
"""Two steps, with a checkpoint after each; a strong l2, with which fitting takes few iterations."""


class SignalledAfter(StopSignal):
    """Its own process gets SIGTERM at its `step`-th question, which comes after a step; never with None."""

    def __init__(self, step: int | None) -> None:
        super().__init__()
        self.left = step

    def __call__(self) -> bool:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGTERM)
        return super().__call__()


def images(data: Data) -> tuple[ImageSet, ImageSet]:
    return shades(data, TRAINING, TEST)


def shades(data: Data, training: int, test: int) -> tuple[ImageSet, ImageSet]:
    """Noise in as many shades as there are classes: so many training images, and test images."""
    count = training + test
    labels = torch.arange(count) % len(CLASSES)
    drawn = torch.Generator().manual_seed(data.seed)
    noise = torch.randint(128, (count, 3, data.size, data.size), generator=drawn)
    pixels = (noise + 32 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    whole = ImageSet(pixels, labels, CLASSES)
    return whole.subset(range(training)), whole.subset(range(training, count))


def loop_of(experiment: Experiment, count: int, device: torch.device) -> Loop:
    """The experiment's loop at its first step, on so many images of noise. All is on `device`."""
    whole = shades(experiment.data, count, 1)[0].to(device)
    encoder, head = build_models(experiment, device, len(CLASSES))
    return build_loop(experiment, Splits(whole, whole, whole), encoder, head, device)


def give(
    compose_config: Callable[[list[str]], object],
    store: Path,
    cache: Path,
    experiments: Sequence[Experiment],
) -> int:
    """What the command does once Hydra has composed its experiments; its exit status."""
    config = OmegaConf.to_container(compose_config([f"store={store}", f"cache={cache}"]))
    assert isinstance(config, dict)
    before, sys.argv = sys.argv, ["simclr_ablate"]
    try:
        return execute(Command.from_config(config), experiments).status
    finally:
        sys.argv = before


def give_seeds(
    compose_config: Callable[[list[str]], object],
    store: Path,
    cache: Path,
    first: Experiment,
    seeds: int,
    knn: int,
) -> None:
    """Gives the command of `first` at as many seeds, evaluated with `knn` neighbours, which must come to its end."""
    evaluation = dataclasses.replace(first.evaluation, knn=knn)
    experiments = [
        dataclasses.replace(first, seed=seed, evaluation=evaluation) for seed in range(seeds)
    ]
    assert give(compose_config, store, cache, experiments) == 0
