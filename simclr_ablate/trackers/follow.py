"""The process that follows a command's runs for one tracker: `followers.py` starts it, and says which runs there are.

It reads what the runs write into the store, so that no run waits for it or knows of it. A tracker's error is noted once
in the run's log; then it is tried again, less and less often. When the command has ended, or was killed, the process
sends what is left, and ends after LAST_SECONDS whatever the tracker does. What it could not send, `sync` can.
"""

import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from simclr_ablate.config import build
from simclr_ablate.own import look_in
from simclr_ablate.schema import Tracking
from simclr_ablate.store import Run, Store
from simclr_ablate.trackers.delivery import Delivery

POLL_SECONDS = 1.0
LAST_SECONDS = 20.0
"""How long the process goes on after its command."""
_NICENESS = 10
_TRIES = 3
"""How often a process that has sent all else asks for a run that another sends, which may be about to let go of it. If
it is not, it sends what this one would have."""
_WAITS = (5.0, 60.0)
"""How long to wait after a first and after many errors of a run, seconds."""


@dataclass(frozen=True)
class Orders:
    """What a process follows. path: Python's, for modules. name: of the tracker. last_seconds: see LAST_SECONDS."""

    name: str
    store: str
    tracking: dict[str, Any]
    path: list[str]
    last_seconds: float = LAST_SECONDS

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class _Followed:
    """A run that is followed. next: when it is looked at again, as a time of `time.monotonic`."""

    delivery: Delivery
    next: float = 0.0
    errors: int = 0
    held: int = 0
    """How often another process was sending it, although the command had ended."""


class Following:
    """The runs that are followed for one tracker."""

    def __init__(self, name: str, store: Store, tracking: Tracking) -> None:
        self.name, self.store, self.tracking = name, store, tracking
        self._holders: Counter[str] = Counter()
        """How many processes work on each run."""
        self.followed: dict[str, _Followed] = {}
        self.problem = ""
        """The first error of the tracker."""
        self.unsent: set[str] = set()

    def obey(self, word: str) -> None:
        """word: `+RUN_ID` when a process begins to work on a run, `-RUN_ID` when it has ended."""
        run_id = word[1:]
        self._holders[run_id] += 1 if word[0] == "+" else -1
        if run_id not in self.followed:
            self.followed[run_id] = _Followed(self._delivery(run_id))
        self.followed[run_id].next = 0.0

    def _delivery(self, run_id: str) -> Delivery:
        return Delivery(self.store.run(run_id), self.name, self.tracking, self.store.root)

    def look(self, last: bool = False) -> bool:
        """Sends what is new, and lets go of runs that nobody works on.

        last: whether the command has ended. Then every run has, and errors are final.

        Returns whether runs are left.
        """
        for run_id, each in list(self.followed.items()):
            if time.monotonic() < each.next and not last:
                continue
            has_ended = last or self._holders[run_id] <= 0
            errors = each.errors
            is_done = self._look_at(each, has_ended)
            each.held += last and each.delivery.is_held()
            is_done = is_done or each.held >= _TRIES
            if is_done or (last and each.errors > errors):
                del self.followed[run_id]
                if not is_done:
                    self.unsent.add(run_id)
        return bool(self.followed)

    def _look_at(self, each: _Followed, has_ended: bool) -> bool:
        """Sends what is new of one run; whether it has ended, and the tracker has all of it."""
        try:
            if not each.delivery.begin():
                # It ended before it began, or another process still sends it.
                return has_ended and not each.delivery.run.exists()
            each.delivery.send()
            if has_ended:
                each.delivery.end()
            return has_ended
        except (Exception, SystemExit) as error:
            each.errors += 1
            if each.errors == 1:
                self._tell(each.delivery.run, error)
            first, most = _WAITS
            each.next = time.monotonic() + min(most, first * 2 ** (each.errors - 1))
            with suppress(Exception):
                each.delivery.let_go()
            each.delivery = self._delivery(each.delivery.run.run_id)
            return False

    def _tell(self, run: Run, error: BaseException) -> None:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        self.problem = self.problem or text
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} tracker {self.name}: {text}\n"
        with suppress(OSError), open(run.log_path, "a", encoding="utf-8") as file:
            file.write(line)


def follow(following: Following, words: "queue.Queue[str | None]") -> None:
    """Follows the runs that `words` names until it says None, and sends what is left."""
    goes_on = True
    while goes_on:
        with suppress(queue.Empty):
            word = words.get(timeout=POLL_SECONDS)
            while word is not None:
                following.obey(word)
                word = words.get_nowait()
            goes_on = False
        if goes_on:
            following.look()
    while following.look(last=True):
        time.sleep(POLL_SECONDS)


def _give_up(following: Following, report: int) -> None:
    """Ends the process wherever it is."""
    following.problem = following.problem or "no answer in time"
    _report(following, report)
    os._exit(1)


def _report(following: Following, report: int) -> None:
    unsent = {*following.unsent, *following.followed}
    content = {"problem": following.problem, "unsent": len(unsent)}
    with suppress(OSError):
        os.write(report, json.dumps(content).encode())


def listen(words: "queue.Queue[str | None]", at_end: Callable[[], None]) -> None:
    """Passes on the lines of standard input, and None at its end, when the command has ended."""
    for line in sys.stdin:
        if line.strip():
            words.put(line.strip())
    at_end()
    words.put(None)


def main() -> None:
    """Follows what the first argument orders. Signals that end the command are not for this process."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(_NICENESS)
    # What libraries print is nobody's concern.
    report, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    logging.disable(logging.WARNING)
    look_in(os.getcwd())
    orders = Orders(**json.loads(sys.argv[1]))
    tracking = build(Tracking, orders.tracking, "tracker")
    following = Following(orders.name, Store(orders.store), tracking)
    # It runs in a thread of its own, since the tracker may hang.
    last = threading.Timer(orders.last_seconds, _give_up, (following, report))
    words: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=listen, args=(words, last.start), daemon=True).start()
    follow(following, words)
    _report(following, report)
    # Libraries have threads that would wait for a server at the end.
    os._exit(0)
