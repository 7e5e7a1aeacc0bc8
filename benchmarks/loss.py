"""Forward and backward pass of losses, 8,192 pairs, D = 128, one core: NT-Xent beside lightly's, and Table 2's others.

Each runs in a process of its own.
"""

import importlib
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.measure import forget_peak, peak_megabytes, print_table

PAIRS, DIM, TEMPERATURE, ROUNDS = 8192, 128, 0.1, 3


def main() -> None:
    if len(sys.argv) > 1:
        print(*measure(sys.argv[1]))
        return
    found = {}
    for name in LOSSES:
        command = [sys.executable, "-m", "benchmarks.loss", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = [float(word) for word in output.split()]
    reference = found["NT-Xent"][0]
    rows = [
        [name, f"{seconds:.2f}", f"{seconds / reference:.1f}x", f"{memory:,.0f}"]
        for name, (seconds, memory) in found.items()
    ]
    print_table(["8,192 pairs, D = 128", "s", "time", "MB over the inputs"], rows)


def measure(name: str) -> tuple[float, float]:
    """The seconds of the fastest forward and backward pass, and the peak memory on top of the inputs, MB."""
    torch.set_num_threads(1)
    loss = LOSSES[name]()
    small = torch.randn(16, DIM, requires_grad=True)
    loss(small).backward()  # the first call loads libraries
    z = torch.randn(2 * PAIRS, DIM, requires_grad=True)
    before = forget_peak()
    best = float("inf")
    for _ in range(ROUNDS):
        z.grad = None
        begin = time.perf_counter()
        loss(z).backward()
        best = min(best, time.perf_counter() - begin)
    return best, peak_megabytes() - before


def ours(name: str, **arguments: object) -> Callable[[], Callable[[Tensor], Tensor]]:
    """Makes the loss called `name`, imported only when it is measured."""

    def make() -> Callable[[Tensor], Tensor]:
        loss = getattr(importlib.import_module(f"simclr_ablate.losses.{name}"), name)
        return lambda z: loss(z, temperature=TEMPERATURE, **arguments).loss

    return make


def lightlys() -> Callable[[Tensor], Tensor]:
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=TEMPERATURE)
    return lambda z: loss(*z.chunk(2))


LOSSES = {
    "NT-Xent": ours("nt_xent"),
    "NT-Xent, lightly": lightlys,
    "NT-Xent, semi-hard": ours("nt_xent", semi_hard=True),
    "NT-Logistic": ours("nt_logistic"),
    "NT-Logistic, semi-hard": ours("nt_logistic", semi_hard=True),
    "margin triplet": ours("margin_triplet", margin=0.4),
    "margin triplet, semi-hard": ours("margin_triplet", margin=0.4, semi_hard=True),
}


if __name__ == "__main__":
    main()
