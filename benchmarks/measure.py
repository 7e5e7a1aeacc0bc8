"""Helpers of the benchmarks: interleaved timing, and the peak memory of this process or of its tensors."""

import contextlib
import ctypes
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

TURN_SECONDS = 0.5


def best_seconds(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds per call of each candidate, in the best of `rounds` turns.

    The candidates take turns, so other load on the machine affects them alike. A turn has as many calls as fill
    TURN_SECONDS: a single short call would be timed with the caches that the candidate before it left behind.
    """
    calls = {}
    for name, candidate in candidates.items():
        candidate()  # the first call loads libraries
        calls[name] = max(1, round(TURN_SECONDS / _seconds(candidate, 1)))
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, candidate in candidates.items():
            best[name] = min(best[name], _seconds(candidate, calls[name]) / calls[name])
    return best


def _seconds(candidate: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        candidate()
    return time.perf_counter() - begin


def forget_peak() -> float:
    """Resets the peak to the memory held now, if the system can (Linux). Returns the peak, MB.

    Freed memory goes back to the system first: if it were used again, the peak would not show it.
    """
    with contextlib.suppress(OSError, AttributeError):  # AttributeError: not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_megabytes()


def peak_megabytes() -> float:
    """The peak memory of this process since `forget_peak`, MB."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def peak_of_tensors(work: Callable[[], object]) -> float:
    """The peak memory of the tensors made during `work`, MB."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = profiler.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    live = peak = 0
    for _, change in sorted(changes, key=lambda each: each[0]):
        live += change
        peak = max(peak, live)
    return peak / 1e6


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Prints a Markdown table."""
    for cells in [header, ["---"] * len(header), *rows]:
        print_row(cells)


def print_row(cells: list[str]) -> None:
    """Prints a row of a Markdown table."""
    print("| " + " | ".join(cells) + " |", flush=True)
