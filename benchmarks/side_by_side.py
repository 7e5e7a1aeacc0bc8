"""Four runs of the laptop scale on all cores: as many side by side as there are cores, a thread each, beside one after
the other with all threads."""

import os
import subprocess
import sys
import tempfile
import time

from benchmarks.measure import print_table

RUNS, EPOCHS = 4, 2


def main() -> None:
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        seconds_of(folder, "warm-up", 1, 1, runs=1)  # makes the images
        side_by_side = seconds_of(folder, "side-by-side", cores, 1)
        in_turn = seconds_of(folder, "in-turn", 1, cores)
    rows = [
        [f"{cores} side by side, a thread each", f"{side_by_side:.0f}", "1.00x"],
        [
            f"one after the other, {cores} threads",
            f"{in_turn:.0f}",
            f"{in_turn / side_by_side:.2f}x",
        ],
    ]
    print_table([f"{RUNS} runs of {EPOCHS} epochs, {cores} cores", "s", "time"], rows)


def seconds_of(folder: str, store: str, parallel: int, threads: int, runs: int = RUNS) -> float:
    """How long the command takes, from its start to its end."""
    command = [sys.executable, "-m", "simclr_ablate", "-m", f"store={folder}/{store}"]
    command += [f"seed=range({runs})", f"optimizer.epochs={EPOCHS}"]
    command += [f"launcher.parallel={parallel}", f"compute.threads={threads}"]
    environment = {**os.environ, "SIMCLR_ABLATE_CACHE": f"{folder}/cache"}
    begin = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
