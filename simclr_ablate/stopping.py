"""Requests to stop a run from outside: signals, and the launcher's end."""

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
"""What asks a process to stop: somebody's word, and the end of the terminal that it was started from."""

_PR_SET_PDEATHSIG = 1
"""From Linux's sys/prctl.h."""


class Interrupted(Exception):  # noqa: N818 - not an error: the run was asked to stop
    """The run stopped because it was asked to; what it has to save is written.

    together: whether its ranks stopped together, after the same step. Otherwise the others may be anywhere.
    """

    def __init__(self, together: bool = False) -> None:
        super().__init__()
        self.together = together


class RankLostError(RuntimeError):
    """Another rank of the run is gone, or has not answered for long."""


class Stop(Protocol):
    """What a training loop asks between its steps."""

    def __call__(self) -> bool:
        """Whether the run is to save and stop."""
        ...

    def take_save_request(self) -> bool:
        """Whether the run is to save and go on; true once for each request."""
        ...

    def deferred(self) -> AbstractContextManager[None]:
        """Inside, requests to stop wait until they are asked for."""
        ...


class StopSignal:
    """Hears the signals that ask this process to stop, while it is entered as a context.

    Calling it tells whether somebody wants the run to stop. The training loop does so after each step: inside
    `deferred` a signal only sets a flag. Elsewhere in `at_once` there is nothing to save, and a signal raises
    Interrupted where it arrives.

    stop_on: signals that ask to stop. save_on: signals that announce an end that may come without another word, at
        which the loop should save and go on.
    """

    def __init__(
        self,
        stop_on: tuple[signal.Signals, ...] = STOP_SIGNALS,
        save_on: tuple[signal.Signals, ...] = (),
    ) -> None:
        self.stop_on, self.save_on = stop_on, save_on
        self.heard: int | None = None
        """The first signal that asked to stop."""
        self._save = self._raises = False
        self._pid, self._parent = os.getpid(), os.getppid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Ctrl-C reaches the whole process group; the launcher decides what it means.
        handlers: dict[int, Any] = {signal.SIGINT: signal.SIG_IGN}
        handlers.update(dict.fromkeys(_heeded((*self.stop_on, *self.save_on)), self._hear))
        self._before = {number: signal.signal(number, how) for number, how in handlers.items()}
        # What came while whoever started this process held them back is heard now.
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
        # Of a process that was forked by a server, the launcher is not the parent: it ends with either.
        return launcher is not None and (not launcher.is_alive() or os.getppid() != self._parent)

    def reason(self) -> str:
        """Why the run is to stop, for a person."""
        if self.heard is None:
            return "what started it is gone"
        return f"stopped by {signal.Signals(self.heard).name}"

    def take_save_request(self) -> bool:
        """Whether a signal of `save_on` came since the last call."""
        asked, self._save = self._save, False
        return asked

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a request to stop raises Interrupted where it arrives."""
        self._raises = True
        try:
            if self.heard is not None:
                raise Interrupted
            yield
        finally:
            self._raises = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a request is only noted; one that nobody answered raises Interrupted at the end."""
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
    """Those that whoever started this process does not want ignored, as `nohup` does the end of the terminal."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def end_with_parent() -> None:
    """Has Linux send this process SIGTERM when its parent ends, so that it stops wherever it is."""
    parent = os.getppid()
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    except (OSError, AttributeError):
        return  # another system: between its steps it looks itself
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[None]:
    """Inside, signals to stop wait, also in what is started inside until it enters a StopSignal: none is lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *STOP_SIGNALS))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def terminable() -> Iterator[None]:
    """Makes the signals to stop end a command as cleanly as Ctrl-C does: the first of them raises KeyboardInterrupt.

    A terminal that closes sends more than one, and takes no more output.
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
