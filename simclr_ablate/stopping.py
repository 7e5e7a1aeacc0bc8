"""Requests to stop a run from outside: signals, and the launcher's end."""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import parent_process
from types import FrameType, TracebackType
from typing import Any, Protocol, Self


class Interrupted(Exception):  # noqa: N818 - not an error: the run was asked to stop
    """The run stopped because it was asked to; what it has to save is written."""


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
        stop_on: tuple[signal.Signals, ...] = (signal.SIGTERM,),
        save_on: tuple[signal.Signals, ...] = (),
    ) -> None:
        self.stop_on, self.save_on = stop_on, save_on
        self.heard: int | None = None
        """The first signal that asked to stop."""
        self._save = self._raises = False
        self._pid = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Ctrl-C reaches the whole process group; the launcher decides what it means.
        handlers: dict[int, Any] = {signal.SIGINT: signal.SIG_IGN}
        handlers.update(dict.fromkeys((*self.stop_on, *self.save_on), self._hear))
        self._before = {number: signal.signal(number, how) for number, how in handlers.items()}
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
        launcher = parent_process()
        return self.heard is not None or (launcher is not None and not launcher.is_alive())

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
