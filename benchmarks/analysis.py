"""The whole command `simclr-ablate analyse` on a made-up store of 10,000 runs from all sweeps."""

import dataclasses
import itertools
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir

from benchmarks.measure import print_table
from simclr_ablate.identity import evaluation_key, run_id
from simclr_ablate.plan.grid import Composer, Grids, expand, resolve
from simclr_ablate.run import CONFIG_FOLDER, register
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Run, Store

RUNS = 10_000
ROUNDS = 3
GROUPS = {
    *("data", "views", "encoder", "head", "loss", "optimizer", "evaluation"),
    "data@evaluation.data",
}
MEMORY = Path("/dev/shm")


def main() -> None:
    # In memory, since writing 10,000 runs to a disk is slow, and they would be read from its cache anyway.
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        store = Path(folder) / "runs"
        fill(store, RUNS)
        command = [sys.executable, "-m", "analysis", f"store={store}"]
        command += [f"out={folder}/reports"]
        cores = sorted(os.sched_getaffinity(0))
        taken = {}
        for count in sorted({len(cores), 1}, reverse=True):
            os.sched_setaffinity(0, cores[:count])
            taken[count] = [measure(command) for _ in range(ROUNDS)]
        reports = len(list(Path(folder, "reports").glob("*.png")))
    header = [f"{RUNS:,} runs, {reports} reports, the page", "best", "slowest", "CPU"]
    print_table(header, [row(count, times) for count, times in taken.items()])


def row(cores: int, times: list[tuple[float, float]]) -> list[str]:
    """A row of the table. CPU seconds only for one core: with several, the command does not wait for all processes."""
    (best, used), (slowest, _) = min(times), max(times)
    cpu = f"{used:.1f} s" if cores == 1 else ""
    return [f"{cores} core{'s' * (cores > 1)}", f"{best:.1f} s", f"{slowest:.1f} s", cpu]


def measure(command: list[str]) -> tuple[float, float]:
    """The seconds and CPU seconds that a command takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fill(store: Path, count: int) -> None:
    """Writes `count` finished runs of all sweeps at the laptop scale, seed after seed, and a record of each sweep."""
    draw = random.Random(0)
    of_sweeps = experiments()
    members: dict[str, list[str]] = {name: [] for name in of_sweeps}
    for seed in itertools.count():
        for name, distinct in of_sweeps.items():
            for experiment in distinct:
                of_seed = dataclasses.replace(experiment, seed=seed)
                run = Store(store).run(run_id(of_seed))
                count -= not run.exists()
                if count < 0:
                    break
                finish(run, of_seed, draw)
                members[name].append(run.run_id)
        if count < 0:
            break
    for name, run_ids in members.items():
        Store(store).record_sweep(name, dict.fromkeys(run_ids))


def experiments() -> dict[str, list[Experiment]]:
    """The experiments of every sweep, by its name; some are different evaluations of one run."""
    register()
    with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
        composer = Composer(lambda more: compose("config", more), GROUPS.__contains__)

        def of(name: str) -> Iterator[tuple[str, list[Experiment]]]:
            sweep = resolve(compose("config", [f"sweep={name}"]))["sweep"]
            for united in sweep.get("sweeps", ()):
                yield from of(united)
            if "sweeps" not in sweep:
                yield name, expand(composer, Grids.from_config(sweep), {}, [])

        return dict(of("paper"))


def finish(run: Run, experiment: Experiment, draw: random.Random) -> None:
    """Writes what a finished run leaves for the analysis, with random accuracies."""
    config = experiment.to_config()
    run.create(config)
    if experiment.objective != "none":
        metrics = {"loss": 4.2, "accuracy": draw.random(), "entropy": 3.1, "seconds": 25.0}
        run.write_pretraining(metrics)
    metric = experiment.evaluated_data.metric
    names = list(dict.fromkeys([metric, "top1", "top5", f"validation_{metric}", "knn_top1"]))
    if experiment.evaluation.probe is not None:
        names = ["probe_accuracy", "probe_validation_accuracy", "probe_guess"]
    metrics = {name: draw.gauss(45, 3) for name in names} | {"test_images": 2000}
    run.write_evaluation(evaluation_key(experiment), config["evaluation"], metrics, seconds=5.0)


if __name__ == "__main__":
    main()
