"""The SLURM launcher: runs as jobs of a cluster, through submitit. Submit and walk away.

hydra-submitit-launcher composes each config again on the node, where an edit made meanwhile leaks in, and reports a
failed run as completed. Here a job is the frozen config, and fails where its run does.
"""

import getpass
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import submitit

from simclr_ablate.config import ConfigError
from simclr_ablate.launch.outcome import Outcome
from simclr_ablate.launch.plan import Plan, PlannedRun
from simclr_ablate.launch.progress import ProgressView
from simclr_ablate.launch.queue import Settler, settle
from simclr_ablate.launch.resources import ranks_of, resources_of
from simclr_ablate.launch.settings import Resources, SlurmSettings
from simclr_ablate.launch.submitted import RunFailedError, Submitted
from simclr_ablate.store import BUSY, Store

LOOK_SECONDS = 0.5
"""How often the store is looked at while following, at most."""
LOOK_SECONDS_EACH = 0.005
_ARRAY_SIZE = 1001
"""SLURM's own MaxArraySize, where it does not say."""
_ENDLESS = 10**6
"""Time-outs that submitit lets pass: our own rule is in `submitted.py`."""

Shape = tuple[Resources, int]
"""What an array's runs are given, and their ranks."""
Group = list[PlannedRun]
"""What one job carries out: a run, and all ways in which it is to be evaluated."""


@dataclass
class Submission:
    """What one command handed to the cluster."""

    jobs: dict[PlannedRun, str] = field(default_factory=dict)
    elsewhere: list[PlannedRun] = field(default_factory=list)
    """Queued or running already: this command has nothing to do with them."""
    complete: list[PlannedRun] = field(default_factory=list)

    def summary(self) -> str:
        """One line for a person."""
        ids = sorted({job.partition("_")[0] for job in self.jobs.values()}, key=int)
        parts = [f"submitted {len(self.jobs)} experiments"]
        if ids:
            kind = "job" if len(ids) == 1 else "jobs"
            parts[0] += f" as {kind} {', '.join(ids)}"
        if self.elsewhere:
            parts.append(f"{len(self.elsewhere)} are queued or running already")
        return "; ".join(parts)


class SlurmLauncher:
    """Submits a plan's runs; follows them where it is asked to."""

    def __init__(self, settings: SlurmSettings, cache: str) -> None:
        self.settings = settings
        self.cache = cache

    def submit(self, plan: Plan) -> Submission:
        """Submits every run that is neither done, queued nor running, as one array for each shape of resources.

        To be called inside `Store.submitting`. Raises ConfigError where resources make no sense, and with the cluster's
        own words where it refuses. What was submitted before a refusal stays so.
        """
        shapes = {planned: self._shape(planned) for planned in plan.runs}
        submission = Submission()
        arrays: dict[Shape, list[Group]] = {}
        for group in self._to_submit(plan, submission):
            arrays.setdefault(shapes[group[0]], []).append(group)
        largest = self._array_size() - 1
        for shape, groups in arrays.items():
            for first in range(0, len(groups), largest):
                self._submit_part(plan, shape, groups[first : first + largest], submission)
        return submission

    def _to_submit(self, plan: Plan, submission: Submission) -> list[Group]:
        """What nobody sees to yet, a group for each run; notes the rest in `submission`."""
        settle([planned.run for planned in plan.runs])
        groups: dict[str, Group] = {}
        for planned in plan.runs:
            state = planned.state()
            if state == "complete":
                submission.complete.append(planned)
            elif is_seen_to(planned, state):
                submission.elsewhere.append(planned)
            else:
                groups.setdefault(planned.run_id, []).append(planned)
        return list(groups.values())

    def _submit_part(
        self, plan: Plan, shape: Shape, groups: Sequence[Group], submission: Submission
    ) -> None:
        try:
            handles = self._submit(plan, shape, groups)
        except ConfigError as error:
            if submission.jobs:
                raise ConfigError(f"{error} (before: {submission.summary()})") from error
            raise
        for group, handle in zip(groups, handles, strict=True):
            submission.jobs.update(dict.fromkeys(group, handle.job_id))

    def follow(self, submission: Submission, view: ProgressView) -> Outcome:
        """Shows how the runs go until all have ended. Ctrl-C ends the showing, not the runs."""
        outcome = Outcome(complete=list(submission.complete))
        left = [*submission.jobs, *submission.elsewhere]
        started: set[PlannedRun] = set()
        settle_now_and_then = Settler()
        try:
            with view:
                while left:
                    settle_now_and_then(planned.run for planned in left)
                    left = self._sort(left, started, outcome, view)
                    # A thousand runs are some thousand files to look at.
                    time.sleep(max(LOOK_SECONDS, len(left) * LOOK_SECONDS_EACH))
        except KeyboardInterrupt:
            outcome.interrupted = True
        return outcome

    def carry_out_here(self, plan: Plan, view: ProgressView) -> Outcome:
        """submitit's clusters `local` and `debug`: the way of jobs, on this machine, some at a time."""
        outcome = Outcome()
        shapes = {planned: self._shape(planned) for planned in plan.runs}
        waiting = deque(plan.runs)
        active: dict[PlannedRun, Any] = {}
        left: list[PlannedRun] = []
        started: set[PlannedRun] = set()
        try:
            with view if self.settings.cluster == "local" else nullcontext():
                while waiting or active or left:
                    while waiting and len(active) < (self.settings.max_parallel or 1):
                        planned = waiting.popleft()
                        left.append(planned)
                        handle = self._submit_here(plan, planned, shapes[planned])
                        if handle is not None:
                            active[planned] = handle
                    self._end_here(active)
                    left = self._sort(left, started, outcome, view, len(waiting))
                    time.sleep(LOOK_SECONDS / 4)
        except KeyboardInterrupt:
            outcome.interrupted = True
        return outcome

    def _submit_here(self, plan: Plan, planned: PlannedRun, shape: Shape) -> Any:
        """The job's handle, or None where the run is somebody else's, or done."""
        with plan.store.submitting():
            if planned.state() in ("complete", *BUSY):
                return None
            (handle,) = self._submit(plan, shape, [[planned]])
        return handle

    def _end_here(self, active: dict[PlannedRun, Any]) -> None:
        """Lets go of what has ended; `debug` jobs are carried out in here."""
        for planned, handle in list(active.items()):
            if self.settings.cluster == "debug":
                # Its handle would carry a failed run out again, asked whether it is done.
                with suppress(RunFailedError):
                    handle.results()
            if self.settings.cluster == "debug" or handle.done():
                del active[planned]
                planned.run.end_job(handle.job_id, "its process ended and left no reason")

    def _sort(
        self,
        runs: Sequence[PlannedRun],
        started: set[PlannedRun],
        outcome: Outcome,
        view: ProgressView,
        waiting: int = 0,
    ) -> list[PlannedRun]:
        """Notes and shows what has changed; returns the runs that have not ended."""
        left, running = [], []
        for planned in runs:
            state = planned.state()
            if state == "complete":
                outcome.complete.append(planned)
                view.completed(planned)
            elif state == "failed" or not (state in BUSY or planned.run.submission()):
                # The latter: somebody else's, who has given it up.
                outcome.failed.append(planned)
                view.failed(planned)
            else:
                left.append(planned)
                if state == "running":
                    running.append(planned)
                    if planned not in started:
                        view.started(planned)
                        started.add(planned)
        view.update(running, waiting + len(left) - len(running), 0)
        return left

    def _shape(self, planned: PlannedRun) -> Shape:
        resources = resources_of(planned.experiment, self.settings)
        ranks = ranks_of(planned.experiment, resources.gpus)
        if self.settings.cluster == "debug" and ranks > 1:
            raise ConfigError(
                "compute.ranks must be 1 for launcher.cluster=debug, which carries runs out in "
                f"the command's own process, got {ranks}"
            )
        return resources, ranks

    def _submit(self, plan: Plan, shape: Shape, groups: Sequence[Group]) -> list[Any]:
        """Submits one array, a job for each group, and records them; returns submitit's handles. Raises ConfigError."""
        resources, _ = shape
        calls = [self._job(plan, group, resources) for group in groups]
        with deaf_to_ctrl_c():  # lest jobs are submitted that no record tells of
            handles = self.hand_in(plan.store, plan.sweep or "simclr_ablate", shape, calls)
            for group, handle in zip(groups, handles, strict=True):
                self._record(group, handle)
        return handles

    def hand_in(
        self,
        store: Store,
        name: str,
        shape: Shape,
        calls: Sequence[Callable[[], None]],
        **options: str,
    ) -> list[Any]:
        """One array, or one job, of these calls; returns submitit's handles. Raises ConfigError.

        options: of sbatch's, besides the settings'.
        """
        folder = store.root.resolve() / ".jobs" / f"{name}-{uuid.uuid4().hex}"
        executor = submitit.AutoExecutor(
            folder, cluster=self.settings.cluster, slurm_max_num_timeout=_ENDLESS
        )
        logs, of_tasks = literal_logs(str(folder), len(calls))
        parameters = self._parameters(name, shape, {**logs, **options})
        parameters["slurm_srun_args"] += of_tasks
        executor.update_parameters(**parameters)
        try:
            with executor.batch():
                return [executor.submit(call) for call in calls]
        except submitit.core.utils.FailedJobError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise ConfigError(_refusal(error)) from error

    def _record(self, group: Group, handle: Any) -> None:
        run = group[0].run
        run.create(group[0].experiment.to_config())
        run.write_submission(
            {
                "job": handle.job_id,
                "output": str(handle.paths.stderr),
                "cluster": self.settings.cluster,
                "by": f"{getpass.getuser()}@{socket.gethostname()}",
                "evaluations": [planned.evaluation_key for planned in group],
                "configs": [planned.experiment.to_config() for planned in group],
                "launcher": asdict(self.settings),
                "cache": self.cache,
            }
        )
        run.clear_failure()
        run.forget_timeouts()

    def _job(self, plan: Plan, group: Group, resources: Resources) -> Submitted:
        settings = self.settings
        jobs = [
            plan.job(
                planned,
                self.cache,
                resources.cpus,
                device=planned.experiment.compute.device,
                keeps_log=settings.cluster != "debug",
            )
            for planned in group
        ]
        return Submitted(
            tuple(jobs), settings.cluster, resources.time_minutes, settings.signal_seconds
        )

    def _parameters(self, name: str, shape: Shape, more: Mapping[str, str]) -> dict[str, Any]:
        """submitit's names for what one array gets. more: options of sbatch."""
        resources, ranks = shape
        settings = self.settings
        options = {"requeue": True, **settings.sbatch, **more}
        options = {name: value for name, value in options.items() if value is not False}
        parameters: dict[str, Any] = {
            "name": name,
            "timeout_min": resources.time_minutes,
            "nodes": resources.nodes,
            "tasks_per_node": ranks // resources.nodes,
            "cpus_per_task": resources.cpus,
            "gpus_per_node": resources.gpus // resources.nodes or None,
            "mem_gb": resources.memory_gb,
            "slurm_partition": settings.partition,
            "slurm_account": settings.account,
            "slurm_qos": settings.qos,
            "slurm_constraint": settings.constraint,
            "slurm_signal_delay_s": settings.signal_seconds,
            "slurm_array_parallelism": settings.max_parallel or _ENDLESS,
            "slurm_setup": list(settings.setup) or None,
            # One task that dies takes the others with it.
            "slurm_srun_args": ["--kill-on-bad-exit=1"],
            "slurm_additional_parameters": options,
        }
        return {name: value for name, value in parameters.items() if value is not None}

    def _array_size(self) -> int:
        """The cluster's MaxArraySize, one more than the largest array."""
        if self.settings.cluster != "slurm":
            return _ARRAY_SIZE
        command = ["scontrol", "show", "config"]
        try:
            shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return _ARRAY_SIZE
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", shown.stdout)
        return max(2, int(found.group(1))) if found else _ARRAY_SIZE


def is_seen_to(planned: PlannedRun, state: str) -> bool:
    """Whether somebody works on a run in `state`, or SLURM has a job for it, which may be between two evaluations."""
    if state in (*BUSY, "complete", "failed"):
        return state in BUSY
    submission = planned.run.submission()
    return submission is not None and submission["cluster"] == "slurm"


def literal_logs(folder: str, jobs: int) -> tuple[dict[str, str], list[str]]:
    """Options of sbatch, and srun's, for a folder with `%` in its name, which both would read as a pattern.

    jobs: how many are submitted at once. Nothing for other folders, whose logs submitit names. Raises ConfigError for
    a folder with a pattern of submitit's own.
    """
    if "%" not in folder:
        return {}, []
    own = [pattern for pattern in ("%j", "%t", "%A", "%a") if pattern in folder]
    if own:
        raise ConfigError(f"store must not hold {own[0]} with launcher=slurm, got {folder!r}")
    place = folder.replace("%", "%%") + ("/%j" if jobs == 1 else "/%A_%a")
    of_tasks = [f"--{name}={place}_%t_log.{end}" for name, end in _LOGS.items()]
    return {name: f"{place}_0_log.{end}" for name, end in _LOGS.items()}, of_tasks


_LOGS = {"output": "out", "error": "err"}
"""Options, and how submitit ends the names of the files."""


def _refusal(error: Exception) -> str:
    """sbatch's own words."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line.startswith("sbatch:")]
    return "; ".join(said or lines) or "sbatch failed and said nothing"


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """What is started inside does not hear Ctrl-C, which is for the command that shows it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
