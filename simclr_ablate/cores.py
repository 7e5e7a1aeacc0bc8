"""How many cores this process may use."""

import os


def available_cores() -> int:
    """Those that it is allowed, where the system says: a job of a cluster has fewer than its node."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
