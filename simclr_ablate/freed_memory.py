"""What glibc does with memory that is freed."""

import ctypes

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Stops glibc from returning the memory of large freed tensors to the system.

    Every step, or image, allocates the same sizes again; faulting their pages in each time took up to half of a step,
    and a third of the reading of an image.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # not glibc
    mallopt(_M_MMAP_THRESHOLD, 2**30)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
