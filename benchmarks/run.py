"""A whole run of the laptop scale on one core, pretraining and linear evaluation, beside a script with lightly's parts.

The script has lightly's transform and loss and the loop of a DataLoader, but our encoder, optimiser, data, number of
steps and evaluation. Each is timed in a process of its own, without imports.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.laptop import default_experiment
from benchmarks.measure import print_table
from simclr_ablate.data.splits import Splits, open_data
from simclr_ablate.evaluation.protocol import Subject, find_protocol
from simclr_ablate.launch.worker import Job, Status, carry_out_job, keep_freed_memory, run_of
from simclr_ablate.schema import Experiment
from simclr_ablate.stopping import StopSignal
from simclr_ablate.tasks.evaluate import measure
from simclr_ablate.tasks.networks import build_models
from simclr_ablate.training.optimizers import build_optimizer, set_learning_rate
from simclr_ablate.training.schedules import lr_at


def main() -> None:
    if len(sys.argv) > 1:
        seconds, top1 = {"simclr_ablate": ours, "lightly": lightlys}[sys.argv[1]]()
        print(seconds, top1)
        return
    found = {}
    for name in ("simclr_ablate", "lightly"):
        command = [sys.executable, "-m", "benchmarks.run", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = [float(word) for word in output.split()[-2:]]
    reference = found["simclr_ablate"][0]
    rows = [
        [name, f"{seconds:.0f}", f"{seconds / reference:.1f}x", f"{top1:.1f}"]
        for name, (seconds, top1) in found.items()
    ]
    print_table(["one run of the laptop scale", "s", "time", "top-1 %"], rows)


def ours() -> tuple[float, float]:
    """The seconds and top-1 of the run, as a worker carries it out."""
    torch.set_num_threads(1)
    keep_freed_memory()
    experiment = default_experiment()
    with tempfile.TemporaryDirectory() as folder:
        open_data(experiment.data, Path(folder), 1)  # made once for many runs, so not timed
        job = Job(experiment.to_config(), folder, folder, 1, "cpu")
        begin = time.perf_counter()
        ending = carry_out_job(job, StopSignal())
        assert ending.status == Status.COMPLETE, ending.reason
        seconds = time.perf_counter() - begin
        run = run_of(job)
        (evaluation,) = run.evaluations().values()
    return seconds, evaluation["metrics"]["top1"]


def lightlys() -> tuple[float, float]:
    """The seconds and top-1 of the same run with lightly's transform, loss and loop."""
    torch.set_num_threads(1)
    experiment = default_experiment()
    with tempfile.TemporaryDirectory() as folder:
        data = open_data(experiment.data, Path(folder), 1)
        begin = time.perf_counter()
        top1 = train_with_lightly(experiment, data, Path(folder))
        return time.perf_counter() - begin, top1


def train_with_lightly(experiment: Experiment, data: Splits, cache: Path) -> float:
    """Pretrains as lightly's tutorials do, and evaluates as we do. Returns top-1, percent."""
    from lightly.loss import NTXentLoss
    from lightly.transforms.simclr_transform import SimCLRTransform
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    views, settings = experiment.views, experiment.optimizer
    transform = SimCLRTransform(
        input_size=experiment.data.size,
        cj_strength=views.strength,
        gaussian_blur=0.5 if views.blur else 0.0,
        min_scale=views.crop_area,
        normalize=None,
    )

    class Pictures(Dataset):
        def __init__(self) -> None:
            arrays = data.train.images.permute(0, 2, 3, 1).numpy()
            self.pictures = [Image.fromarray(array) for array in arrays]

        def __len__(self) -> int:
            return len(self.pictures)

        def __getitem__(self, index: int) -> list[torch.Tensor]:
            return transform(self.pictures[index])

    loader = DataLoader(Pictures(), settings.batch_size, shuffle=True, drop_last=True)
    encoder, head = build_models(experiment, torch.device("cpu"))
    optimizer = build_optimizer(
        [encoder, head], settings.name, settings.weight_decay, settings.momentum
    )
    loss = NTXentLoss(temperature=experiment.loss.temperature)
    total = len(loader) * settings.epochs
    warmup = round(len(loader) * settings.warmup_epochs)
    step = 0
    for _ in range(settings.epochs):
        for first, second in loader:
            set_learning_rate(optimizer, lr_at(step, total, warmup, settings.lr))
            both = torch.cat([first, second]).contiguous(memory_format=torch.channels_last)
            z = head(encoder(both))
            optimizer.zero_grad()
            loss(*z.chunk(2)).backward()
            optimizer.step()
            step += 1
    # A protocol on frozen features does not train the networks.
    subject = Subject(experiment, data, encoder, head, torch.device("cpu"), train=lambda: {})
    result = measure(subject, find_protocol(experiment.evaluation.protocol), cache)
    assert result is not None  # None only on other ranks
    return result.metrics["top1"]


if __name__ == "__main__":
    main()
