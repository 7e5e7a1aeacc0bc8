"""The default experiment, its images and its training loop, for the benchmarks."""

import contextlib
import functools
from collections.abc import Callable

import torch
from hydra import compose, initialize_config_dir

from simclr_ablate.augment.build import build_policy
from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.shapes import SHAPE_CLASSES, make_shapes
from simclr_ablate.data.splits import Splits
from simclr_ablate.losses.registry import build_loss
from simclr_ablate.models.encoder import memory_format
from simclr_ablate.plan.grid import experiment_sections
from simclr_ablate.run import CONFIG_FOLDER, register
from simclr_ablate.schema import Experiment
from simclr_ablate.tasks.networks import build_models
from simclr_ablate.tasks.pretrain import build_loop
from simclr_ablate.training.contrastive import ContrastivePretraining
from simclr_ablate.training.loop import Loop, Training


def default_experiment(*overrides: str) -> Experiment:
    """The experiment that `python -m simclr_ablate` runs."""
    register()
    with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
        config = compose("config", list(overrides))
    return Experiment.from_config(experiment_sections(config))


@functools.cache
def ready_images() -> ImageSet:
    """As many training images as a default run has."""
    return ImageSet(*make_shapes(11_000, seed=0), list(SHAPE_CLASSES))


def training_parts(experiment: Experiment) -> Training:
    """The parts of a run's training loop, on the CPU."""
    device = torch.device("cpu")
    encoder, head = build_models(experiment, device)
    return Training(
        images=ready_images(),
        policy=build_policy(experiment.views, experiment.data),
        encoder=encoder,
        head=head,
        loss=build_loss(experiment.loss),
        optimizer=experiment.optimizer,
        seed=experiment.seed,
        precision=experiment.precision,
        layout=memory_format(experiment.compute),
        device=device,
    )


def loop_on(device: torch.device, *overrides: str) -> Loop:
    """The loop of the default experiment with `overrides`, on a device, with images enough for four steps.

    The images have no content to speak of, and the networks are in training mode.
    """
    experiment = default_experiment("data.name=tests.small_runs:images", *overrides)
    size, count = experiment.data.size, 4 * experiment.optimizer.batch_size
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    images = ImageSet(pixels, torch.zeros(count, dtype=torch.long), ["a"])
    encoder, head = build_models(experiment, device)
    encoder.train()
    head.train()
    return build_loop(experiment, Splits(images, images, images), encoder, head, device)


def take_steps(
    loop: ContrastivePretraining, steps: int, after_step: Callable[[], object] = lambda: None
) -> None:
    """Takes the first steps of a run in its own loop, and calls `after_step` after each."""

    class EnoughError(Exception):
        pass

    def stop(loop: ContrastivePretraining) -> None:
        after_step()
        if loop.step == steps:
            raise EnoughError

    with contextlib.suppress(EnoughError):
        loop.run(stop)
