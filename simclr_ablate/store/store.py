"""The run store: one folder for each run. Its files are the truth about the run.

    runs/<run id>/
      experiment.json      the frozen config
      lease.N              who works on it now
      submission.json      the cluster's job that it was last submitted as, and what it takes to submit it again
      timeouts.json        how often in a row the time limit came without progress
      progress.json        how far it is: epoch, step, loss, ... (shown by the live view and `status`)
      history.csv          one row per epoch of training
      metrics.jsonl        one line per so many steps of pretraining (`tracker.every`): metrics, speed, memory
      attempts.json        the command, code, versions and machine of each attempt: see `provenance.py`
      checkpoint.pt        to resume from; checkpoint.previous.pt is the one before
      encoder.pt           makes pretraining complete: weights of the encoder and of the head, or of a supervised run's
                           classifier, and the metrics of pretraining
      pretraining.json     these metrics: those of the last epoch, and seconds
      derived/NAME.npz     in a run that came in a pack: what was computed from its weights
      evaluations/KEY.json an evaluation of the encoder: its config, its metrics, and how long it took
      evaluations/KEY/     its lease, progress, log and so on: the same files as for pretraining
      failure.json         why the last attempt failed
      log.txt              what the run's processes printed
    runs/.sweeps/NAME-HASH.json  the runs of a launched sweep, the overrides of its command line, and its own artefact
    runs/.choices/NAME-HASH/  on a cluster: a job that waits to choose, and to submit what it has chosen
    runs/.jobs/              what submitit writes: scripts, pickles, output of jobs before their run begins
    runs/.submitting/        the lease of the command that submits now

Without a lease, no second process rewrites anything here, except pretraining.json with the same content. Only the
weights need torch.

A damaged file counts as absent and is reported, whatever is wrong with it (`records.py`, `tensors.py`). Readers go on
without it, and the run's command makes it again. Evaluations, pretraining.json, encoder.pt and checkpoints have a
digest and name their owner; those of encoder.pt and checkpoints are checked when they are read. experiment.json must
give the id that its folder is named by. A damaged file that is kept is renamed to `NAME.damaged`.

A store is trusted like the code's own folder: whoever can write to it can make `retry` import what experiment.json
names.
"""

import hashlib
import logging
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """A launched sweep: its name, its runs, when it was launched, and the overrides of its command line.

    overrides: includes `sweep=NAME`; empty if an earlier version launched the sweep. until: `decided` if results said
    how many seeds its runs should have, so that they have been looked at more than once; else empty. artefact: the
    artefact that the sweep defines (`artefact.Definition.to_record`), if it does.
    """

    name: str
    run_ids: tuple[str, ...]
    time: float
    overrides: tuple[str, ...] = ()
    until: str = ""
    artefact: Mapping[str, Any] | None = None


class Store:
    """A folder of runs."""

    def __init__(self, root: str | Path) -> None:
        self.root = expanded(root, "store")

    def prepare(self) -> None:
        """Makes the folder and checks that it can hold runs. Raises StorageError, which names the key, if it cannot."""
        with storing(self.root, "store"):
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe.{uuid.uuid4().hex}.tmp"
            try:
                probe.write_bytes(bytes(_PROBE_BYTES))
            finally:
                probe.unlink(missing_ok=True)

    def check(self) -> None:
        """Raises StorageError if the folder does not exist or cannot be read."""
        try:
            os.scandir(self.root).close()
        except FileNotFoundError:
            raise StorageError(f"the store {self.root} does not exist") from None
        except OSError as error:
            raise StorageError(told(error, self.root, "store")) from error

    def run(self, run_id: str, evaluation_key: str | None = None) -> Run:
        """The run with that id, whether it exists or not; or an equivalent run of an earlier schema, if pretrained.

        evaluation_key: the evaluation that is asked for. A run of an earlier schema that came without weights, in a
            pack, is equivalent if it has this one.

        Raises ConfigError if `run_id` cannot be the name of a folder.
        """
        _check_name(run_id, "the run")
        run = Run(self.root / run_id)
        if os.path.lexists(run.path):
            return run
        return self._old_run(run_id, evaluation_key) or run

    def _old_run(self, run_id: str, key: str | None) -> Run | None:
        """A run of an earlier schema that has this id in today's, and weights or the evaluation `key`.

        Preferably one that is evaluated.
        """
        pretrained = []
        for name in self._by_slug.get(slug(run_id), ()):
            run = Run(self.root / name)
            if not run.is_pretrained() and (key is None or not run.is_evaluated(key)):
                continue
            record = run.experiment()
            if record and "upgraded_from" in record and run_id_of(record["config"]) == run_id:
                if run.is_evaluated():
                    return run
                pretrained.append(run)
        return pretrained[0] if pretrained else None

    @cached_property
    def _by_slug(self) -> dict[str, list[str]]:
        """Folders by the slug that they begin with. Cached, since it serves runs of earlier schemas, and no new ones of
        these appear."""
        names: dict[str, list[str]] = {}
        for name in sorted(self._folders()):
            names.setdefault(slug(name), []).append(name)
        return names

    def runs(self) -> Iterator[Run]:
        """Every run in the store, ordered by id, even if its experiment.json is damaged or gone.

        A folder that cannot be read is reported; it is yielded if its name looks like a run id, else skipped. Raises
        StorageError if the store itself cannot be read.
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
        """Keeps other commands from submitting runs of this store inside. Raises ConfigError if one takes too long."""
        folder = self.root / ".submitting"
        with storing(folder, "store"):
            folder.mkdir(parents=True, exist_ok=True)
        begin, warned = time.monotonic(), False
        while (lease := leases.acquire(folder)) is None:
            problem = f"another command submits to the store {self.root}: {leases.describe(folder)}"
            waited = time.monotonic() - begin
            if waited > wait_seconds:
                raise ConfigError(problem)
            if waited > 1 and not warned:
                warned = True
                log.warning(
                    "%s; waiting at most %.0f s if it is dead, else %.0f s",
                    problem,
                    leases.STALE_SECONDS,
                    wait_seconds,
                )
            time.sleep(0.1)
        try:
            yield
        finally:
            lease.release()

    def record_sweep(
        self,
        name: str,
        run_ids: Iterable[str],
        overrides: Sequence[str] = (),
        until: str = "",
        artefact: Mapping[str, Any] | None = None,
    ) -> str:
        """Records a sweep's runs, and the overrides of its command line. Returns the name of the record.

        until, artefact: see SweepRecord. Runs that were once looked at more than once stay so.
        """
        return self._record_sweep(name, run_ids, time.time(), overrides, until, artefact)

    def extend_sweep(self, record: str, run_ids: Iterable[str]) -> None:
        """Adds runs, such as those that were chosen, to a launched sweep and to what was added to it before.

        record: the name that `record_sweep` returned.
        """
        path = self.root / ".sweeps" / f"{record}.json"
        launched = self._launched(path) if is_name(record) else None
        if launched is None:
            log.warning(
                "%s/.sweeps/%s.json is missing: runs are not added to it", self.root, record
            )
            return
        name, when = launched["name"], launched["time"]
        earlier = [one.run_ids for one in self.sweeps() if (one.name, one.time) == (name, when)]
        members = [*launched["run_ids"], *chain.from_iterable(earlier), *run_ids]
        self._record_sweep(
            *(name, members, when, launched.get("overrides", ())),
            *(launched.get("until", ""), launched.get("artefact")),
        )

    def _record_sweep(
        self,
        name: str,
        run_ids: Iterable[str],
        launched: float,
        overrides: Sequence[str],
        until: str,
        artefact: Mapping[str, Any] | None,
    ) -> str:
        _check_name(name, "the sweep")
        members = sorted(set(run_ids))
        digest = hashlib.sha256("\n".join(members).encode()).hexdigest()[:8]
        folder = self.root / ".sweeps"
        with storing(folder, "store"):
            folder.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {"name": name, "run_ids": members, "time": launched}
        if overrides:
            content["overrides"] = list(overrides)
        path = folder / f"{name}-{digest}.json"
        before = self._launched(path) if os.path.lexists(path) else None
        if until := until or (before.get("until", "") if before else ""):
            content["until"] = until
        if artefact is not None:
            content["artefact"] = dict(artefact)
        write_json(path, content)
        return path.stem

    def sweeps(self) -> list[SweepRecord]:
        """Sweeps launched in this store, oldest first; the record of a sweep comes before its extensions."""
        known = self.launches().values()
        return sorted(known, key=lambda record: (record.time, len(record.run_ids)))

    def launches(self) -> dict[Path, SweepRecord]:
        """`sweeps` by their files, in the order of these."""
        found = {}
        for path in records_in(self.root / ".sweeps"):
            if (record := self._launched(path)) is not None:
                found[path] = SweepRecord(
                    record["name"],
                    tuple(record["run_ids"]),
                    record["time"],
                    tuple(record.get("overrides", ())),
                    record.get("until", ""),
                    record.get("artefact"),
                )
        return found

    def _launched(self, path: Path) -> LaunchRecord | None:
        """The record of a sweep, without ids that would lead out of the store, which are reported."""
        _check_name(path.stem, "the record of a sweep")
        record: LaunchRecord | None = read_record(path, LaunchRecord)
        if record is None:
            return None
        if not is_name(record["name"]):
            report_damage(path, f"{record['name']!r} is not the name of a sweep")
            return None
        for run_id in record["run_ids"]:
            if not is_name(run_id):
                log.warning("%s names a run outside the store, ignored: %r", path, run_id)
        return {**record, "run_ids": [each for each in record["run_ids"] if is_name(each)]}

    def choice(self, name: str) -> ChoiceFolder:
        """The folder of a choice, whether it exists or not. name: see `tasks.choose.Choose.name`."""
        _check_name(name, "the choice")
        return ChoiceFolder(self.root / ".choices" / name)

    def choices(self) -> list[ChoiceFolder]:
        """Every choice that was submitted to a cluster."""
        choices = map(self.choice, sorted(names_in(self.root / ".choices")))
        return [choice for choice in choices if choice.exists()]


_PROBE_BYTES = 2**16
"""Room that a store must have for a run to begin: ample for its config, leases and log."""


_RUN_ID = re.compile(r".+-[0-9a-f]{10}")
"""The form of ids, for folders of which nothing else is known."""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether `entry` is a folder. If the system cannot say, it is taken for a closed one."""
    try:
        return entry.is_dir()
    except OSError:
        return True


def _check_name(text: str, what: str) -> None:
    if not is_name(text):
        raise ConfigError(f"the name of {what} must be a valid file name, got {text!r}")
