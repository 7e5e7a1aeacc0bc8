"""What the runs of `scale=paper` and `scale=one_gpu` need: memory for a batch and GPU hours, calculated, not measured.

On torch's meta device, which computes nothing, it counts the floating-point operations of a step's forward and backward
pass (torch.utils.flop_counter), and the bytes that autograd keeps for the backward pass in bfloat16. The speed of a GPU
is stated with the tables. For `scale=one_gpu`, `python -m benchmarks gpu` measures it and keeps it; the measured speed
then takes the place of the stated one.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import print_table
from simclr_ablate.files import read_json
from simclr_ablate.identity import run_id
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.models.head import build_head
from simclr_ablate.paths import config_folder, default_cache
from simclr_ablate.plan.grid import Composer, Grids, expand, resolve
from simclr_ablate.plan.selection import Rule, select
from simclr_ablate.run import CONFIG_FOLDER, register
from simclr_ablate.schema import TRAINED, Experiment

GPU_BYTES = 80e9 * 0.9
VIEWS, BATCH, EPOCHS = 2, 4096, 100
_FEW = 4


class Scale(NamedTuple):
    """A scale, and the speed of the GPU that carries it out; all encoders are assumed to reach its rate of operations.

    reference: the encoder, stem and size that `images_per_second` is of, in bfloat16, forward and backward.
    """

    overrides: tuple[str, ...]
    images: int
    reference: tuple[str, int, str, int]
    images_per_second: float
    source: str

    def flops_per_second(self) -> float:
        return self.images_per_second * cost(*self.reference).view_flops


PAPER = Scale(
    ("scale=paper", "data.root=/images"),
    1_281_167,
    ("resnet50", 1, "imagenet", 224),
    2500,
    "assumed, of a GPU like the A100, as its maker publishes",
)
ONE_GPU = Scale(
    ("scale=one_gpu",),
    45_000,
    ("resnet18", 1, "cifar", 32),
    20_000,
    "assumed, of a GPU like the H100",
)

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
def cost(architecture: str, width: int, stem: str, size: int) -> Cost:
    """Counts the cost of an encoder on the meta device."""
    with torch.device("meta"):
        encoder = build_encoder(architecture, width, stem)
        network = torch.nn.Sequential(encoder, build_head("nonlinear", encoder.dim))
        views = torch.empty(_FEW, 3, size, size)
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


def gpu_hours(scale: Scale, each: Cost, views: int, epochs: int) -> float:
    """GPU hours of training on `views` views of each image in every epoch."""
    return each.view_flops * views * scale.images * epochs / scale.flops_per_second() / 3600


def rows() -> Iterator[list[str]]:
    """One row for each encoder of the paper's runs."""
    for architecture, width in ENCODERS:
        found = cost(architecture, width, "imagenet", 224)
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
            f"{gpu_hours(PAPER, found, VIEWS, EPOCHS):.0f}",
        ]


def hours(scale: Scale, experiment: Experiment) -> float:
    """GPU hours of one run's training."""
    if experiment.objective not in TRAINED:
        return 0.0
    views = 1 if experiment.objective == "supervised" else VIEWS
    encoder = experiment.encoder
    found = cost(encoder.architecture, encoder.width, encoder.stem, experiment.data.size)
    return gpu_hours(scale, found, views, experiment.optimizer.epochs)


def sweep_rows(scale: Scale) -> Iterator[list[str]]:
    """One row for each sweep of the paper's artefacts, and one for all, which counts each run once."""
    union: dict[str, float] = {}
    register()
    with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
        at = list(scale.overrides)
        for name in compose("config", [*at, "sweep=paper_sections_3_to_5"]).sweep.sweeps:
            runs = {run_id(each): hours(scale, each) for each in planned(at, name)}
            union |= runs
            yield [name, f"{len(runs):,}", f"{sum(runs.values()):,.1f}"]
    yield ["all of them", f"{len(union):,}", f"{sum(union.values()):,.1f}"]


def planned(at: list[str], name: str) -> list[Experiment]:
    """The experiments of a sweep, without the second stage of a sweep that selects."""

    def composed(more: list[str]) -> DictConfig:
        return compose("config", [*at, *more])

    groups = {path.name for path in config_folder("conf").iterdir() if path.is_dir()}
    composer = Composer(composed, groups.__contains__)
    sweep = resolve(composed([f"sweep={name}"]))["sweep"]
    rule, grids = Rule.from_config(sweep), Grids.from_config(sweep)
    experiments = expand(composer, grids, {}, [])
    if rule is not None:
        experiments += select(composer, name, rule, grids.seeds, {}, []).tried
    return experiments


def calibrated(scale: Scale) -> Scale:
    """The scale with the speed that `python -m benchmarks gpu` measured here, if it did."""
    found = read_json(speed_file())
    if found is None:
        return scale
    speed, name = float(found["images_per_second"]), found["device"]
    return scale._replace(images_per_second=speed, source=f"measured on {name}")


def speed_file() -> Path:
    """Where the measured speed is kept."""
    return Path(default_cache()) / "gpu_speed.json"


def main() -> None:
    print(
        f"scale=paper, {BATCH} images per batch, {EPOCHS} epochs; GPUs of 80 GB that train a "
        f"ResNet-50 on {PAPER.images_per_second:,} images per second ({PAPER.source})\n"
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
    print("\nIts sweeps with one seed, without the second stage of the sweep that selects\n")
    print_table(["sweep", "runs", "GPU hours"], list(sweep_rows(PAPER)))
    one_gpu = calibrated(ONE_GPU)
    print(
        f"\nscale=one_gpu, three seeds; a GPU that trains a ResNet-18 on {one_gpu.images_per_second:,.0f} "
        f"CIFAR-10 images per second ({one_gpu.source}); training alone\n"
    )
    print_table(["sweep", "runs", "GPU hours"], list(sweep_rows(one_gpu)))


if __name__ == "__main__":
    main()
