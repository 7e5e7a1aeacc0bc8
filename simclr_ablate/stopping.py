"""Requests from outside to stop a run: signals, and the end of the launcher."""

import ctypes
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import parent_process
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

STOP_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to stop: `kill`, and the closing of its terminal."""

_PR_SET_PDEATHSIG = 1
"""From Linux's sys/prctl.h."""


class Interrupted(Exception):  # noqa: N818 - not an error: the run was asked to stop
    """The run stopped because it was asked to. What it has to save is saved.

    together: whether its ranks stopped together, after the same step. Otherwise the others may be anywhere.
    """

    def __init__(self, together: bool = False) -> None:
        super().__init__()
        self.together = together


class RankLostError(RuntimeError):
    """Another rank of the run is gone, or has not answered for too long."""


class Stop(Protocol):
    """What a training loop asks between its steps."""

    def __call__(self) -> bool:
        """Whether the run should save and stop."""
        ...

    def take_save_request(self) -> bool:
        """Whether the run should save and continue; true once for each request."""
        ...

    def deferred(self) -> AbstractContextManager[None]:
        """Requests to stop that come inside wait until the loop asks."""
        ...


class StopSignal:
    """A context that receives the signals that ask this process to stop.

    Calling it says whether the run should stop. The training loop does so after each step: inside `deferred`, a signal
    only sets a flag. Elsewhere inside `at_once`, there is nothing to save, and a signal raises Interrupted where it
    arrives.

    stop_on: signals that ask to stop.
    save_on: signals that warn of an end without further notice; the loop should save and continue.
    """

    def __init__(
        self,
        stop_on: tuple[signal.Signals, ...] = STOP_SIGNALS,
        save_on: tuple[signal.Signals, ...] = (),
    ) -> None:
        self.stop_on, self.save_on = stop_on, save_on
        self.heard: int | None = None
        """The first signal that asked to stop, or None."""
        self._save = self._raises = False
        self._pid, self._parent = os.getpid(), os.getppid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Ctrl-C reaches the whole process group; the launcher decides what it means.
        handlers: dict[int, Any] = {signal.SIGINT: signal.SIG_IGN}
        handlers.update(dict.fromkeys(_heeded((*self.stop_on, *self.save_on)), self._hear))
        self._before = {number: signal.signal(number, how) for number, how in handlers.items()}
        # Signals that were blocked by whoever started this process arrive now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        if self.heard is not None:
            return True
        launcher = parent_process()
        # A process that was forked by a server has another parent than the launcher: it ends with either.
        return launcher is not None and (not launcher.is_alive() or os.getppid() != self._parent)

    def reason(self) -> str:
        """Why the run should stop, in words."""
        if self.heard is None:
            return "the process that started it is gone"
        return f"stopped by {signal.Signals(self.heard).name}"

    def take_save_request(self) -> bool:
        """Whether a signal of `save_on` has come since the last call."""
        asked, self._save = self._save, False
        return asked

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A request to stop raises Interrupted at once inside."""
        self._raises = True
        try:
            if self.heard is not None:
                raise Interrupted
            yield
        finally:
            self._raises = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A request to stop is only noted inside; within `at_once`, it raises Interrupted at the end."""
        before, self._raises = self._raises, False
        try:
            yield
        finally:
            self._raises = before
        if before and self.heard is not None:
            raise Interrupted

    def _hear(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._pid:
            # A child that inherited the handler, such as a data loader's worker, just ends.
            os._exit(1)
        if number in self.save_on:
            self._save = True
            return
        self.heard = self.heard or number
        if self._raises:
            self._raises = False
            raise Interrupted


def _heeded(numbers: tuple[signal.Signals, ...]) -> list[signal.Signals]:
    """The signals that are not ignored by the wish of whoever started this process, such as `nohup`."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def end_with_parent() -> None:
    """Makes Linux send this process SIGTERM when its parent ends, so it stops wherever it is."""
    parent = os.getppid()
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    except (OSError, AttributeError):
        return  # not Linux: there, the loop checks between its steps
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[None]:
    """Signals to stop wait inside, and in processes started inside until these enter a StopSignal: none is lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *STOP_SIGNALS))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def terminable() -> Iterator[None]:
    """Makes signals to stop end a command as cleanly as Ctrl-C: the first of them raises KeyboardInterrupt.

    A closing terminal sends more than one, and accepts no more output.
    """
    heard = False

    def interrupt(*_: object) -> None:
        nonlocal heard
        _leave_dead_terminals()
        if not heard:
            heard = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _heeded(STOP_SIGNALS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_dead_terminals() -> None:
    for stream in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, stream)
                os.close(nothing)
