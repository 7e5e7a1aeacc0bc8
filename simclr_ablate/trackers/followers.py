"""The processes that follow a command's runs, one for each tracker, as seen by the command."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from simclr_ablate.schema import Tracking
from simclr_ablate.terminal import count
from simclr_ablate.trackers.follow import LAST_SECONDS, Orders

log = logging.getLogger(__name__)

_CODE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])["path"]
from simclr_ablate.trackers.follow import main
main()
"""


class Followers:
    """A context that starts processes for the trackers of the runs that it hears of, and ends them with itself.

    say: prints a line about what could not be sent. Nothing that happens to these processes raises here.
    """

    def __init__(
        self,
        store: Path,
        say: Callable[[str], object] = log.warning,
        last_seconds: float = LAST_SECONDS,
    ) -> None:
        self._store, self._say, self._last_seconds = str(store.absolute()), say, last_seconds
        self._processes: dict[tuple[str, Tracking], subprocess.Popen[bytes]] = {}
        self.patience = last_seconds + 2
        """How long to wait for the processes at the end, seconds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            self._end()

    def begin(self, run_id: str, tracking: Tracking) -> None:
        """A process begins to work on the run."""
        for name in tracking.names:
            if (name, tracking) not in self._processes:
                with self._telling(name):
                    self._processes[name, tracking] = self._start(name, tracking)
        self._tell(f"+{run_id}", tracking)

    def ended(self, run_id: str, tracking: Tracking) -> None:
        """A process that worked on the run has ended."""
        self._tell(f"-{run_id}", tracking)

    def _start(self, name: str, tracking: Tracking) -> subprocess.Popen[bytes]:
        orders = Orders(name, self._store, asdict(tracking), sys.path, self._last_seconds)
        process = subprocess.Popen(
            [sys.executable, "-c", _CODE, orders.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # What a terminal's Ctrl-C or closing says to the command reaches it through the end of its input.
            start_new_session=True,
        )
        assert process.stdin is not None
        # A process that hangs never makes this one wait.
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def _tell(self, word: str, tracking: Tracking) -> None:
        for name in tracking.names:
            process = self._processes.get((name, tracking))
            if process is not None and process.stdin is not None:
                # Writing fails if the process hangs or has ended. `_end` says so.
                with contextlib.suppress(OSError):
                    os.write(process.stdin.fileno(), f"{word}\n".encode())

    def _end(self) -> None:
        """Ends the processes, and says what they could not send."""
        for process in self._processes.values():
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
                process.stdin = None
        deadline = time.monotonic() + self.patience
        for (name, _), process in self._processes.items():
            with self._telling(name):
                output, _ = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
                report = json.loads(output)
                if report["unsent"]:
                    what = count(report["unsent"], "run")
                    self._warn(name, f"{what} not sent whole: {report['problem'] or 'no time'}")
                elif report["problem"]:
                    self._say(f"tracker {name}: sent in the end, after {report['problem']}")
        self._processes.clear()

    @contextlib.contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """Says what is wrong with a process of the tracker `name`, instead of raising it."""
        try:
            yield
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._warn(name, f"its process is gone or hangs ({type(error).__name__})")

    def _warn(self, name: str, problem: str) -> None:
        store = "" if self._store == os.path.abspath("runs") else f" store={self._store}"
        self._say(
            f"tracker {name}: {problem}; to send it: "
            f"simclr-ablate trackers sync tracker={name}{store}"
        )
