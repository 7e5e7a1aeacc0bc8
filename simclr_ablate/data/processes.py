"""Worker processes, and what happens to them when their parent dies or signals arrive."""

import contextlib
import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator

from simclr_ablate.files import StorageError

_LOOK_SECONDS = 1.0


@contextlib.contextmanager
def naming_shared_memory(instead: str) -> Iterator[None]:
    """Turns errors that a full /dev/shm raises inside into StorageErrors that say so.

    Processes share images and locks there; the system itself reports a full disk, or a bus error.
    instead: what a user can do that needs less of it.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if not full and not any(words in str(error) for words in _NO_SHARED_MEMORY):
            raise
        raise StorageError(
            "/dev/shm, the memory in which processes share images, is full: give it more room "
            f"(for example by docker run --shm-size), or {instead}"
        ) from error


_NO_SHARED_MEMORY = ("shared memory", "No space left on device", "Bus error", "/torch_")
"""PyTorch's messages about a full /dev/shm contain one of these."""


def serve_parent() -> None:
    """Ties a worker process to its parent: it ends with the parent, or when the parent says so. Call this first.

    Signals that reach the whole group, such as Ctrl-C or a scheduler's warning, are for the parent to
    handle, and until it has, it may need its workers. Python handlers inherited from it are dropped.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # macOS has no sigtimedwait: there, SIGTERM ends a worker whoever sends it.
    if hasattr(signal, "sigtimedwait"):
        # Blocked here and in the threads to come, which leaves it to the watch to receive it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_watch, daemon=True).start()


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
    """Holds back Ctrl-C. Processes started inside inherit that, so it does not end them before `serve_parent`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch() -> None:
    """Ends this process, whatever its other threads do, once the parent is gone or sends SIGTERM."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while os.getppid() == parent.pid:
        if not hasattr(signal, "sigtimedwait"):
            time.sleep(_LOOK_SECONDS)
            continue
        received = signal.sigtimedwait({signal.SIGTERM}, _LOOK_SECONDS)
        if received is not None and received.si_pid == parent.pid:
            break
    os._exit(0)
