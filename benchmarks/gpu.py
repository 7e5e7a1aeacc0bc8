"""Everything that only a GPU can tell, in under eight minutes: speed beside other code, memory, and the CPU's results.

`python -m benchmarks gpu` needs a CUDA device; kornia is measured if it is installed. The speed is kept, and `python -m
benchmarks estimate` then tells the hours of `scale=one_gpu` from it. `python -m benchmarks.gpu cpu` goes through all of
it on small sizes.
"""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.estimate import speed_file
from benchmarks.laptop import loop_on
from benchmarks.measure import print_table
from simclr_ablate.augment.policies import simclr_policy
from simclr_ablate.device import set_arithmetic
from simclr_ablate.files import write_text
from simclr_ablate.losses.nt_xent import nt_xent
from simclr_ablate.randomness import generator
from simclr_ablate.training.loop import Loop

SECONDS = 5.0
"""How long each candidate is measured, after a first call."""


class Sizes(NamedTuple):
    """What is measured: pairs of views of each size, pairs of the losses, and batches of the networks."""

    views: tuple[tuple[int, int], ...]
    losses: tuple[int, ...]
    networks: tuple[tuple[str, str, int, int], ...]


FULL = Sizes(
    views=((1024, 32), (256, 224)),
    losses=(4096, 32768),
    networks=(("resnet18", "cifar", 32, 512), ("resnet50", "imagenet", 224, 256)),
)
SMALL = Sizes(views=((16, 32),), losses=(64,), networks=(("resnet8", "imagenet", 32, 16),))


def main() -> int:
    on_cpu = sys.argv[1:] == ["cpu"]
    if not on_cpu and not torch.cuda.is_available():
        print("error: benchmarks gpu needs a CUDA device, and torch finds none", file=sys.stderr)
        return 2
    device = torch.device("cpu" if on_cpu else "cuda")
    sizes = SMALL if on_cpu else FULL
    set_arithmetic()
    print(f"{'CPU' if on_cpu else torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print_table(["views", "views/s", "of ours"], views(sizes, device))
    print()
    print_table(["NT-Xent, forward and backward", "ms", "GB"], losses(sizes, device))
    print()
    print_table(
        ["network in bfloat16", "pairs/s", "of the bare network", "GB"], networks(sizes, device)
    )
    print()
    print_table(["runs at a time on one device", "pairs/s in all"], sharing(sizes, device))
    if not on_cpu:
        print()
        return cases()
    return 0


def views(sizes: Sizes, device: torch.device) -> list[list[str]]:
    """SimCLR's policy beside kornia's."""
    rows = []
    for n, side in sizes.views:
        images = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, device=device)
        floats = images.float() / 255
        candidates: dict[str, Callable[[], object]] = {}
        for color in ("pytorch", "tensorflow"):
            policy = simclr_policy(side, color=color)
            candidates[f"ours, {color}"] = functools.partial(_two_views, policy, images)
        if importlib.util.find_spec("kornia") is not None:
            theirs = _kornia(side)
            candidates["kornia"] = lambda f=theirs, x=floats: (f(x), f(x))  # type: ignore[misc]
        speeds = {name: 2 * n * per_second(work, device) for name, work in candidates.items()}
        ours = speeds["ours, pytorch"]
        rows += [
            [f"{side} px, {n:,} pairs, {name}", f"{speed:,.0f}", f"{speed / ours:.2f}x"]
            for name, speed in speeds.items()
        ]
    return rows


def _two_views(policy: Any, images: Tensor) -> Tensor:
    return policy.draw_two(images, generator(0, "views")).make(torch.channels_last).images


def _kornia(side: int) -> Callable[[Tensor], Tensor]:
    import kornia.augmentation as kornia

    blur = max(3, side // 10 // 2 * 2 + 1)
    return kornia.AugmentationSequential(
        kornia.RandomResizedCrop((side, side), scale=(0.08, 1.0), resample="bicubic"),
        kornia.RandomHorizontalFlip(),
        kornia.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        kornia.RandomGrayscale(p=0.2),
        kornia.RandomGaussianBlur((blur, blur), (0.1, 2.0), p=0.5),
    )


def losses(sizes: Sizes, device: torch.device) -> list[list[str]]:
    """NT-Xent beside the similarity matrix."""

    def naive(z: Tensor) -> Tensor:
        z = F.normalize(z)
        similarities = z @ z.T / 0.1
        similarities.fill_diagonal_(float("-inf"))
        targets = torch.arange(len(z), device=z.device).roll(len(z) // 2)
        return F.cross_entropy(similarities, targets)

    rows = []
    for pairs in sizes.losses:
        for name, loss in (("ours", lambda z: nt_xent(z, 0.1).loss), ("naive", naive)):
            z = torch.randn(2 * pairs, 128, device=device, requires_grad=True)
            forget_peak(device)
            try:
                milliseconds = 1e3 / per_second(lambda f=loss, x=z: f(x).backward(), device)
            except torch.OutOfMemoryError:
                rows.append([f"{pairs:,} pairs, {name}", "out of memory", "-"])
                continue
            rows.append([f"{pairs:,} pairs, {name}", f"{milliseconds:.1f}", f"{peak(device):.2f}"])
    return rows


def networks(sizes: Sizes, device: torch.device) -> list[list[str]]:
    """Whole steps beside the bare network's; the first row's speed is kept for the estimate."""
    rows = []
    for number, (architecture, stem, side, batch) in enumerate(sizes.networks):
        loop = _loop(architecture, stem, side, batch, device)
        forget_peak(device)
        whole = batch * per_second(_steps(loop), device)
        used = peak(device)
        bare = batch * per_second(_bare(loop, side), device)
        label = f"{architecture}, {stem} stem, {side} px, batch {batch}"
        rows.append([label, f"{whole:,.0f}", f"{100 * whole / bare:.0f} %", f"{used:.1f}"])
        if number == 0 and device.type == "cuda":
            speed = {
                "images_per_second": 2 * whole,
                "device": torch.cuda.get_device_name(),
            }
            speed_file().parent.mkdir(parents=True, exist_ok=True)
            write_text(speed_file(), json.dumps(speed))
    return rows


def _loop(architecture: str, stem: str, side: int, batch: int, device: torch.device) -> Loop:
    return loop_on(
        device,
        f"encoder={architecture}",
        f"encoder.stem={stem}",
        f"data.size={side}",
        "optimizer=lars",
        f"optimizer.batch_size={batch}",
        "views.blur=true",
        "precision=bfloat16",
    )


def _steps(loop: Loop) -> Callable[[], object]:
    """One step a call, epoch after epoch."""
    batches = iter(())

    def step() -> None:
        nonlocal batches
        batch = next(batches, None)
        if batch is None:
            batches = loop._batches(0, 0)
            batch = next(batches)
        loop._train_step(batch)

    return step


def _bare(loop: Loop, side: int) -> Callable[[], object]:
    training = loop.training
    made = torch.rand(2 * training.optimizer.batch_size, 3, side, side, device=training.device)
    made = made.contiguous(memory_format=training.layout)

    def step() -> None:
        with torch.autocast(training.device.type, torch.bfloat16):
            out = training.head(training.encoder(made))
        out.float().square().mean().backward()

    return step


def sharing(sizes: Sizes, device: torch.device) -> list[list[str]]:
    """One process beside two, each with a run of its own."""
    rows = []
    for count in (1, 2):
        command = [sys.executable, "-c", _WORK, device.type, str(sizes is SMALL)]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(count)]
        total = sum(float(process.communicate()[0].split()[-1]) for process in started)
        rows.append([str(count), f"{total:,.0f}"])
    return rows


_WORK = """
import sys, torch
from benchmarks import gpu
device = torch.device(sys.argv[1])
loop = gpu._loop("resnet8", "imagenet", 32, 16 if sys.argv[2] == "True" else 256, device)
print(loop.training.optimizer.batch_size * gpu.per_second(gpu._steps(loop), device))
"""


def cases() -> int:
    """The tests of the simulated device on the real one: the CPU's results, up to rounding."""
    environment = {**os.environ, "SIMCLR_ABLATE_TEST_DEVICE": "cuda:0"}
    command = [sys.executable, "-m", "pytest", "-q", "tests/device/test_tasks.py"]
    return subprocess.run(command, env=environment, check=False).returncode


def per_second(work: Callable[[], object], device: torch.device) -> float:
    """Calls of `work` a second, all that the device has to do included."""
    seconds = SECONDS if device.type == "cuda" else 0.2
    for _ in range(3):
        work()
    _wait(device)
    calls, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        work()
        calls += 1
        if calls % 10 == 0:
            _wait(device)  # otherwise launches would queue up without end
    _wait(device)
    return calls / (time.perf_counter() - begin)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def forget_peak(device: torch.device) -> None:
    """Forgets the peak of the device's memory."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(device: torch.device) -> float:
    """The peak since `forget_peak`, GB; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0


if __name__ == "__main__":
    sys.exit(main())
