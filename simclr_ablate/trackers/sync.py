"""Sends what trackers lack of a store's finished runs, and the pictures of its reports."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from simclr_ablate.config import ConfigError, build, nearest
from simclr_ablate.files import write_json
from simclr_ablate.schema import Tracking, check_tracking
from simclr_ablate.store import Run, Store
from simclr_ablate.store.evaluation import digest_of
from simclr_ablate.store.records import read_record
from simclr_ablate.trackers.delivery import Delivery
from simclr_ablate.trackers.registry import (
    check_trackers,
    destination_of,
    find_tracker,
    folder_of,
)

FINISHED = ("complete", "failed", "pretrained")
"""The states of runs that are sent: of the others, more is to come."""


class SyncError(RuntimeError):
    """A tracker could not be reached, or refused what it got. The message says which, and why."""


@dataclass
class Synced:
    """How many runs and pictures were sent, by tracker; how many were there already; and runs left out, by state.

    damaged: the ids of runs whose config cannot be read.
    """

    sent: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)
    pictures: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)


def sync(
    store: Store,
    given: Mapping[str, Any],
    sweeps: Sequence[str] = (),
    reports: Path | None = None,
) -> Synced:
    """Sends each finished run's new metrics and evaluations to its trackers.

    given: keys of `tracker` that replace those of the runs' configs, such as `names`. sweeps: only the runs of their
    launches; (): all. reports: a folder whose PNG files are sent too.

    Raises ConfigError if nothing names a tracker, or one cannot be used, SyncError, and StorageError.
    """
    store.check()
    synced = Synced()
    plan = []
    for run in _chosen(store, sweeps):
        record = run.experiment()
        if record is None:
            synced.damaged.append(run.run_id)
        else:
            plan.append((run, tracking_of(record["config"], given)))
    trackings = dict.fromkeys(tracking for _, tracking in plan if tracking.names)
    if not trackings:
        raise ConfigError("tracker must name trackers, since no run of the store names one")
    for tracking in trackings:
        check_trackers(tracking)
    for run, tracking in plan:
        state = run.state()
        if state not in FINISHED:
            synced.left_out[state] += bool(tracking.names)
            continue
        for name in tracking.names:
            _send(Delivery(run, name, tracking, store.root), synced)
    if reports is not None:
        for tracking in trackings:
            for name in tracking.names:
                count = send_pictures(store, name, tracking, reports, sweeps)
                synced.pictures[name] += count
    return synced


def tracking_of(config: Mapping[str, Any], given: Mapping[str, Any]) -> Tracking:
    """The section `tracker` of a run's config, with the keys that were given. Raises ConfigError."""
    own = config.get("tracker") or {}
    tracking = build(Tracking, {**own, **given}, "tracker")
    check_tracking(tracking)
    return tracking


def _chosen(store: Store, sweeps: Sequence[str]) -> Iterator[Run]:
    """The runs of the sweeps' launches, or all. Raises ConfigError for a sweep that was never launched."""
    launches = store.sweeps()
    known = dict.fromkeys(launch.name for launch in launches)
    for name in sweeps:
        if name not in known:
            raise ConfigError(
                f"no sweep {name} was launched in the store {store.root}{nearest(name, known)} "
                f"(launched: {', '.join(known) or 'none'})"
            )
    members = {
        store.run(i).run_id for each in launches if each.name in sweeps for i in each.run_ids
    }
    for run in store.runs():
        if not sweeps or run.run_id in members:
            yield run


def _send(delivery: Delivery, synced: Synced) -> None:
    name = delivery.name
    if delivery.is_up_to_date():
        synced.there[name] += 1
        return
    try:
        if not delivery.begin():
            synced.left_out["being sent"] += 1
            return
        delivery.send()
        delivery.end()
    except Exception as error:
        raise SyncError(
            f"{name}: {delivery.run.run_id}: {type(error).__name__}: {error}"
        ) from error
    finally:
        delivery.let_go()
    synced.sent[name] += 1


class PicturesRecord(TypedDict):
    """The pictures that were sent. to: where. digests: by file name."""

    to: str
    digests: dict[str, str]


def send_pictures(
    store: Store, name: str, tracking: Tracking, reports: Path, sweeps: Sequence[str] = ()
) -> int:
    """Sends the PNG files in `reports` that are new or have changed, as one run of the tracker; returns how many.

    The run is called `pictures`, or with sweeps `pictures-SWEEP`. Raises ConfigError if there are none, SyncError and
    StorageError.
    """
    files = {path.stem: path for path in sorted(reports.glob("*.png"))}
    if not files:
        raise ConfigError(f"reports must be a folder of pictures (*.png), got {reports}")
    run_id = "-".join(["pictures", *sweeps])
    path = store.root / ".trackers" / f"{run_id}.{name}.json"
    to = destination_of(name, tracking, store.root)
    record: PicturesRecord | None = read_record(path, PicturesRecord)
    before = record["digests"] if record is not None and record["to"] == to else {}
    digests = {stem: digest_of(file) or "" for stem, file in files.items()}
    new = {stem: file for stem, file in files.items() if before.get(stem) != digests[stem]}
    if not new:
        return 0
    try:
        tracker = find_tracker(name)(tracking, folder_of(name, tracking, store.root))
        tracker.begin(run_id, {})
        tracker.show(new)
        tracker.end(failed=False)
    except Exception as error:
        raise SyncError(f"{name}: {run_id}: {type(error).__name__}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, PicturesRecord(to=to, digests={**before, **digests}))
    return len(new)
