"""`python -m benchmarks [NAME ...]` runs the named benchmarks, or all, one after the other in separate processes."""

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from simclr_ablate.config import nearest

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
    """Runs the benchmarks that the command line names. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        usage="python -m benchmarks [NAME ...]",
        description="Runs the named benchmarks, or all, one after the other in separate processes.",
        epilog=f"benchmarks:\n{_listed(BENCHMARKS)}\n\nonly by name, since they need a GPU:\n{_listed(WITH_A_GPU)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help=argparse.SUPPRESS)
    names = parser.parse_args().names or list(BENCHMARKS)
    known = (*BENCHMARKS, *WITH_A_GPU)
    for name in names:
        if name not in known:
            told = (
                f"unknown benchmark {name!r}{nearest(name, known)} (accepted: {', '.join(known)})"
            )
            print(f"error: {told}", file=sys.stderr)
            return 2
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in names:
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        status = subprocess.run(command, env=environment, check=False).returncode
        if status:
            return status
        print(flush=True)
    return 0


def _listed(names: Sequence[str]) -> str:
    """A line for each benchmark, with the first sentence of its module."""
    lines = []
    for name in names:
        module = ast.parse(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8"))
        first = (ast.get_docstring(module) or "").partition("\n\n")[0]
        lines.append(f"  {name:18} {' '.join(first.split())}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
