"""What happens to runs after their launch: `status retry`, `status cancel` and `status clean`."""

import getpass
import json
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from simclr_ablate.config import ConfigError
from simclr_ablate.exit_status import ExitStatus
from simclr_ablate.files import StorageError
from simclr_ablate.identity import evaluation_key, run_id
from simclr_ablate.launch.cluster.queue import require_slurm, scancel
from simclr_ablate.launch.command import Command, checked_plan, launch
from simclr_ablate.lease import is_here
from simclr_ablate.own import look_in
from simclr_ablate.paths import config_folder, default_cache
from simclr_ablate.plan.launchers import SlurmOptions, read_launcher
from simclr_ablate.plan.plan import Plan
from simclr_ablate.schema import SCHEMA_VERSION, Experiment
from simclr_ablate.store import ChoiceFolder, EvaluationFolder, Run, Store, TaskFolder, leftovers
from simclr_ablate.terminal import complain


def retry(store: Store, runs: Sequence[Run], console: Any) -> int:
    """Launches `runs` again with their last launcher and options. Returns an exit status.

    Runs that were never submitted to a cluster are carried out on this machine. Raises ConfigError.
    """
    look_in(os.getcwd())  # for the user's own modules
    groups: dict[str, list[Experiment]] = {}
    left = False
    for run in runs:
        submissions = [last for task in run.tasks() if (last := task.last_submission())]
        last = max(submissions, key=lambda submission: submission["time"], default={})
        how = {"launcher": last.get("launcher"), "cache": last.get("cache")}
        try:
            experiments = _experiments(run, submissions)
        except ConfigError as error:
            complain(f"not retried: {run.run_id}: {error}")
            left = True
            continue
        for key in _unknown(run, experiments):
            complain(
                f"not retried: {run.run_id}: its evaluation {key} was begun by an earlier version, which did not keep "
                "the config: give its command again"
            )
            left = True
        groups.setdefault(json.dumps(how, sort_keys=True), []).extend(experiments)
    commands, refused = [], []
    for key, group in groups.items():
        try:
            commands.append(_again(store, json.loads(key), group))
        except ConfigError as error:
            refused.append(error)
    if refused and not commands:
        raise ConfigError("; ".join(map(str, refused)))
    for reason in refused:  # the other groups are still launched
        complain(f"not retried: {reason}")
    statuses = [launch(command, plan, console) for command, plan in commands]
    return max([ExitStatus.SOME_FAILED if left or refused else ExitStatus.OK, *statuses])


def _experiments(run: Run, submissions: Sequence[Mapping[str, Any]]) -> list[Experiment]:
    """The experiments to launch again. Raises ConfigError if the run's config is damaged or of another version."""
    record = run.experiment()
    if record is not None and record["schema_version"] != SCHEMA_VERSION:
        raise ConfigError(f"it is of another version: its schema is {record['schema_version']}")
    configs = [config for last in submissions for config in last.get("configs", ())]
    planned = [task.experiment() for task in run.tasks() if isinstance(task, EvaluationFolder)]
    configs += [each["config"] for each in planned if each is not None]
    experiments = dict.fromkeys(map(Experiment.from_config, configs))
    # A record that was copied from another run describes that run.
    own = [experiment for experiment in experiments if run_id(experiment) == run.run_id]
    return own or [Experiment.from_config(run.config())]


def _unknown(run: Run, experiments: Iterable[Experiment]) -> list[str]:
    """The keys of evaluations that are not done and of none of the experiments."""
    known = set(map(evaluation_key, experiments))
    begun = [task for task in run.tasks() if isinstance(task, EvaluationFolder)]
    return [task.key for task in begun if not task.is_done() and task.key not in known]


def _again(
    store: Store, how: dict[str, Any], experiments: Sequence[Experiment]
) -> tuple[Command, Plan]:
    """The command that launches the experiments again, and its plan. Raises ConfigError if it cannot be carried out."""
    cache = how["cache"] or default_cache()
    store.prepare()
    launcher = read_launcher(how["launcher"] or _local())
    command = Command(store=store, cache=cache, dry_run=False, launcher=launcher)
    if isinstance(launcher, SlurmOptions) and launcher.cluster == "slurm":
        require_slurm()
    plan = checked_plan(command, experiments, {}, ())
    for line in plan.passed_over():
        complain(line)
    return command, plan


def _local() -> Mapping[str, Any]:
    return dict(OmegaConf.load(config_folder("conf") / "launcher" / "local.yaml"))


def cancel(runs: Sequence[Run], say: Callable[[str], None]) -> int:
    """Cancels those of `runs` that are queued or running; they keep their checkpoints. Returns an exit status.

    Raises ConfigError with SLURM's own message if it refuses.
    """
    jobs: dict[TaskFolder, str] = {}
    left = []
    for run in runs:
        tasks = list(run.tasks())
        submissions = [(task, task.submission()) for task in tasks]
        of_slurm = {
            task: each["job"] for task, each in submissions if each and each["cluster"] == "slurm"
        }
        jobs |= of_slurm
        if not of_slurm and sum(map(_terminate, tasks)) == 0:
            left.append(run)
    if jobs:
        scancel(list(dict.fromkeys(jobs.values())))
        for task, job in jobs.items():
            task.cancel_job(job, f"cancelled by {getpass.getuser()}")
    say(f"cancelled {len(runs) - len(left)} runs")
    for run in left:
        holders = (task.holder() for task in run.tasks())
        holder = next((each for each in holders if each is not None), None)
        complain(f"not cancelled: {run.run_id} is held by {holder}: cancel it there")
    return ExitStatus.SOME_FAILED if left else ExitStatus.OK


def cancel_choices(store: Store, sweep: str | None) -> list[ChoiceFolder]:
    """Cancels the waiting choices of a sweep, or of all sweeps; returns them. Raises the same errors as `scancel`."""
    if not _open_choices(store, sweep):
        return []
    with store.submitting():  # so that none is made meanwhile
        jobs = _open_choices(store, sweep)
        if jobs:
            scancel(list(jobs.values()))
        for folder, job in jobs.items():
            folder.cancel_job(job, f"cancelled by {getpass.getuser()}")
    return list(jobs)


def _open_choices(store: Store, sweep: str | None) -> dict[ChoiceFolder, str]:
    """The choices of jobs that have not ended, with their jobs."""
    submissions = {
        folder: folder.submission() for folder in store.choices() if not folder.is_done()
    }
    return {
        folder: submission["job"]
        for folder, submission in submissions.items()
        if submission is not None and sweep in (None, *folder.sweeps)
    }


def clean(store: Store, runs: Sequence[Run], say: Callable[[str], None]) -> int:
    """Removes unfinished files that killed processes left in the store and in `runs`. Returns an exit status.

    Tasks that somebody works on, or with a job that is not known to have ended, are left alone.
    """
    count, size = leftovers.clear(leftovers.of_store(store.root))
    status = ExitStatus.OK
    for run in runs:
        try:
            more, bytes_ = _clean(run)
        except StorageError as error:  # the other runs are still cleaned up
            complain(f"not cleaned up: {run.run_id}: {error}")
            status = ExitStatus.SOME_FAILED
            continue
        count, size = count + more, size + bytes_
    say(f"removed {count} unfinished {'file' if count == 1 else 'files'}, {size / 2**20:.1f} MiB")
    return status


def _clean(run: Run) -> tuple[int, int]:
    """How many files of the run were removed, and their size in bytes. Raises StorageError."""
    removed = [task.tidy() for task in run.tasks() if task.submission() is None]
    return sum(count for count, _ in removed), sum(size for _, size in removed)


def _terminate(task: TaskFolder) -> bool:
    """Asks the process that works on the task to stop, if it is on this machine; returns whether it did ask."""
    owner = task.holder()
    if owner is None or not is_here(owner):
        return False
    try:
        os.kill(owner["pid"], signal.SIGTERM)
    except OSError:
        return False
    return True
