"""What has become of second stages that jobs of a cluster are to submit: a record each in the store.

It names the job that waits for the first stage, or says that the runs are submitted, or why they are not.
"""

import getpass
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Self

from simclr_ablate.files import report_damage
from simclr_ablate.launch import queue
from simclr_ablate.launch.queue import SETTLE_SECONDS, UNSEEN_SECONDS, JobInfo, look_up, scancel
from simclr_ablate.store import Store

LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Waiting:
    """One second stage and the job that waits to submit it.

    sweeps: that and the unions it was launched with, each with its record in the store, which the second stage is to be
    part of. job, output: SLURM's, and what it prints. state: waiting, submitted, cancelled or failed. reason: why the
    job could not submit it, or who cancelled it.
    """

    sweep: str
    sweeps: Mapping[str, str]
    job: str
    output: str
    time: float
    state: str = "waiting"
    reason: str | None = None

    @classmethod
    def read(cls, store: Store, name: str) -> Self | None:
        return cls._from_record(store, name, store.stage(name))

    @classmethod
    def read_all(cls, store: Store) -> dict[str, Self]:
        """All of the store, by the names of their records."""
        records = store.stages().items()
        stages = {name: cls._from_record(store, name, record) for name, record in records}
        return {name: stage for name, stage in stages.items() if stage is not None}

    @classmethod
    def _from_record(cls, store: Store, name: str, record: Any) -> Self | None:
        try:
            return None if record is None else cls(**record)
        except TypeError:
            report_damage(store.root / ".stages" / f"{name}.json", "it tells of no second stage")
            return None

    def write(self, store: Store, name: str) -> None:
        store.write_stage(name, asdict(self))

    @property
    def is_open(self) -> bool:
        """Whether its job has neither done its work nor failed, as far as the record knows."""
        return self.state == "waiting"

    def is_left_to(self, job: str) -> bool:
        """Whether `job` is the one that is to submit it: nobody has, it is not called off, and no other job waits."""
        return self.is_open and self.job == job


def living(stages: Iterable[Waiting]) -> dict[str, JobInfo | None]:
    """The open stages' jobs that have not ended, with what SLURM says of each: None where it says nothing."""
    waiting = [stage for stage in stages if stage.is_open]
    known = look_up(stage.job for stage in waiting)
    found: dict[str, JobInfo | None] = {}
    for stage in waiting:
        info = (known or {}).get(stage.job)
        forgotten = known is not None and time.time() - stage.time > UNSEEN_SECONDS
        if not (info.has_ended if info is not None else forgotten):
            found[stage.job] = info
    return found


class Lookout:
    """`living` for those who look again and again: SLURM is asked every SETTLE_SECONDS at most."""

    def __init__(self) -> None:
        self._alive: dict[str, JobInfo | None] = {}
        self._jobs: set[str] = set()
        self._asked = -math.inf

    def __call__(self, stages: Sequence[Waiting]) -> dict[str, JobInfo | None]:
        """The open stages' jobs that had not ended when SLURM was last asked."""
        jobs = {stage.job for stage in stages if stage.is_open}
        if time.monotonic() - self._asked > SETTLE_SECONDS or not jobs <= self._jobs:
            self._alive, self._jobs = living(stages), jobs
            self._asked = time.monotonic()
        return {job: info for job, info in self._alive.items() if job in jobs}


def describe(stage: Waiting, alive: Mapping[str, JobInfo | None] = MappingProxyType({})) -> str:
    """One line for a person on a stage whose runs are not submitted. alive: see `living`."""
    begin = f"second stage of {stage.sweep}"
    if stage.is_open and stage.job in alive:
        info = alive[stage.job]
        what = f"job {stage.job}" if info is None else queue.describe(info)
        return f"{begin}: {what} submits it once the first has ended"
    reason = stage.reason or f"job {stage.job} ended before it had submitted it"
    return f"{begin}: {reason} (log: {stage.output})"


def wait(store: Store, names: Sequence[str], say: Callable[[str], None]) -> list[str] | None:
    """Returns when none of these waits any more: those that are not cancelled, or None at Ctrl-C.

    Says which are, and whose job has not submitted its runs. names: of their records.
    """
    living_now_and_then = Lookout()
    try:
        while living_now_and_then(_read(store, names)):
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        return None
    left = []
    for name in names:
        stage = Waiting.read(store, name)
        if stage is not None and stage.state == "cancelled":
            say(describe(stage))
            continue
        left.append(name)
        if stage is not None and stage.state != "submitted":
            say(f"{describe(stage)}; it is submitted from here")
    return left


def cancel(store: Store, sweep: str | None) -> list[Waiting]:
    """Calls off the second stages that wait, of a sweep or of all; returns them. Raises ConfigError as scancel does."""
    if not _open(store, sweep):
        return []
    with store.submitting():  # lest one is submitted meanwhile
        waiting = _open(store, sweep)
        if waiting:
            scancel([stage.job for stage in waiting.values()])
        for name, stage in waiting.items():
            reason = f"cancelled by {getpass.getuser()}"
            replace(stage, state="cancelled", reason=reason).write(store, name)
    return list(waiting.values())


def _open(store: Store, sweep: str | None) -> dict[str, Waiting]:
    return {
        name: stage
        for name, stage in Waiting.read_all(store).items()
        if stage.is_open and sweep in (None, *stage.sweeps)
    }


def _read(store: Store, names: Sequence[str]) -> list[Waiting]:
    return [stage for name in names if (stage := Waiting.read(store, name)) is not None]
