"""How many cores this process may use."""

import os


def available_cores() -> int:
    """The cores allowed to this process, if the system says so: a cluster's job has fewer than its node."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
