"""Runs that were launched before, taken up again, called off or cleaned up: `status retry`, `cancel` and `clean`."""

import getpass
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from omegaconf import OmegaConf

from simclr_ablate import leftovers
from simclr_ablate.claim import is_here
from simclr_ablate.config import ConfigError
from simclr_ablate.files import StorageError
from simclr_ablate.identity import run_id
from simclr_ablate.launch.command import Command, ExitStatus, launch
from simclr_ablate.launch.plan import make_plan
from simclr_ablate.launch.queue import scancel
from simclr_ablate.launch.settings import read_settings
from simclr_ablate.paths import config_folder, default_cache
from simclr_ablate.schema import SCHEMA_VERSION, Experiment
from simclr_ablate.store import Run, Store


def retry(store: Store, runs: Sequence[Run], console: Any) -> int:
    """Launches `runs` again as they were launched last: where, and with what. Returns an exit status.

    A run that no cluster ever had is carried out on this machine. Raises ConfigError.
    """
    groups: dict[str, list[Experiment]] = {}
    left = 0
    for run in runs:
        last = run.last_submission() or {}
        how = {"launcher": last.get("launcher"), "cache": last.get("cache")}
        try:
            experiments = _experiments(run, last)
        except ConfigError as error:
            console.print(f"not retried: {run.run_id}: {error}", highlight=False, soft_wrap=True)
            left += 1
            continue
        groups.setdefault(json.dumps(how, sort_keys=True), []).extend(experiments)
    statuses: list[int] = [ExitStatus.SOME_FAILED if left else ExitStatus.OK]
    refused = []
    for key, group in groups.items():
        try:
            statuses.append(_launch_again(store, json.loads(key), group, console))
        except ConfigError as error:  # the others go on
            refused.append(error)
    if refused:
        raise ConfigError("; ".join(map(str, refused)))
    return max(statuses)


def _experiments(run: Run, last: Mapping[str, Any]) -> list[Experiment]:
    """What is to be launched again. Raises ConfigError where the run's config is damaged or another version's."""
    record = run.experiment()
    if record is not None and record["schema_version"] != SCHEMA_VERSION:
        raise ConfigError(f"it is of another version: its schema is {record['schema_version']}")
    experiments = [Experiment.from_config(config) for config in last.get("configs", ())]
    # A record that was copied from another run tells of that one.
    experiments = [experiment for experiment in experiments if run_id(experiment) == run.run_id]
    return experiments or [Experiment.from_config(run.config())]


def _launch_again(
    store: Store, how: dict[str, Any], experiments: Sequence[Experiment], console: Any
) -> int:
    cache = how["cache"] or default_cache()
    plan = make_plan(experiments, store, None, cache=cache)
    store.prepare()
    command = Command(
        store=store,
        cache=cache,
        dry_run=False,
        launcher=read_settings(how["launcher"] or _local()),
        sweep=None,
        artefact=None,
    )
    return launch(command, plan, console)


def _local() -> Mapping[str, Any]:
    return dict(OmegaConf.load(config_folder("conf") / "launcher" / "local.yaml"))


def cancel(runs: Sequence[Run], say: Callable[[str], None]) -> int:
    """Calls off what is queued or running of `runs`; each keeps its checkpoint. Returns an exit status.

    Raises ConfigError with SLURM's own words where it refuses.
    """
    jobs, left = {}, []
    for run in runs:
        submission = run.submission()
        if submission is not None and submission["cluster"] == "slurm":
            jobs[run] = submission["job"]
        elif not _terminate(run):
            left.append(run)
    if jobs:
        scancel(list(jobs.values()))
        for run, job in jobs.items():
            run.cancel_job(job, f"cancelled by {getpass.getuser()}")
    say(f"cancelled {len(runs) - len(left)} runs")
    for run in left:
        say(f"not cancelled: {run.run_id} is run by {run.holder()}: cancel it there")
    return ExitStatus.SOME_FAILED if left else ExitStatus.OK


def clean(store: Store, runs: Sequence[Run], say: Callable[[str], None]) -> int:
    """Removes what killed processes have left unfinished in the store and in `runs`. Returns an exit status.

    Runs that somebody works on, or whose job nobody has accounted for, are left alone.
    """
    count, size = leftovers.clear(leftovers.of_store(store.root))
    status = ExitStatus.OK
    for run in runs:
        try:
            more, bytes_ = _clean(run)
        except StorageError as error:  # the others are cleaned up
            say(f"not cleaned up: {run.run_id}: {error}")
            status = ExitStatus.SOME_FAILED
            continue
        count, size = count + more, size + bytes_
    say(f"removed {count} unfinished {'file' if count == 1 else 'files'}, {size / 2**20:.1f} MiB")
    return status


def _clean(run: Run) -> tuple[int, int]:
    """How many files of the run were removed, and their bytes. Raises StorageError."""
    if not any(leftovers.of_run(run.path)) and not any(leftovers.checkpoints_of(run.path)):
        return 0, 0
    claim = None if run.submission() is not None else run.claim(clears=False)
    if claim is None:
        return 0, 0
    try:
        found = chain(leftovers.of_run(run.path), leftovers.checkpoints_of(run.path))
        return leftovers.clear(found)
    finally:
        claim.release()


def _terminate(run: Run) -> bool:
    """Asks the process that works on the run to stop, if it is on this machine."""
    owner = run.holder()
    if owner is None or not is_here(owner):
        return False
    try:
        os.kill(owner["pid"], signal.SIGTERM)
    except OSError:
        return False
    return True
