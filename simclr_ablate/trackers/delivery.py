"""One run on its way from the store to one tracker.

The store is the queue: whatever a tracker lacks can be read there at any time. `trackers/NAME/sent.json` in the run's
folder says what was sent where, `trackers/NAME/lease.N` which process sends. A tracker that can be asked what it has is
asked, so that nothing is sent twice and nothing is lost, whenever a process was killed. For one that cannot, what is
about to be sent is written down first: a kill may then lose the lines that were being sent, and repeats none. An error
of the tracker takes the note back.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypedDict

from simclr_ablate import lease as leases
from simclr_ablate.files import StorageError, storing, write_json
from simclr_ablate.lease import Lease
from simclr_ablate.schema import Tracking
from simclr_ablate.store import Run
from simclr_ablate.store.metrics import Metrics, parsed, whole_lines
from simclr_ablate.store.records import read_record
from simclr_ablate.trackers.registry import destination_of, find_tracker, folder_of
from simclr_ablate.trackers.tracker import Known, Tracker

LINES_AT_ONCE = 100
"""The most lines that are handed to a tracker at once."""


class SentRecord(TypedDict):
    """What was sent of a run. to: where. step: the last. evaluations: their keys."""

    to: str
    step: int
    evaluations: list[str]


class Delivery:
    """Sends what a tracker lacks of a run. Raises what the tracker's library raises, and StorageError."""

    def __init__(self, run: Run, name: str, tracking: Tracking, store: Path) -> None:
        self.run, self.name = run, name
        self.to = destination_of(name, tracking, store)
        self._tracking, self._store = tracking, store
        self._lease: Lease | None = None
        self._tracker: Tracker | None = None
        self._tail = Tail(run.metrics.path)
        self._remembers = False
        """Whether the tracker can be asked what it has."""
        self.step, self.evaluations = self._sent()

    @property
    def path(self) -> Path:
        return self.run.path / "trackers" / self.name

    def _sent(self) -> tuple[int, set[str]]:
        record: SentRecord | None = read_record(self.path / "sent.json", SentRecord)
        if record is None or record["to"] != self.to:
            return 0, set()
        return record["step"], set(record["evaluations"])

    def is_up_to_date(self) -> bool:
        """Whether all that there is of the run was sent."""
        lines = self.run.metrics.read()
        last = max((int(line["step"]) for line in lines), default=0)
        return self.step >= last and self.evaluations >= self.run.evaluations().keys()

    def begin(self) -> bool:
        """Takes the run, and begins or resumes it in the tracker.

        Returns False if there is no such run yet, or another process sends it at the moment.
        """
        if self._tracker is not None:
            return True
        if not self.run.exists():
            return False
        with storing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._lease = self._lease or leases.acquire(self.path)
        if self._lease is None:
            return False
        self.step, self.evaluations = self._sent()
        tracker = find_tracker(self.name)(
            self._tracking, folder_of(self.name, self._tracking, self._store)
        )
        config = {name: v for name, v in self.run.config().items() if name != "tracker"}
        known = tracker.begin(self.run.run_id, {"run_id": self.run.run_id, **config})
        self._tracker, self._remembers = tracker, known is not None
        if known is not None:
            self._believe(known)
        return True

    def _believe(self, known: Known) -> None:
        self.step = known.step
        self.evaluations = {
            key
            for key, metrics in _results(self.run)
            if metrics and known.names.issuperset(metrics)
        }

    def send(self) -> None:
        """Sends the lines and evaluations that are new. Call it after `begin`."""
        assert self._tracker is not None
        new = [line for line in self._tail.read() if line["step"] > self.step]
        for start in range(0, len(new), LINES_AT_ONCE):
            lines = new[start : start + LINES_AT_ONCE]
            with self._noted(step=int(lines[-1]["step"])):
                self._tracker.log(lines)
        for key, metrics in _results(self.run):
            if key not in self.evaluations:
                with self._noted(evaluation=key):
                    self._tracker.conclude(metrics, self.step)

    @contextmanager
    def _noted(self, step: int | None = None, evaluation: str | None = None) -> Iterator[None]:
        """Counts what the block sends as sent, unless it raises. If the tracker cannot be asked, notes it before."""
        before = self.step, self.evaluations
        self.step = self.step if step is None else step
        self.evaluations = self.evaluations | ({evaluation} if evaluation else set())
        try:
            if not self._remembers:
                self._note()
            yield
        except (Exception, SystemExit):
            self.step, self.evaluations = before
            if not self._remembers:
                with suppress(StorageError):
                    self._note()
            raise

    def end(self) -> None:
        """Ends the run in the tracker for now, and notes what it has."""
        if self._tracker is not None:
            tracker, self._tracker = self._tracker, None
            tracker.end(any(task.failure() is not None for task in self.run.tasks()))
            self._note()
        self.let_go()

    def is_held(self) -> bool:
        """Whether another process sends the run at the moment."""
        return self._lease is None and leases.holder(self.path) is not None

    def let_go(self) -> None:
        """Lets other processes send the run, without a word to the tracker, which has failed."""
        self._tracker = None
        if self._lease is not None:
            lease, self._lease = self._lease, None
            lease.release()

    def _note(self) -> None:
        content = SentRecord(to=self.to, step=self.step, evaluations=sorted(self.evaluations))
        write_json(self.path / "sent.json", content)


def _results(run: Run) -> Iterator[tuple[str, dict[str, float]]]:
    """The evaluations of a run by key, each with its metrics as trackers have them."""
    for key, result in run.evaluations().items():
        yield key, {f"evaluation/{key}/{name}": v for name, v in result["metrics"].items()}


class Tail:
    """Reads what is new in a file of lines, which may be replaced by a shorter one."""

    def __init__(self, path: Path) -> None:
        self._path, self._place = path, (0, 0)
        """The file's inode, and how much of it was read."""

    def read(self) -> list[Metrics]:
        """The lines since the last call, or all if the file was replaced; damaged ones are left out."""
        content = b""
        with suppress(OSError), open(self._path, "rb") as file:
            status, (inode, offset) = os.fstat(file.fileno()), self._place
            if status.st_ino != inode or status.st_size < offset:
                offset = 0
            file.seek(offset)
            lines = whole_lines(file.read())
            content = b"".join(lines)
            self._place = status.st_ino, offset + len(content)
        found = map(parsed, content.splitlines(keepends=True))
        return [line for line in found if line is not None]
