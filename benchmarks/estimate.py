"""What a run of `scale=paper` needs: memory for a batch and GPU hours, calculated, not measured.

On torch's meta device, which computes nothing, it counts the floating-point operations of a step's forward and backward
pass (torch.utils.flop_counter), and the bytes that autograd keeps for the backward pass in bfloat16. The speed of a GPU
is an assumption, printed with the table.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import print_table
from simclr_ablate.__main__ import CONFIG_FOLDER, register
from simclr_ablate.identity import run_id
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.models.head import build_head
from simclr_ablate.paths import config_folder
from simclr_ablate.plan.grid import Composer, Grids, expand, resolve
from simclr_ablate.plan.selection import Rule, select
from simclr_ablate.schema import TRAINED, Experiment

IMAGES_PER_SECOND = 2500
"""Assumed: how many images of 224 x 224 a GPU like the A100 trains a ResNet-50 on in mixed precision, as its maker
publishes. Other encoders are assumed to reach the same rate of operations."""
GPU_BYTES = 80e9 * 0.9
IMAGES = 1_281_167
VIEWS, BATCH, EPOCHS = 2, 4096, 100
AT = ["scale=paper", "data.root=/images"]
_FEW = 4

ENCODERS = [
    ("resnet18", 1),
    ("resnet34", 1),
    ("resnet50", 1),
    ("resnet101", 1),
    ("resnet152", 1),
    ("resnet50", 2),
    ("resnet50", 4),
]


class Cost(NamedTuple):
    """The cost of one encoder with the nonlinear head."""

    parameters: float
    view_flops: float
    """Operations of the forward and backward pass of one view of 224 x 224."""
    view_bytes: float
    """Bytes kept from one view for the backward pass, in bfloat16."""


@functools.cache
def cost(architecture: str, width: int) -> Cost:
    """Counts the cost of an encoder on the meta device."""
    with torch.device("meta"):
        encoder = build_encoder(architecture, width, "imagenet")
        network = torch.nn.Sequential(encoder, build_head("nonlinear", encoder.dim))
        views = torch.empty(_FEW, 3, 224, 224)
    parameters = list(network.parameters())
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not any(tensor is parameter for parameter in parameters):
            kept[id(tensor.untyped_storage())] = tensor
        return tensor

    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda t: t):
        network(views).sum().backward()
    elements = sum(tensor.numel() for tensor in kept.values())
    return Cost(
        sum(parameter.numel() for parameter in parameters),
        counter.get_total_flops() / _FEW,
        2 * elements / _FEW,
    )


def gpu_hours(each: Cost, views: int, epochs: int) -> float:
    """GPU hours of training on `views` views of each image in every epoch."""
    flops_per_second = IMAGES_PER_SECOND * cost("resnet50", 1).view_flops
    return each.view_flops * views * IMAGES * epochs / flops_per_second / 3600


def rows() -> Iterator[list[str]]:
    """One row for each encoder of the paper's runs."""
    for architecture, width in ENCODERS:
        found = cost(architecture, width)
        batch_bytes = found.view_bytes * VIEWS * BATCH
        # Weights, gradient and LARS' velocity in float32.
        state_bytes = 3 * 4 * found.parameters
        gpus = next(
            n for n in (2**k for k in range(12)) if batch_bytes / n + state_bytes < GPU_BYTES
        )
        yield [
            f"{architecture} {width}x",
            f"{found.parameters / 1e6:.0f} M",
            f"{found.view_flops / 1e9:.1f}",
            f"{found.view_bytes / 1e6:.0f}",
            f"{batch_bytes / 1e9:,.0f}",
            str(gpus),
            f"{gpu_hours(found, VIEWS, EPOCHS):.0f}",
        ]


def hours(experiment: Experiment) -> float:
    """GPU hours of one run's training."""
    if experiment.objective not in TRAINED:
        return 0.0
    views = 1 if experiment.objective == "supervised" else VIEWS
    found = cost(experiment.encoder.architecture, experiment.encoder.width)
    return gpu_hours(found, views, experiment.optimizer.epochs)


def sweep_rows() -> Iterator[list[str]]:
    """One row for each sweep of the paper's artefacts with one seed, and one for all, which counts each run once."""
    union: dict[str, float] = {}
    register()
    with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
        for name in compose("config", [*AT, "sweep=paper_sections_3_to_5"]).sweep.sweeps:
            runs = {run_id(experiment): hours(experiment) for experiment in planned(name)}
            union |= runs
            yield [name, f"{len(runs):,}", f"{sum(runs.values()):,.0f}"]
    yield ["all of them", f"{len(union):,}", f"{sum(union.values()):,.0f}"]


def planned(name: str) -> list[Experiment]:
    """The experiments of a sweep, without the second stage of a sweep that selects."""

    def composed(more: list[str]) -> DictConfig:
        return compose("config", [*AT, *more])

    groups = {path.name for path in config_folder("conf").iterdir() if path.is_dir()}
    composer = Composer(composed, groups.__contains__)
    sweep = resolve(composed([f"sweep={name}"]))["sweep"]
    rule, grids = Rule.from_config(sweep), Grids.from_config(sweep)
    experiments = expand(composer, grids, {}, [])
    if rule is not None:
        experiments += select(composer, name, rule, grids.seeds, {}, []).tried
    return experiments


def main() -> None:
    print(
        f"scale=paper, {BATCH} images per batch, {EPOCHS} epochs; GPUs of 80 GB that train a "
        f"ResNet-50 on {IMAGES_PER_SECOND:,} images per second\n"
    )
    print_table(
        [
            "encoder",
            "parameters",
            "GFLOP per view",
            "MB per view",
            "GB per batch",
            "GPUs that hold it",
            "GPU hours",
        ],
        list(rows()),
    )
    print("\nThe sweeps with one seed, without the second stage of the sweep that selects\n")
    print_table(["sweep", "runs", "GPU hours"], list(sweep_rows()))


if __name__ == "__main__":
    main()
