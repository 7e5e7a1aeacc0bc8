"""How the runs of a command share this machine: its devices, cores and memory."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from simclr_ablate.cores import available_cores
from simclr_ablate.launch.devices import Accelerators, devices_for
from simclr_ablate.launch.resources import ranks_of
from simclr_ablate.plan.launchers import LocalOptions
from simclr_ablate.plan.plan import PlannedRun
from simclr_ablate.schema import PROTOCOLS, Experiment

LAPTOP_PIXELS = 2 * 512 * 32**2
"""Pixels of the views that a run at scale=laptop passes through its network at once, at most."""
LAPTOP_WIDTHS = {"resnet8": 4, "resnet18": 1}
"""The widest encoder of each architecture at scale=laptop."""
LAPTOP_GPU_BYTES = 4 * 2**30
"""Memory of a GPU that such a run may need: up to 2.6 GiB for its graph, the rest for CUDA itself and the images."""


@dataclass
class Division:
    """The number of processes, the threads of each, and the devices for all.

    slots: how many ranks each accelerator takes at once, and how many runs the CPU does.
    """

    parallel: int
    threads: int
    pretraining_threads: int
    """Threads of a process that pretrains an encoder for several evaluations."""
    slots: Mapping[str, int]
    found: Accelerators = field(default_factory=Accelerators)
    _taken: dict[PlannedRun, list[str]] = field(default_factory=dict)

    def take(self, planned: PlannedRun) -> list[str] | None:
        """A device for each of the run's ranks, the accelerators with the fewest ranks; None if they are not free."""
        allowed, ranks = devices_for(planned.experiment, self.found), ranks_of(planned.experiment)
        busy = Counter(device for taken in self._taken.values() for device in taken)
        free = [device for device in allowed if busy[device] < self.slots.get(device, 1)]
        if allowed == ["cpu"]:
            chosen = ["cpu"] if free else []
        else:
            chosen = sorted(free, key=busy.__getitem__)[:ranks]
            if len(chosen) < ranks:
                chosen = []
        if not chosen:
            return None
        self._taken[planned] = chosen
        return ["cpu"] * ranks if chosen == ["cpu"] else chosen

    def give_back(self, planned: PlannedRun) -> None:
        """The run's devices are free again."""
        self._taken.pop(planned, None)


def fit(
    options: LocalOptions,
    everyone: Sequence[PlannedRun],
    found: Accelerators,
    encoders: int,
) -> Division:
    """How many runs fit side by side in the accelerators or cores, and in memory, and how many threads each gets.

    The threads are those for `everyone` on an idle machine, even if fewer runs are left or memory is short: another
    number of threads changes the order of sums, and so the results.

    everyone: the command's experiments, including finished ones. found: see `accelerators`. encoders: the distinct
    encoders among the experiments.
    """
    cores = available_cores()
    total, available = (max(1, int(size / (options.memory_gb * 2**30))) for size in memory())
    on_cpu = [p for p in everyone if devices_for(p.experiment, found) == ["cpu"]]
    on_accelerators = [p for p in everyone if devices_for(p.experiment, found) != ["cpu"]]
    slots = dict.fromkeys(found.devices, _runs_per_gpu(options, on_accelerators, found))
    there = _shares(on_accelerators, sum(slots.values()), total)
    here = _shares(on_cpu, cores, total)
    shares = max(1, min(options.parallel or there + here, len(everyone)))
    slots["cpu"] = options.parallel or max(1, here)
    parallel = min(shares, options.parallel or available)
    threads, for_pretraining = (max(1, cores // each) for each in (shares, min(shares, encoders)))
    return Division(parallel, threads, for_pretraining, slots, found)


def _shares(runs: Sequence[PlannedRun], slots: int, memory_for: int) -> int:
    """How many of `runs` fit side by side in `slots` ranks, and in memory."""
    if not runs:
        return 0
    ranks = max(ranks_of(planned.experiment) for planned in runs)
    return max(1, min(slots // ranks, memory_for, len(runs)))


def _runs_per_gpu(options: LocalOptions, runs: Sequence[PlannedRun], found: Accelerators) -> int:
    """`launcher.runs_per_gpu`, by default what `launcher.parallel` takes if that is set, else what fits.

    That is one run, or as many as cores and the GPUs' memory allow if all are small.
    """
    if options.runs_per_gpu is not None:
        return options.runs_per_gpu
    if not found.names:
        return 1
    if options.parallel is not None:
        return math.ceil(options.parallel / len(found.names))
    if not all(is_small(planned.experiment) for planned in runs):
        return 1
    fitting = min(found.memory) // LAPTOP_GPU_BYTES
    return max(1, min(fitting, available_cores() // len(found.names)))


def is_small(experiment: Experiment) -> bool:
    """Whether the experiment needs no more of a GPU's memory than those at scale=laptop."""
    encoder, optimizer, evaluation = experiment.encoder, experiment.optimizer, experiment.evaluation
    most = 2 * (optimizer.micro_batch or optimizer.batch_size)
    if "batch_size" in PROTOCOLS.get(evaluation.protocol, ()):
        most = max(most, evaluation.batch_size)
    pixels = most * max(experiment.data.size, experiment.evaluated_data.size) ** 2
    return encoder.width <= LAPTOP_WIDTHS.get(encoder.architecture, 0) and pixels <= LAPTOP_PIXELS


def memory() -> tuple[float, float]:
    """Total and available memory in bytes."""
    found = psutil.virtual_memory()
    return float(found.total), float(found.available)
