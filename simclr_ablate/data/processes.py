"""Processes that work for this one, and what becomes of them when it dies or signals arrive."""

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
    """Errors of a full /dev/shm that are raised inside come out as StorageErrors that say so.

    That is where processes share images and locks; the system's own words are those of a full disk, or of a bus error.
    instead: what to do that needs less of it.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if not full and not any(words in str(error) for words in _NO_SHARED_MEMORY):
            raise
        raise StorageError(
            "/dev/shm, the memory in which processes share images, is full: give it more room "
            f"(docker run --shm-size, for one), or {instead}"
        ) from error


_NO_SHARED_MEMORY = ("shared memory", "No space left on device", "Bus error", "/torch_")
"""Of which PyTorch's messages have one."""


def serve_parent() -> None:
    """To be called first in a worker process: it ends with its parent, and by nobody else's wish.

    Signals that reach the whole group, such as Ctrl-C or a scheduler's warning, are the parent's to
    handle, which may need its workers until it has. Python handlers inherited from it are dropped.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(
        signal, "sigtimedwait"
    ):  # not on macOS, where SIGTERM ends a worker whoever sends it
        # Blocked here and in the threads to come, so that the watch is the one to receive it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_watch, daemon=True).start()


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
    """Ctrl-C waits until those that are started inside have come to `serve_parent`, and does not end them before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch() -> None:
    """Ends this process, whatever its other threads do, once the parent is gone or says so."""
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
