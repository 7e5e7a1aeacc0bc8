"""Peak memory and speed of a laptop-scale step with 8,192 images, at once and in micro-batches.

Each runs in a process of its own.
"""

import subprocess
import sys
import time

import torch

from benchmarks.laptop import default_experiment, take_steps, training_parts
from benchmarks.measure import peak_of_tensors, print_table
from simclr_ablate.training.contrastive import ContrastivePretraining

SMALL, LARGE, STEPS = 256, 8192, 2
SETTINGS = {
    f"{SMALL} images": [f"optimizer.batch_size={SMALL}"],
    f"{LARGE:,} images, {SMALL} at a time": [
        f"optimizer.batch_size={LARGE}",
        f"optimizer.micro_batch={SMALL}",
    ],
    f"{LARGE:,} images at once": [f"optimizer.batch_size={LARGE}"],
}


def main() -> None:
    if len(sys.argv) > 1:
        print(*measure(sys.argv[1:]))
        return
    found = {}
    for name, overrides in SETTINGS.items():
        command = [sys.executable, "-m", "benchmarks.micro_batch", *overrides]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = [float(word) for word in output.split()]
    reference = found[f"{SMALL} images"][0]
    rows = [
        [name, f"{memory:,.0f}", f"{memory / reference:.2f}x", f"{rate:,.0f}"]
        for name, (memory, rate) in found.items()
    ]
    print_table(["a step of the laptop scale", "MB of tensors", "memory", "pairs/s"], rows)


def measure(overrides: list[str]) -> tuple[float, float]:
    """The peak memory of tensors during a step, MB, and the pairs per second of the last step of another loop.

    It is not the memory of the process, which differs from run to run by up to half, with what the allocator keeps.
    """
    torch.set_num_threads(1)
    experiment = default_experiment(*overrides)
    loop = ContrastivePretraining(training_parts(experiment))
    memory = peak_of_tensors(lambda: take_steps(loop, 1))
    times: list[float] = []
    loop = ContrastivePretraining(training_parts(experiment))
    take_steps(loop, STEPS, lambda: times.append(time.perf_counter()))
    return memory, experiment.optimizer.batch_size / (times[-1] - times[-2])


if __name__ == "__main__":
    main()
