"""Choosing on a cluster: a small job that waits for the candidates, chooses the best and submits the second stage.

The job carries all candidates, frozen when they were submitted. Its state is in the store, like that of any task.
Any number of commands may ask for the same choice: there is only one job for it at a time, and no command submits what
is queued or running already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import submitit

from simclr_ablate.config import ConfigError
from simclr_ablate.launch.cluster.allocation import outside_of_an_allocation, sbatch_variables
from simclr_ablate.launch.cluster.intent import adopt
from simclr_ablate.launch.cluster.queue import settle
from simclr_ablate.launch.cluster.sbatch import hand_in
from simclr_ablate.launch.cluster.slurm import SlurmLauncher, is_seen_to
from simclr_ablate.plan.launchers import Resources, SlurmOptions, read_launcher
from simclr_ablate.plan.plan import PlannedRun, plan_completed, planned_run
from simclr_ablate.store import ChoiceFolder, Store
from simclr_ablate.tasks.choose import Choose

AGAIN_SECONDS = 200
"""The least delay before the job starts again if a candidate is still running: longer than a dead lease lasts."""
_SHAPE = (Resources(nodes=1, gpus=0, cpus=1, memory_gb=2.0, time_minutes=30), 1)


def arrange(
    launcher: SlurmLauncher, store: Store, sweeps: Mapping[str, str], choose: Choose
) -> ChoiceFolder:
    """Submits the job that makes the choice once its candidates have ended, unless one is waiting already.

    sweeps: the launched sweeps that the winners will be part of, each with its record. Raises ConfigError if SLURM
    does not accept the job.
    """
    with store.submitting():
        adopt(store)
        folder = store.choice(choose.name)
        settle([folder])
        if folder.is_queued():
            folder.add_sweeps(sweeps)
            return folder
        root, options = str(store.root.resolve()), asdict(launcher.options)
        call = ChooseJob(choose.to_config(), root, launcher.cache, options, sbatch_variables())
        call.submit(launcher, store, choose, sweeps)
        return folder


@dataclass(frozen=True)
class ChooseJob:
    """The job's content, in plain values. Calling it chooses and submits.

    choose: see `Choose.to_config`. launcher, sbatch: the launcher options and SBATCH_ variables with which the
    candidates were submitted.
    """

    choose: dict[str, Any]
    store: str
    cache: str
    launcher: dict[str, Any]
    sbatch: dict[str, str]

    def __call__(self) -> None:
        """Returns when the second stage is submitted, the choice is cancelled, or another job waits for it."""
        store, choose = Store(self.store), Choose.from_config(self.choose)
        job, folder = submitit.JobEnvironment().job_id, store.choice(choose.name)
        # Inside, the record cannot change. If this job began at once, its record is written by now.
        with outside_of_an_allocation(self.sbatch), store.submitting():
            submission = folder.submission()
            if submission is None or submission["job"] != job or folder.is_done():
                print(f"job {job} has nothing to do: {folder.last_submission()}", flush=True)
                return
            try:
                self._go_on(store, choose, folder)
            except Exception as error:
                known = isinstance(error, ConfigError)
                reason = f"{error}" if known else f"{type(error).__name__}: {error}"
                folder.write_failure({"reason": reason})
                folder.withdraw_submission()
                raise

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """The call for after a requeue: the same one, because all state is in the store."""
        return submitit.helpers.DelayedSubmission(self)

    def submit(
        self,
        launcher: SlurmLauncher,
        store: Store,
        choose: Choose,
        sweeps: Mapping[str, str],
        **more: str,
    ) -> None:
        """Submits the job, to start once no job works on a candidate, and records it.

        more: options of sbatch. Raises ConfigError with sbatch's own message.
        """
        if jobs := _jobs_of(_unfinished(store, choose)):
            more["dependency"] = ":".join(["afterany", *jobs])
        submission = {"cluster": "slurm", "sweep": choose.sweep, "sweeps": dict(sweeps)}
        record = {"choice": choose.name, "submission": submission}
        name = f"{choose.sweep}-choice"
        hand_in(launcher.options, store, name, _SHAPE, [self], [record], **more)

    def _go_on(self, store: Store, choose: Choose, folder: ChoiceFolder) -> None:
        options = read_launcher(self.launcher)
        assert isinstance(options, SlurmOptions)
        launcher, sweeps = SlurmLauncher(options, self.cache), folder.sweeps
        if _unfinished(store, choose):
            self.submit(launcher, store, choose, sweeps, begin=f"now+{AGAIN_SECONDS}")
            return
        chosen = choose.decide(store)
        print(chosen.describe())
        plan = plan_completed(chosen.experiments(), store, choose.sweep)
        print(launcher.submit(plan).summary(), flush=True)
        chosen.note(store, sweeps)


def _unfinished(store: Store, choose: Choose) -> list[PlannedRun]:
    """The candidates that somebody is still working on or that are queued, according to SLURM and the store."""
    tried = [planned_run(experiment, store) for experiment in choose.tried]
    settle(task for planned in tried for task in planned.tasks)
    return [planned for planned in tried if is_seen_to(planned, planned.state())]


def _jobs_of(runs: Sequence[PlannedRun]) -> list[str]:
    """The SLURM jobs of these runs, as far as they have one."""
    submissions = (task.submission() for planned in runs for task in planned.tasks)
    jobs = (each["job"] for each in submissions if each and each["cluster"] == "slurm")
    return list(dict.fromkeys(jobs))
