"""The run store: one folder a run, whose files are the truth about it.

    runs/<run id>/
      experiment.json      the frozen config
      lease.N              who works on it now
      submission.json      the cluster's job that it was last submitted as, and all that submitting it again takes
      timeouts.json        how often in a row the time limit came without progress
      progress.json        where it is: epoch, step, loss, ... (what the live view and `status` show)
      history.csv          one row per epoch of training
      checkpoint.pt        to go on from; checkpoint.previous.pt the one before
      encoder.pt           pretraining is complete: weights of encoder and head, or a supervised run's classifier, and
                           what pretraining came to
      pretraining.json     the latter: last metrics, seconds
      evaluations/KEY.json one evaluation of that encoder: its config, its metrics, and how long it took
      evaluations/KEY/     its lease, progress, log, and whatever else a task has, as those of pretraining here
      failure.json         how the last attempt failed
      log.txt              what the run's processes printed
    runs/.sweeps/NAME-HASH.json  which runs a sweep that was launched consists of
    runs/.choices/NAME-HASH/  on a cluster: a job that waits to choose, and to submit what it has chosen
    runs/.jobs/              what submitit writes: scripts, pickles, output of jobs before their run begins
    runs/.submitting/        the lease of the command that submits now

Nothing here is ever rewritten by a second process without a lease, but pretraining.json with what it was; and nothing
needs torch but the weights.

A damaged file counts as absent and is named, whatever is wrong with it (`records.py`, `tensors.py`): who reads goes on
without it, and the run's command makes it again. Evaluations and pretraining.json have a digest and say whose they are;
so do encoder.pt and checkpoints, where it is looked at when they are read. experiment.json must be of the id that its
folder is named by. What is kept of a damaged file is called `NAME.damaged`.

A store is trusted as code's own folder is: who can write to it can have `retry` import what experiment.json names.
"""

import hashlib
import logging
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from simclr_ablate import lease as leases
from simclr_ablate.config import ConfigError
from simclr_ablate.files import (
    StorageError,
    names_in,
    records_in,
    report_damage,
    storing,
    told,
    write_json,
)
from simclr_ablate.identity import run_id_of, slug
from simclr_ablate.paths import expanded
from simclr_ablate.store.choice import ChoiceFolder
from simclr_ablate.store.records import LaunchRecord, is_name, read_record
from simclr_ablate.store.run import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepRecord:
    """A sweep that was launched: its name, the runs it consists of, when, and what the command line said of them.

    overrides: `sweep=NAME` among them; empty where an earlier version has launched it.
    """

    name: str
    run_ids: tuple[str, ...]
    time: float
    overrides: tuple[str, ...] = ()


class Store:
    """A folder of runs."""

    def __init__(self, root: str | Path) -> None:
        self.root = expanded(root, "store")

    def prepare(self) -> None:
        """Sees to it that runs can be kept here. Raises StorageError, which names the key, where they cannot."""
        with storing(self.root, "store"):
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe.{uuid.uuid4().hex}.tmp"
            try:
                probe.write_bytes(bytes(_PROBE_BYTES))
            finally:
                probe.unlink(missing_ok=True)

    def check(self) -> None:
        """Raises StorageError where there is no such folder, or one that cannot be read."""
        try:
            os.scandir(self.root).close()
        except FileNotFoundError:
            raise StorageError(f"the store {self.root} does not exist") from None
        except OSError as error:
            raise StorageError(told(error, self.root, "store")) from error

    def run(self, run_id: str) -> Run:
        """The run of that id, there or not: one of an earlier schema that is as good, where it was pretrained.

        Raises ConfigError for what is no name of a folder.
        """
        _check_name(run_id, "a run")
        run = Run(self.root / run_id)
        return run if os.path.lexists(run.path) else self._old_run(run_id) or run

    def _old_run(self, run_id: str) -> Run | None:
        """A pretrained run of an earlier schema that has this id in the present one, evaluated if one of them is."""
        pretrained = []
        for name in self._by_slug.get(slug(run_id), ()):
            run = Run(self.root / name)
            record = run.experiment() if run.is_pretrained() else None
            if record and "upgraded_from" in record and run_id_of(record["config"]) == run_id:
                if run.is_evaluated():
                    return run
                pretrained.append(run)
        return pretrained[0] if pretrained else None

    @cached_property
    def _by_slug(self) -> dict[str, list[str]]:
        """The folders there were when this was first asked for, by what they begin with: runs of earlier schemas, for
        which it is, are not added any more."""
        names: dict[str, list[str]] = {}
        for name in sorted(self._folders()):
            names.setdefault(slug(name), []).append(name)
        return names

    def runs(self) -> Iterator[Run]:
        """Every run in the store, by id, also where its experiment.json is damaged or gone.

        A run whose folder we may not read is yielded and named; other unreadable folders are named and skipped.
        Raises StorageError where the store itself cannot be read.
        """
        for run_id in sorted(self._folders()):
            run = Run(self.root / run_id)
            path = run.path / "experiment.json"
            if os.path.lexists(path):
                yield run
            elif run.unreadable() is not None:
                if _RUN_ID.fullmatch(run_id):
                    yield run
            elif os.path.exists(run.encoder_path) or os.path.isdir(run.path / "evaluations"):
                report_damage(path, "it is missing")
                yield run

    def _folders(self) -> list[str]:
        try:
            with storing(self.root, "store"), os.scandir(self.root) as entries:
                return [e.name for e in entries if not e.name.startswith(".") and _is_folder(e)]
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return []
            raise

    @contextmanager
    def submitting(self, wait_seconds: float = 600.0) -> Iterator[None]:
        """Inside, no other command submits runs of this store. Raises ConfigError where one goes on for too long."""
        folder = self.root / ".submitting"
        with storing(folder, "store"):
            folder.mkdir(parents=True, exist_ok=True)
        begin, said = time.monotonic(), False
        while (lease := leases.acquire(folder)) is None:
            who = f"another command submits to the store {self.root}: {leases.describe(folder)}"
            waited = time.monotonic() - begin
            if waited > wait_seconds:
                raise ConfigError(who)
            if waited > 1 and not said:
                said = True
                log.warning(
                    "%s; waiting for it, %.0f s at most if it is dead, else %.0f s",
                    who,
                    leases.STALE_SECONDS,
                    wait_seconds,
                )
            time.sleep(0.1)
        try:
            yield
        finally:
            lease.release()

    def record_sweep(self, name: str, run_ids: Iterable[str], overrides: Sequence[str] = ()) -> str:
        """Remembers a sweep's runs, and what the command line said of them; returns the record's name."""
        return self._record_sweep(name, run_ids, time.time(), overrides)

    def extend_sweep(self, record: str, run_ids: Iterable[str]) -> None:
        """Adds runs to a launched sweep, such as those that it has chosen, and to what was added to it before.

        record: what `record_sweep` returned.
        """
        path = self.root / ".sweeps" / f"{record}.json"
        launched = self._launched(path) if is_name(record) else None
        if launched is None:
            log.warning("%s/.sweeps has lost %s.json, to be added to", self.root, record)
            return
        name, when = launched["name"], launched["time"]
        so_far = [one.run_ids for one in self.sweeps() if (one.name, one.time) == (name, when)]
        members = [*launched["run_ids"], *chain.from_iterable(so_far), *run_ids]
        self._record_sweep(name, members, when, launched.get("overrides", ()))

    def _record_sweep(
        self, name: str, run_ids: Iterable[str], launched: float, overrides: Sequence[str]
    ) -> str:
        _check_name(name, "a sweep")
        members = sorted(set(run_ids))
        digest = hashlib.sha256("\n".join(members).encode()).hexdigest()[:8]
        folder = self.root / ".sweeps"
        with storing(folder, "store"):
            folder.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {"name": name, "run_ids": members, "time": launched}
        if overrides:
            content["overrides"] = list(overrides)
        write_json(folder / f"{name}-{digest}.json", content)
        return f"{name}-{digest}"

    def sweeps(self) -> list[SweepRecord]:
        """Sweeps launched on this store, oldest first; what was added to comes before the sum."""
        paths = records_in(self.root / ".sweeps")
        records = [record for record in map(self._launched, paths) if record is not None]
        known = [
            SweepRecord(r["name"], tuple(r["run_ids"]), r["time"], tuple(r.get("overrides", ())))
            for r in records
        ]
        return sorted(known, key=lambda record: (record.time, len(record.run_ids)))

    def _launched(self, path: Path) -> LaunchRecord | None:
        """A sweep's record, less what would lead out of the store, which is named."""
        _check_name(path.stem, "a sweep's record")
        record: LaunchRecord | None = read_record(path, LaunchRecord)
        if record is None:
            return None
        if not is_name(record["name"]):
            report_damage(path, f"{record['name']!r} is no name of a sweep")
            return None
        for run_id in record["run_ids"]:
            if not is_name(run_id):
                log.warning("%s names a run outside of the store, left out: %r", path, run_id)
        return {**record, "run_ids": [each for each in record["run_ids"] if is_name(each)]}

    def choice(self, name: str) -> ChoiceFolder:
        """The folder of a choice, there or not. name: see `tasks.choose.Choose.name`."""
        _check_name(name, "a choice")
        return ChoiceFolder(self.root / ".choices" / name)

    def choices(self) -> list[ChoiceFolder]:
        """Every choice that a cluster's job was to make."""
        choices = map(self.choice, sorted(names_in(self.root / ".choices")))
        return [choice for choice in choices if choice.exists()]


_PROBE_BYTES = 2**16
"""What must fit into a store for a run to begin: its config, leases and log, and more than that."""


_RUN_ID = re.compile(r".+-[0-9a-f]{10}")
"""What ids are like, for a folder of which nothing else can be known."""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is one, also one that cannot be told from other things, which is a closed one then."""
    try:
        return entry.is_dir()
    except OSError:
        return True


def _check_name(text: str, what: str) -> None:
    if not is_name(text):
        raise ConfigError(f"{what} must be named as a file can be, got {text!r}")
