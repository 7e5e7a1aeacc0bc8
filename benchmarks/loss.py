"""NT-Xent forward and backward, 8,192 pairs, D = 128, one core: beside lightly. Each in a process of its own."""

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
    for name in ("simclr_ablate", "lightly"):
        command = [sys.executable, "-m", "benchmarks.loss", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = [float(word) for word in output.split()]
    reference = found["simclr_ablate"][0]
    rows = [
        [name, f"{seconds:.2f}", f"{seconds / reference:.1f}x", f"{memory:,.0f}"]
        for name, (seconds, memory) in found.items()
    ]
    print_table(["NT-Xent, 8,192 pairs, D = 128", "s", "time", "MB over the inputs"], rows)


def measure(name: str) -> tuple[float, float]:
    """Shortest seconds of forward and backward, and peak memory over the inputs, MB."""
    torch.set_num_threads(1)
    loss = ours() if name == "simclr_ablate" else lightlys()
    small = torch.randn(16, DIM, requires_grad=True)
    loss(small).backward()  # loads what is loaded at the first call
    z = torch.randn(2 * PAIRS, DIM, requires_grad=True)
    before = forget_peak()
    best = float("inf")
    for _ in range(ROUNDS):
        z.grad = None
        begin = time.perf_counter()
        loss(z).backward()
        best = min(best, time.perf_counter() - begin)
    return best, peak_megabytes() - before


def ours() -> Callable[[Tensor], Tensor]:
    from simclr_ablate.losses.nt_xent import nt_xent

    return lambda z: nt_xent(z, TEMPERATURE).loss


def lightlys() -> Callable[[Tensor], Tensor]:
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=TEMPERATURE)
    return lambda z: loss(*z.chunk(2))


if __name__ == "__main__":
    main()
