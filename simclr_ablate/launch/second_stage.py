"""A sweep's second stage on a cluster: a small job that SLURM starts once the first has ended, chooses and submits.

It carries all candidates as they were frozen when the first stage was submitted. What has become of it lies in the
store: `waiting.py`. Any number of commands may see to one stage: as long as its job lives there is no other, and what
is queued or running is submitted by none.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import submitit

from simclr_ablate.config import ConfigError
from simclr_ablate.launch.allocation import outside_of_an_allocation, sbatch_variables
from simclr_ablate.launch.intent import adopt
from simclr_ablate.launch.plan import PlannedRun, place, plan_completed
from simclr_ablate.launch.queue import settle
from simclr_ablate.launch.sbatch import hand_in
from simclr_ablate.launch.selection import Selection
from simclr_ablate.launch.settings import Resources, SlurmSettings, read_settings
from simclr_ablate.launch.slurm import SlurmLauncher, is_seen_to
from simclr_ablate.launch.waiting import Waiting, living
from simclr_ablate.store import Store

AGAIN_SECONDS = 200
"""How long the job waits at least where it finds that the first stage goes on: longer than a dead lease lasts."""
_SHAPE = (Resources(nodes=1, gpus=0, cpus=1, memory_gb=2.0, time_minutes=30), 1)


def arrange(
    launcher: SlurmLauncher, store: Store, sweeps: Mapping[str, str], selection: Selection
) -> Waiting:
    """Sees to it that the second stage follows the first, by the job that waits already or by a new one.

    sweeps: see `Waiting`. Raises ConfigError as submitting does.
    """
    with store.submitting():
        adopt(store)
        stage = Waiting.read(store, selection.stage_name)
        if stage is not None and living([stage]):
            stage = replace(stage, sweeps={**stage.sweeps, **sweeps})
            stage.write(store, selection.stage_name)
            return stage
        root, settings = str(store.root.resolve()), asdict(launcher.settings)
        own = sbatch_variables()
        call = SecondStage(selection.to_config(), root, launcher.cache, settings, own)
        return call.submit(launcher, store, selection, sweeps)


@dataclass(frozen=True)
class SecondStage:
    """What the job carries, in plain values. Calling it chooses and submits.

    selection: see `Selection.to_config`; launcher, sbatch: the settings, and sbatch's variables (SBATCH_ACCOUNT, ...),
    that the first stage was submitted with.
    """

    selection: dict[str, Any]
    store: str
    cache: str
    launcher: dict[str, Any]
    sbatch: dict[str, str]

    def __call__(self) -> None:
        """Returns when the second stage is submitted or called off, or another job waits for the rest of the first."""
        store, selection = Store(self.store), Selection.from_config(self.selection)
        job = submitit.JobEnvironment().job_id
        # Inside, the record cannot change, and that of a job that began at once is written.
        with outside_of_an_allocation(self.sbatch), store.submitting():
            stage = Waiting.read(store, selection.stage_name)
            if stage is None or not stage.is_left_to(job):
                print(f"nothing is left to job {job}: {stage}", flush=True)
                return
            try:
                self._go_on(store, selection, stage)
            except Exception as error:
                known = isinstance(error, ConfigError)
                reason = f"{error}" if known else f"{type(error).__name__}: {error}"
                replace(stage, state="failed", reason=reason).write(store, selection.stage_name)
                raise

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What to call after a requeue: the same; all state is in the store."""
        return submitit.helpers.DelayedSubmission(self)

    def submit(
        self,
        launcher: SlurmLauncher,
        store: Store,
        selection: Selection,
        sweeps: Mapping[str, str],
        **options: str,
    ) -> Waiting:
        """Hands the job in, to begin when no job works on the first stage any more, and records it.

        sweeps: see `Waiting`; options: more of sbatch's. Raises ConfigError with sbatch's own words.
        """
        if jobs := _jobs_of(_unfinished(store, selection)):
            options["dependency"] = ":".join(["afterany", *jobs])
        name = f"{selection.sweep}-second-stage"
        stage = Waiting(selection.sweep, dict(sweeps), job="", output="", time=time.time())
        record = {"stage": selection.stage_name, "waiting": asdict(stage)}
        hand_in(launcher.settings, store, name, _SHAPE, [self], [record], **options)
        recorded = Waiting.read(store, selection.stage_name)
        assert recorded is not None
        return recorded

    def _go_on(self, store: Store, selection: Selection, stage: Waiting) -> None:
        settings = read_settings(self.launcher)
        assert isinstance(settings, SlurmSettings)
        launcher = SlurmLauncher(settings, self.cache)
        if _unfinished(store, selection):
            again = f"now+{AGAIN_SECONDS}"
            self.submit(launcher, store, selection, stage.sweeps, begin=again)
            return
        decision = selection.decide(store)
        print(decision.describe())
        plan = plan_completed(decision.experiments(), store, selection.sweep)
        print(launcher.submit(plan).summary(), flush=True)
        decision.close(store, stage.sweeps)


def _unfinished(store: Store, selection: Selection) -> list[PlannedRun]:
    """What of the first stage somebody still sees to, SLURM being asked."""
    trials = [place(trial, store) for trial in selection.trials]
    settle(task for planned in trials for task in planned.tasks)
    return [planned for planned in trials if is_seen_to(planned, planned.state())]


def _jobs_of(runs: Sequence[PlannedRun]) -> list[str]:
    """SLURM's jobs of the runs that have one."""
    submissions = (task.submission() for planned in runs for task in planned.tasks)
    jobs = (found["job"] for found in submissions if found and found["cluster"] == "slurm")
    return list(dict.fromkeys(jobs))
