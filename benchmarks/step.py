"""A whole training step of the laptop scale on one core, beside its encoder and head alone."""

from collections.abc import Callable

import torch

from benchmarks.laptop import default_experiment, take_steps, training_parts
from benchmarks.measure import best_seconds, print_table
from simclr_ablate.freed_memory import keep_freed_memory
from simclr_ablate.models.encoder import memory_format
from simclr_ablate.schema import Experiment
from simclr_ablate.tasks.networks import build_models
from simclr_ablate.training.contrastive import ContrastivePretraining

STEPS = 85


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    experiment = default_experiment()
    best = best_seconds({"bare": bare(experiment), "whole": whole(experiment)}, rounds=9)
    pairs = experiment.optimizer.batch_size * STEPS
    rows = [
        ["encoder and head, forward and backward", f"{pairs / best['bare']:,.0f}", "100 %"],
        [
            "whole step: views, loss and optimiser too",
            f"{pairs / best['whole']:,.0f}",
            f"{100 * best['bare'] / best['whole']:.0f} %",
        ],
    ]
    print_table(["laptop scale", "pairs/s", "of the bare step"], rows)


def bare(experiment: Experiment) -> Callable[[], None]:
    """Forward and backward pass of encoder and head on a batch that exists already."""
    encoder, head = build_models(experiment, torch.device("cpu"))
    size = experiment.data.size
    views = torch.rand(2 * experiment.optimizer.batch_size, 3, size, size)
    views = views.contiguous(memory_format=memory_format(experiment.compute))

    def steps() -> None:
        for _ in range(STEPS):
            head(encoder(views)).square().mean().backward()

    return steps


def whole(experiment: Experiment) -> Callable[[], None]:
    """The steps of a run in its own loop."""
    parts = training_parts(experiment)
    return lambda: take_steps(ContrastivePretraining(parts), STEPS)


if __name__ == "__main__":
    main()
