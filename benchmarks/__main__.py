"""`python -m benchmarks [NAME ...]` runs the named benchmarks, or all, one after the other in separate processes."""

import os
import subprocess
import sys

BENCHMARKS = (
    "views",
    "decoding",
    "autoaugment",
    "loss",
    "linear",
    "step",
    "dispatch",
    "micro_batch",
    "run",
    "side_by_side",
    "trackers",
    "estimate",
    "analysis",
    "permutation",
    "looks",
    "image_statistics",
)
WITH_A_GPU = ("gpu",)
"""Not among `all`: they need a device that few machines have."""


def main() -> int:
    names = sys.argv[1:] or list(BENCHMARKS)
    for name in names:
        if name not in (*BENCHMARKS, *WITH_A_GPU):
            accepted = ", ".join((*BENCHMARKS, *WITH_A_GPU))
            print(f"error: benchmark must be one of {accepted}, got {name}", file=sys.stderr)
            return 2
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in names:
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        status = subprocess.run(command, env=environment, check=False).returncode
        if status:
            return status
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
