"""The CPU's time for a step on an accelerator: what it takes to launch everything, beside the network alone.

Measured on torch's meta device, which launches every operation and computes none. Its own part of each launch is larger
than that of a GPU, so trust the ratios. A GPU waits for the CPU wherever launching a step takes longer than computing
it.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.laptop import loop_on
from benchmarks.measure import best_seconds, print_table
from simclr_ablate.augment import fused
from simclr_ablate.freed_memory import keep_freed_memory
from simclr_ablate.training.loop import Loop

BATCHES = (256, 1024)
STEPS = 4
"""Those of `loop_on`."""
META = torch.device("meta")


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = []
    with _on_meta():
        for batch in BATCHES:
            for color in ("pytorch", "tensorflow"):
                loop = loop_of(batch, color)
                work = {"network": network(loop), "views": views(loop), "step": steps(loop)}
                best = {name: s / STEPS for name, s in best_seconds(work, rounds=5).items()}
                rest = best["step"] - best["network"]
                rows.append(
                    [
                        f"{batch:,}, {color}",
                        *(f"{1e3 * best[name]:.1f}" for name in ("network", "views", "step")),
                        f"{100 * rest / best['network']:.0f} %",
                    ]
                )
    header = ["ResNet-18, batch, colours", "network, ms", "views, ms", "whole step, ms"]
    print_table([*header, "all but the network, of the network"], rows)


def loop_of(batch: int, color: str) -> Loop:
    """A loop on networks that have no values."""
    return loop_on(
        META,
        "encoder=resnet18",
        "encoder.stem=cifar",
        "data.size=32",
        "optimizer=lars",
        f"optimizer.batch_size={batch}",
        f"views.color={color}",
    )


def network(loop: Loop) -> Callable[[], None]:
    """Forward and backward pass of encoder and head alone."""
    training = loop.training
    made = torch.empty(2 * training.optimizer.batch_size, 3, 32, 32, device=META)

    def run() -> None:
        for _ in range(STEPS):
            training.head(training.encoder(made)).mean().backward()

    return run


def views(loop: Loop) -> Callable[[], None]:
    """The views alone."""

    def run() -> None:
        for batch in loop._batches(0, 0):
            batch.views.make()

    return run


def steps(loop: Loop) -> Callable[[], None]:
    """Whole steps: views, network, loss and optimiser."""

    def run() -> None:
        for batch in loop._batches(0, 0):
            loop._train_step(batch)

    return run


@contextlib.contextmanager
def _on_meta() -> Any:
    """Inside, colour jitter is one launch on meta, as with Triton on a GPU, and autocast knows meta."""
    autocast, devices = torch.autocast, fused.DEVICES
    fused.DEVICES = [*devices, "meta"]
    fused._has_triton = lambda: True  # type: ignore[assignment]
    torch.autocast = lambda device_type, *args, **more: autocast(  # type: ignore[assignment, misc]
        "cpu" if device_type == "meta" else device_type, *args, **more
    )
    try:
        yield
    finally:
        torch.autocast, fused.DEVICES = autocast, devices  # type: ignore[misc]


if __name__ == "__main__":
    main()
