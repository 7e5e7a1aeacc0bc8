"""What keeping the metrics of steps costs a run of the laptop scale, and what trackers do that follow it.

One run trains on one core, in turns of STEPS steps with its metrics kept and followed, and without. A turn and the one
after it are a pair, so other load on the machine affects both alike. CPU time is what counts: the trackers' processes
have low priority, and would slow a run only on a machine without an idle core. They have begun before the first turn.
Trackers that are not installed are left out; `python -m benchmarks.trackers NAME` measures one.
"""

import importlib.util
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from scipy.stats import binom

from benchmarks.laptop import default_experiment, training_parts
from benchmarks.measure import print_row, print_table
from simclr_ablate import lease as leases
from simclr_ablate.freed_memory import keep_freed_memory
from simclr_ablate.identity import run_id
from simclr_ablate.schema import TRACKERS, Tracking
from simclr_ablate.stopping import StopSignal
from simclr_ablate.store import Run, Store
from simclr_ablate.store.metrics import MetricsFile
from simclr_ablate.trackers.followers import Followers
from simclr_ablate.training.contrastive import ContrastivePretraining
from simclr_ablate.training.loop import Loop
from simclr_ablate.training.step_metrics import StepMetrics
from simclr_ablate.training.watch import Watch

STEPS, PAIRS = 20, 8
"""Steps of a turn, and pairs of turns."""
EVERY = 10
"""The default of `tracker.every`."""


class Turn(NamedTuple):
    """The seconds of a turn, and the CPU seconds of the run's process and of the trackers' processes."""

    wall: float
    cpu: float
    beside: float


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"the lines themselves take {1e6 * of_lines():.0f} µs of CPU time a step\n", flush=True)
    wanted = sys.argv[1:] or TRACKERS
    installed = [name for name in wanted if importlib.util.find_spec(name) is not None]
    header = [
        *("metrics of steps go to", "time of a step", "its CPU time"),
        *("CPU time of the trackers beside it", "and to begin"),
    ]
    print_table(header, [])
    for names in dict.fromkeys([(), *((name,) for name in installed), tuple(installed)]):
        begun, turns = measured(names)
        who = ", ".join(names) or "no tracker: the store alone"
        print_row([who, *compared(turns), f"{begun:.1f} s"])


def of_lines() -> float:
    """The CPU seconds a step that collecting and writing lines take, in the best of seven tries."""
    loop = ContrastivePretraining(training_parts(default_experiment()))
    best, steps = float("inf"), loop.total_steps // EVERY * EVERY
    with tempfile.TemporaryDirectory() as folder:
        recorder = StepMetrics(MetricsFile(Path(folder) / "metrics.jsonl"), EVERY, loop)
        for _ in range(7):
            begin = time.process_time()
            for first in range(0, steps, EVERY):
                recorder.add(first, [[4.0, 0.5, 2.0]] * EVERY)
                recorder.write()
            best = min(best, (time.process_time() - begin) / steps)
    return best


def compared(turns: list[Turn]) -> list[str]:
    """The medians over pairs of turns, relative to the one without; those of the run itself with 95% intervals."""
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    wall = [with_it.wall / without.wall for with_it, without in pairs]
    cpu = [with_it.cpu / without.cpu for with_it, without in pairs]
    beside = statistics.median(with_it.beside / without.cpu for with_it, without in pairs)
    return [_median(wall), _median(cpu), f"{100 * beside:.1f} %"]


def _median(ratios: list[float]) -> str:
    """The median beyond 1, in percent, with the interval that the order of the values gives, whatever they scatter."""
    low, high = (int(k) for k in binom.interval(0.95, len(ratios), 0.5))
    ordered = sorted(ratios)
    ends = (ordered[max(0, low - 1)], ordered[min(high, len(ratios) - 1)])
    median, low_end, high_end = (100 * (x - 1) for x in (statistics.median(ratios), *ends))
    return f"{median:+.1f} % ({low_end:+.1f} to {high_end:+.1f})"


def measured(names: tuple[str, ...]) -> tuple[float, list[Turn]]:
    """The CPU seconds that the trackers took to begin, and the turns, with and without in turn."""
    experiment = default_experiment()
    with tempfile.TemporaryDirectory() as folder, environment(folder):
        said: list[str] = []
        tracking = Tracking(names, EVERY, "benchmark", None, f"sqlite:///{folder}/mlflow.db")
        run = Store(Path(folder) / "runs").run(run_id(experiment))
        run.create(experiment.to_config())
        lease = run.lease()
        assert lease is not None
        with Followers(run.path.parent, said.append) as followers:
            followers.begin(run.run_id, tracking)
            _wait_for(run, names)
            sessions = [process.pid for process in followers._processes.values()]
            begun = cpu_of(sessions)
            steps = STEPS * (2 * PAIRS + 1)
            loop = ContrastivePretraining(training_parts(experiment)._replace(steps=steps))
            turns = _Turns(run, lease, sessions)
            loop.run(turns)
        lease.release()
        assert not said, said
        return begun, turns.measured


class _Turns:
    """Called after each step of a loop: ends a turn after STEPS of them; the first turn is not counted."""

    def __init__(self, run: Run, lease: leases.Lease, sessions: list[int]) -> None:
        self.run, self.sessions = run, sessions
        self.watch = Watch(run, lease, StopSignal(), 3600)
        self.measured: list[Turn] = []
        self._last = self._clocks()

    def __call__(self, loop: Loop) -> None:
        self.watch(loop)
        if loop.step % STEPS:
            return
        loop.look()
        if self.watch.recorder is not None:
            self.watch.recorder.write()
        # Trackers have a second or so to come after.
        time.sleep(1.5)
        now = self._clocks()
        if loop.step > STEPS:
            wall, cpu, beside = (b - a for a, b in zip(self._last, now, strict=True))
            self.measured.append(Turn(wall - 1.5, cpu, beside))
        keeps = loop.step // STEPS % 2 == 1
        recorder = StepMetrics(self.run.metrics, EVERY, loop) if keeps else None
        loop.recorder = self.watch.recorder = recorder
        self._last = self._clocks()

    def _clocks(self) -> tuple[float, float, float]:
        return time.perf_counter(), time.process_time(), cpu_of(self.sessions)


def _wait_for(run: Run, names: tuple[str, ...]) -> None:
    """Returns once all trackers have begun the run, and idle."""
    for name in names:
        while leases.holder(run.path / "trackers" / name) is None:
            time.sleep(0.1)
    time.sleep(10 if names else 0)


def cpu_of(sessions: list[int]) -> float:
    """The CPU seconds of all processes of these sessions (Linux)."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) in sessions:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def environment(folder: str) -> mock._patch_dict:
    """Trackers that keep all on this machine, in `folder`."""
    return mock.patch.dict(
        os.environ, {"WANDB_MODE": "offline", "TRACKIO_DIR": f"{folder}/trackio"}
    )


if __name__ == "__main__":
    main()
