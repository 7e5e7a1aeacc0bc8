"""The SLURM launcher: submits tasks as jobs of a cluster, through submitit.

hydra-submitit-launcher composes each config again on the node, so edits made meanwhile leak in, and it reports failed
runs as completed. Here a job carries the frozen config, and fails if its run does.
"""

import getpass
import os
import re
import socket
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

from simclr_ablate.config import ConfigError
from simclr_ablate.launch.cluster.intent import adopt
from simclr_ablate.launch.cluster.queue import Settler, require_slurm, settle
from simclr_ablate.launch.cluster.sbatch import (
    Shape,
    deaf_to_ctrl_c,
    hand_in,
    make_executor,
    one_line,
    plan_intent,
)
from simclr_ablate.launch.cluster.submitted import RunFailedError, Submitted
from simclr_ablate.launch.outcome import Ledger, Outcome
from simclr_ablate.launch.progress import ProgressView
from simclr_ablate.launch.resources import ranks_of, resources_of
from simclr_ablate.launch.worker import Job
from simclr_ablate.lease import process
from simclr_ablate.plan.launchers import Resources, SlurmOptions
from simclr_ablate.plan.plan import Plan, PlannedRun
from simclr_ablate.stopping import terminable
from simclr_ablate.store import BUSY, Run, TaskFolder
from simclr_ablate.terminal import count

LOOK_SECONDS = 0.5
"""The least time between two looks at the store while following."""
LOOK_SECONDS_EACH = 0.005
_NO_REASON = "its process ended and gave no reason"
_LARGEST_ARRAY = 1000
"""The most jobs of an array if SLURM does not report its MaxArraySize: that of its default."""


@dataclass(frozen=True)
class Assignment:
    """What one job carries out: pretraining unless it is done, then an evaluation, or only one of the two.

    after: what the job waits for, in the form of sbatch's `dependency`.
    """

    planned: PlannedRun
    evaluates: bool = True
    after: str | None = None

    @property
    def tasks(self) -> list[TaskFolder]:
        """The tasks that this job is the submission of."""
        tasks = self.planned.tasks if self.evaluates else (self.planned.run,)
        # If the job waits for pretraining, another job does that.
        return [t for t in tasks if not (t is self.planned.run and (self.after or t.is_done()))]


@dataclass
class Submission:
    """What one command submitted, and the state of its other runs."""

    jobs: dict[PlannedRun, list[str]] = field(default_factory=dict)
    """SLURM's ids: one job for a run, or one for pretraining and one for the evaluation."""
    elsewhere: list[PlannedRun] = field(default_factory=list)
    """Runs that are queued or running already, so this command leaves them alone."""
    complete: list[PlannedRun] = field(default_factory=list)
    closed: list[PlannedRun] = field(default_factory=list)
    """Runs in an unknown state, because their folders cannot be read."""

    def summary(self) -> str:
        """One line for people."""
        jobs = chain.from_iterable(self.jobs.values())
        ids = sorted({job.partition("_")[0] for job in jobs}, key=int)
        parts = [f"submitted {count(len(self.jobs), 'experiment')}"]
        if ids:
            kind = "job" if len(ids) == 1 else "jobs"
            parts[0] += f" as {kind} {', '.join(ids)}"
        if self.elsewhere:
            parts.append(f"{len(self.elsewhere)} are queued or running already")
        parts += [
            f"{planned.run_id} was not submitted: its folder cannot be read"
            for planned in self.closed
        ]
        return "; ".join(parts)


@dataclass
class Here:
    """Runs that a command carries out itself, with submitit's clusters for this machine.

    waiting: runs to be submitted. left: runs that were submitted here or that another command works on. active: jobs
    that have not ended.
    """

    waiting: deque[PlannedRun]
    left: list[PlannedRun] = field(default_factory=list)
    active: dict[PlannedRun, Any] = field(default_factory=dict)

    def take_back(self, left: list[PlannedRun], given_up: list[PlannedRun]) -> None:
        """Queues runs that another command gave up, to be submitted here; our own active jobs stay in `left`."""
        self.left = [*left, *(planned for planned in given_up if planned in self.active)]
        self.waiting.extend(planned for planned in given_up if planned not in self.active)


class SlurmLauncher:
    """Submits a plan's runs, and follows them if asked to."""

    def __init__(self, options: SlurmOptions, cache: str) -> None:
        self.options = options
        self.cache = cache

    def submit(self, plan: Plan) -> Submission:
        """Submits every run that is not done, queued or running, as one array for each shape of resources.

        Call it inside `Store.submitting`. Raises ConfigError if resources are invalid, or with the cluster's own
        message if it refuses. What was submitted before that stays submitted.
        """
        require_slurm()
        shapes = {planned: self._shape(planned) for planned in plan.runs}
        adopt(plan.store)
        submission = Submission()
        arrays: dict[tuple[Shape, str | None], list[Assignment]] = {}
        several: dict[Shape, list[list[PlannedRun]]] = {}
        for group in self._to_submit(plan, submission):
            run, shape = group[0].run, shapes[group[0]]
            after = None if run.is_pretrained() else _after_pretraining(run)
            if len(group) > 1 and after is None and not run.is_pretrained():
                several.setdefault(shape, []).append(group)
                continue
            for planned in group:
                arrays.setdefault((shapes[planned], after), []).append(
                    Assignment(planned, after=after)
                )
        for (shape, _), assignments in arrays.items():
            self._submit_arrays(plan, shape, assignments, submission)
        for shape, groups in several.items():
            self._submit_several(plan, shape, groups, shapes, submission)
        return submission

    def _to_submit(self, plan: Plan, submission: Submission) -> list[list[PlannedRun]]:
        """The experiments that nobody works on, grouped by run; notes the others in `submission`."""
        settle(task for planned in plan.runs for task in planned.tasks)
        groups: dict[str, list[PlannedRun]] = {}
        for planned in plan.runs:
            state = planned.state()
            if state == "complete":
                submission.complete.append(planned)
            elif state == "unreadable":
                submission.closed.append(planned)
            elif is_seen_to(planned, state):
                submission.elsewhere.append(planned)
            else:
                groups.setdefault(planned.run_id, []).append(planned)
        return list(groups.values())

    def _submit_several(
        self,
        plan: Plan,
        shape: Shape,
        groups: Sequence[list[PlannedRun]],
        shapes: Mapping[PlannedRun, Shape],
        submission: Submission,
    ) -> None:
        """Submits runs that have several evaluations: an array that pretrains all of them, one for their first
        evaluations, one for their second, and so on. Each evaluation waits for the pretraining job with its number."""
        # Runs with the most evaluations come first, so that the jobs of every array have the same numbers.
        groups = sorted(groups, key=len, reverse=True)
        for first in range(0, len(groups), self._largest_array):
            chunk = groups[first : first + self._largest_array]
            pretraining = [Assignment(group[0], evaluates=False) for group in chunk]
            jobs = self._submit_array(plan, shape, pretraining, submission)
            for number in range(len(chunk[0])):
                evaluated = [group[number] for group in chunk if len(group) > number]
                alike = {shapes[planned] for planned in evaluated}
                if len(evaluated) > 1 and len(alike) == 1:
                    after = f"aftercorr:{jobs[0].partition('_')[0]}"
                    assignments = [Assignment(planned, after=after) for planned in evaluated]
                    self._submit_array(plan, shapes[evaluated[0]], assignments, submission)
                    continue
                for planned, job in zip(evaluated, jobs, strict=False):
                    assignment = Assignment(planned, after=f"afterok:{job}")
                    self._submit_array(plan, shapes[planned], [assignment], submission)

    def _submit_arrays(
        self,
        plan: Plan,
        shape: Shape,
        assignments: Sequence[Assignment],
        submission: Submission,
    ) -> None:
        """Submits jobs that wait for the same job or none, in arrays as large as the cluster takes."""
        for first in range(0, len(assignments), self._largest_array):
            chunk = assignments[first : first + self._largest_array]
            self._submit_array(plan, shape, chunk, submission)

    def _submit_array(
        self,
        plan: Plan,
        shape: Shape,
        assignments: Sequence[Assignment],
        submission: Submission,
    ) -> list[str]:
        """Submits one array of jobs with the same dependency; returns SLURM's id of each."""
        calls = [self._job(plan, assignment, shape[0]) for assignment in assignments]
        records = [self._record(assignment) for assignment in assignments]
        after = assignments[0].after
        # An evaluation without an encoder must not wait for ever.
        more = {"dependency": after, "kill-on-invalid-dep": "yes"} if after is not None else {}
        name = plan.sweep or "simclr_ablate"
        try:
            jobs = hand_in(self.options, plan.store, name, shape, calls, records, **more)
        except ConfigError as error:
            if submission.jobs:
                raise ConfigError(f"{error} (before: {submission.summary()})") from error
            raise
        for assignment, job in zip(assignments, jobs, strict=True):
            submission.jobs.setdefault(assignment.planned, []).append(job)
        return jobs

    def follow(self, plan: Plan, submission: Submission, view: ProgressView) -> Outcome:
        """Shows the runs' progress until all have ended. Ctrl-C stops the display, not the runs."""
        outcome = Outcome(list(submission.complete), list(submission.closed))
        ledger = Ledger(plan, view, outcome)
        left = [*submission.jobs, *submission.elsewhere]
        started: set[PlannedRun] = set()
        settle_now_and_then = Settler()
        try:
            with view:
                while left:
                    settle_now_and_then(task for planned in left for task in planned.tasks)
                    left, given_up = self._sort(left, started, ledger)
                    for planned in given_up:
                        ledger.fail(planned)
                    # A thousand runs mean a few thousand files to read.
                    time.sleep(max(LOOK_SECONDS, len(left) * LOOK_SECONDS_EACH))
        except KeyboardInterrupt:
            outcome.interrupted = True
        return outcome

    def carry_out_here(self, plan: Plan, view: ProgressView) -> Ledger:
        """Carries out the plan with submitit's clusters `local` and `debug`: on this machine, a few jobs at a time."""
        ledger = Ledger(plan, view)
        for planned in plan.runs:
            self._shape(planned)  # raises before anything starts
        # The view counts them already.
        ledger.outcome.complete += [p for p in plan.runs if p.state() == "complete"]
        here = Here(deque(p for p in plan.runs if p not in ledger.outcome.complete))
        started: set[PlannedRun] = set()
        with terminable():
            try:
                with view if self.options.cluster == "local" else nullcontext():
                    while here.waiting or here.active or here.left:
                        while here.waiting and len(here.active) < (self.options.max_parallel or 1):
                            planned = here.waiting.popleft()
                            if planned.run.unreadable() is not None:
                                ledger.fail(planned)
                                continue
                            here.left.append(planned)
                            shape = self._shape(planned)
                            handle = self._submit_here(ledger.plan, planned, shape)
                            if handle is not None:
                                here.active[planned] = handle
                        self._end_here(here, ledger)
                        waiting = len(here.waiting)
                        here.take_back(*self._sort(here.left, started, ledger, waiting))
                        here.waiting.extend(
                            ledger.choose([*here.waiting, *here.active, *here.left])
                        )
                        time.sleep(LOOK_SECONDS / 4)
            except KeyboardInterrupt:
                ledger.outcome.interrupted = True
        return ledger

    def _submit_here(self, plan: Plan, planned: PlannedRun, shape: Shape) -> Any:
        """The job's handle, or None if the run is done or somebody else works on it."""
        with plan.store.submitting():
            if planned.state() in ("complete", *BUSY):
                return None
            name = plan.sweep or "simclr_ablate"
            assignment = Assignment(planned)
            intent = plan_intent(self.options, plan.store, name, [self._record(assignment)])
            call = self._job(plan, assignment, shape[0])
            with one_line(intent.folder), deaf_to_ctrl_c():
                handle = make_executor(self.options, intent, shape, {}).submit(call)
                pid = os.getpid() if self.options.cluster == "debug" else int(handle.job_id)
                intent.settle(plan.store, handle.job_id, process(pid))
        return handle

    def _end_here(self, here: Here, ledger: Ledger) -> None:
        """Removes jobs that have ended from `here`; `debug` jobs are carried out in this call."""
        for planned, handle in list(here.active.items()):
            if self.options.cluster == "debug":
                # `done` on this handle would carry out a failed run again.
                with suppress(RunFailedError):
                    handle.results()
            if self.options.cluster == "debug" or handle.done():
                del here.active[planned]
                for task in planned.tasks:
                    task.end_job(handle.job_id, _NO_REASON)
                if planned in here.left and planned.state() not in ("complete", "failed", *BUSY):
                    here.left.remove(planned)  # its failure could not be recorded
                    ledger.fail(planned, _NO_REASON)

    def _sort(
        self,
        runs: Sequence[PlannedRun],
        started: set[PlannedRun],
        ledger: Ledger,
        waiting: int = 0,
    ) -> tuple[list[PlannedRun], list[PlannedRun]]:
        """Notes and shows what has changed; returns the runs that have not ended, and those that were given up."""
        left, running, given_up = [], [], []
        for planned in runs:
            state = planned.state()
            if state == "complete":
                ledger.complete(planned)
            elif state == "failed":
                ledger.fail(planned)
            elif not (state in BUSY or any(task.submission() for task in planned.tasks)):
                given_up.append(planned)
            else:
                left.append(planned)
                if state == "running":
                    running.append(planned)
                    if planned not in started:
                        ledger.view.started(planned)
                        started.add(planned)
        ledger.view.update(running, waiting + len(left) - len(running), 0)
        return left, given_up

    def _shape(self, planned: PlannedRun) -> Shape:
        resources = resources_of(planned.experiment, self.options)
        ranks = ranks_of(planned.experiment, resources.gpus)
        if self.options.cluster == "debug" and ranks > 1:
            raise ConfigError(
                "compute.ranks must be 1 for launcher.cluster=debug, which carries runs out in "
                f"the command's own process, got {ranks}"
            )
        return resources, ranks

    def _record(self, assignment: Assignment) -> dict[str, Any]:
        """What to write into the store for a job: see `Intent`."""
        planned = assignment.planned
        return {
            "run": planned.run_id,
            "config": planned.experiment.to_config(),
            "pretrains": planned.run in assignment.tasks,
            "evaluation": planned.evaluation_key if assignment.evaluates else None,
            "submission": {
                "cluster": self.options.cluster,
                "by": f"{getpass.getuser()}@{socket.gethostname()}",
                "configs": [planned.experiment.to_config()],
                "launcher": asdict(self.options),
                "cache": self.cache,
            },
        }

    def _job(self, plan: Plan, assignment: Assignment, resources: Resources) -> Submitted:
        options, planned = self.options, assignment.planned
        job = Job.of(
            plan,
            planned,
            self.cache,
            resources.cpus,
            device=planned.experiment.compute.device,
            keeps_log=options.cluster != "debug",
            evaluates=assignment.evaluates,
        )
        return Submitted(job, options.cluster, resources.time_minutes, options.signal_seconds)

    @cached_property
    def _largest_array(self) -> int:
        """The most jobs that the cluster takes in one array: its MaxArraySize minus one."""
        command = ["scontrol", "show", "config"]
        try:
            shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return _LARGEST_ARRAY
        match = re.search(r"MaxArraySize\s*=\s*(\d+)", shown.stdout)
        return max(1, int(match[1]) - 1) if match else _LARGEST_ARRAY


def is_seen_to(planned: PlannedRun, state: str) -> bool:
    """Whether somebody works on the evaluation of a run in `state`, or SLURM has a job for it.

    Before pretraining is done, it is also true if pretraining is under way without a SLURM job to wait for.
    """
    if state in ("complete", "failed"):
        return False
    submission = planned.evaluating.submission()
    if submission is not None and submission["cluster"] == "slurm":
        return True
    if planned.evaluating.holder() is not None or planned.run.is_pretrained():
        return planned.evaluating.holder() is not None or planned.evaluating.is_queued()
    return state in BUSY and _after_pretraining(planned.run) is None


def _after_pretraining(run: Run) -> str | None:
    """The dependency of a job that needs the run's encoder, if another command's SLURM job is pretraining it."""
    submission = run.submission()
    if submission is None or submission["cluster"] != "slurm":
        return None
    return f"afterany:{submission['job']}"
