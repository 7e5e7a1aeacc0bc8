"""Four runs of the laptop scale in three ways: side by side with a thread each, as many as there are cores; one after
the other with all threads; and one after the other with one thread.

Compared with the third, the first shows what running side by side costs, and the second what threads gain.
"""

import os
import subprocess
import sys
import tempfile
import time

from benchmarks.measure import print_table

RUNS, EPOCHS = 4, 4


def main() -> None:
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        seconds_of(folder, "warm-up", 1, 1, runs=1)  # makes the images
        seconds = {
            f"{cores} side by side, a thread each": seconds_of(folder, "side-by-side", cores, 1),
            f"one after the other, {cores} threads": seconds_of(folder, "all-threads", 1, cores),
            "one after the other, one thread": seconds_of(folder, "one-thread", 1, 1),
        }
    reference = next(iter(seconds.values()))
    rows = [[name, f"{value:.0f}", f"{value / reference:.2f}x"] for name, value in seconds.items()]
    print_table([f"{RUNS} runs of {EPOCHS} epochs, {cores} cores", "s", "time"], rows)


def seconds_of(folder: str, store: str, parallel: int, threads: int, runs: int = RUNS) -> float:
    """The seconds that the whole command takes."""
    command = [sys.executable, "-m", "simclr_ablate", "-m", f"store={folder}/{store}"]
    command += [f"seed=range({runs})", f"optimizer.epochs={EPOCHS}"]
    command += [f"launcher.parallel={parallel}", f"compute.threads={threads}"]
    environment = {**os.environ, "SIMCLR_ABLATE_CACHE": f"{folder}/cache"}
    begin = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
