"""A choice on a cluster: a small job that SLURM starts once all that is tried has ended, which chooses and submits.

It carries all candidates as they were frozen when what is tried was submitted. What has become of it lies in the store,
as of any task. Any number of commands may see to one choice: as long as its job lives there is no other, and what is
queued or running is submitted by none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import submitit

from simclr_ablate.config import ConfigError
from simclr_ablate.launch.allocation import outside_of_an_allocation, sbatch_variables
from simclr_ablate.launch.intent import adopt
from simclr_ablate.launch.launchers import Resources, SlurmOptions, read_launcher
from simclr_ablate.launch.plan import PlannedRun, plan_completed, planned_run
from simclr_ablate.launch.queue import settle
from simclr_ablate.launch.sbatch import hand_in
from simclr_ablate.launch.slurm import SlurmLauncher, is_seen_to
from simclr_ablate.store import ChoiceFolder, Store
from simclr_ablate.tasks.choose import Choose

AGAIN_SECONDS = 200
"""How long the job waits at least where it finds that a candidate goes on: longer than a dead lease lasts."""
_SHAPE = (Resources(nodes=1, gpus=0, cpus=1, memory_gb=2.0, time_minutes=30), 1)


def arrange(
    launcher: SlurmLauncher, store: Store, sweeps: Mapping[str, str], choose: Choose
) -> ChoiceFolder:
    """Sees to it that the choice is made once its candidates have ended, by the job that waits already or by a new one.

    sweeps: launched sweeps that what is chosen will be part of, each with its record. Raises ConfigError as submitting
    does.
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
    """What the job carries, in plain values. Calling it chooses and submits.

    choose: see `Choose.to_config`; launcher, sbatch: its options, and sbatch's variables (SBATCH_ACCOUNT, ...), that
    the candidates were submitted with.
    """

    choose: dict[str, Any]
    store: str
    cache: str
    launcher: dict[str, Any]
    sbatch: dict[str, str]

    def __call__(self) -> None:
        """Returns when what is chosen is submitted, the choice is called off, or another job waits for them."""
        store, choose = Store(self.store), Choose.from_config(self.choose)
        job, folder = submitit.JobEnvironment().job_id, store.choice(choose.name)
        # Inside, the record cannot change, and that of a job that began at once is written.
        with outside_of_an_allocation(self.sbatch), store.submitting():
            submission = folder.submission()
            if submission is None or submission["job"] != job or folder.is_done():
                print(f"nothing is left to job {job}: {folder.last_submission()}", flush=True)
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
        """What to call after a requeue: the same; all state is in the store."""
        return submitit.helpers.DelayedSubmission(self)

    def submit(
        self,
        launcher: SlurmLauncher,
        store: Store,
        choose: Choose,
        sweeps: Mapping[str, str],
        **more: str,
    ) -> None:
        """Hands the job in, to begin when no job works on a candidate any more, and records it.

        more: options of sbatch. Raises ConfigError with sbatch's own words.
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
    """What is tried and somebody still sees to, SLURM being asked."""
    tried = [planned_run(experiment, store) for experiment in choose.tried]
    settle(task for planned in tried for task in planned.tasks)
    return [planned for planned in tried if is_seen_to(planned, planned.state())]


def _jobs_of(runs: Sequence[PlannedRun]) -> list[str]:
    """SLURM's jobs of the runs that have one."""
    submissions = (task.submission() for planned in runs for task in planned.tasks)
    jobs = (each["job"] for each in submissions if each and each["cluster"] == "slurm")
    return list(dict.fromkeys(jobs))
