"""Runs that were launched before, taken up again or called off: `status retry` and `status cancel`."""

import getpass
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from simclr_ablate.claim import is_here
from simclr_ablate.launch.command import OK, SOME_FAILED, Command, launch
from simclr_ablate.launch.plan import make_plan
from simclr_ablate.launch.queue import scancel
from simclr_ablate.launch.settings import read_settings
from simclr_ablate.paths import config_folder, default_cache
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Run, Store


def retry(store: Store, runs: Sequence[Run], console: Any) -> int:
    """Launches `runs` again as they were launched last: where, and with what. Returns an exit status.

    A run that no cluster ever had is carried out on this machine. Raises ConfigError.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        last = run.last_submission() or {}
        how = {"launcher": last.get("launcher"), "cache": last.get("cache")}
        groups.setdefault(json.dumps(how, sort_keys=True), []).append(run)
    statuses = [
        _launch_again(store, json.loads(how), group, console) for how, group in groups.items()
    ]
    return max(statuses, default=OK)


def _launch_again(store: Store, how: dict[str, Any], runs: Sequence[Run], console: Any) -> int:
    configs = [
        config
        for run in runs
        for config in (run.last_submission() or {}).get("configs") or [run.config()]
    ]
    experiments = [Experiment.from_config(config) for config in configs]
    cache = how["cache"] or default_cache()
    plan = make_plan(experiments, store, None, cache=cache)
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
            run.end_job(job, f"cancelled by {getpass.getuser()}")
    say(f"cancelled {len(runs) - len(left)} runs")
    for run in left:
        say(f"not cancelled: {run.run_id} is run by {run.holder()}: cancel it there")
    return SOME_FAILED if left else OK


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
