"""The local launcher: forks a process for each task that is ready, from a fork server that has torch loaded.

Importing torch takes seconds; forking a process that has imported it takes milliseconds. Several runs with few threads
each are faster than one run with all threads, because threads that share small tensors wait for each other.
"""

import math
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from simclr_ablate.files import StorageError
from simclr_ablate.launch import worker
from simclr_ablate.launch.cluster.queue import Settler
from simclr_ablate.launch.devices import Accelerators, accelerators
from simclr_ablate.launch.division import Division, fit
from simclr_ablate.launch.outcome import Ledger
from simclr_ablate.launch.progress import ProgressView
from simclr_ablate.launch.ranks import sent
from simclr_ablate.launch.resources import ranks_of
from simclr_ablate.plan.launchers import LocalOptions
from simclr_ablate.plan.plan import Plan, PlannedRun
from simclr_ablate.stopping import held_back, terminable
from simclr_ablate.trackers.followers import Followers

PRELOAD = ["simclr_ablate.tasks.pretrain", "simclr_ablate.tasks.evaluate"]
# On macOS, Metal (MPS) does not work in forked processes.
CONTEXT: ForkServerContext | SpawnContext = (
    SpawnContext() if sys.platform == "darwin" else ForkServerContext()
)
POLL_SECONDS = 0.1
ELSEWHERE_SECONDS = 2.0
STOP_SECONDS = 120.0
STARTS = 2
"""How often a run is started if the fork server is killed each time."""
_SERVER_GONE = 255
"""multiprocessing's exit status for a process if the fork server, which alone knows the real one, is gone."""
_SERVER_GONE_REASON = "the process that starts runs was killed (out of memory?)"


class Started(NamedTuple):
    """A process that carries out a run, and the receiving end of the pipe for its reason if that fails."""

    process: BaseProcess
    receiver: Connection


class LocalLauncher:
    """Carries a plan out on this machine."""

    def __init__(self, options: LocalOptions, cache: str) -> None:
        self.options = options
        self.cache = cache
        self._settle_now_and_then = Settler()
        self._lost: Counter[PlannedRun] = Counter()
        """How often each run lost its fork server."""
        self._shown: set[PlannedRun] = set()
        """The runs that were shown as started."""
        # The server imports these modules before it forks; the command itself never does.
        CONTEXT.set_forkserver_preload(PRELOAD)

    def run(self, plan: Plan, view: ProgressView, deadline: float = math.inf) -> Ledger:
        """Carries out every run of `plan` that is not complete, then the second stage. Continues after failures.

        deadline: when to stop starting runs, as a time of `time.monotonic`.
        """
        ledger = Ledger(plan, view)
        waiting = deque[PlannedRun]()
        for planned in plan.runs:
            is_complete = planned.state() == "complete"
            (ledger.outcome.complete if is_complete else waiting).append(planned)
        active: dict[PlannedRun, Started] = {}
        with Followers(plan.store.root, view.say) as self._followers, terminable():
            try:
                with view:
                    waiting.extend(ledger.choose(waiting))
                    if waiting:
                        found = accelerators()
                        view.say(f"device: {found.describe()}")
                        division = self.division(plan, found)
                        self._follow(waiting, active, ledger, division, deadline)
            except KeyboardInterrupt:
                ledger.outcome.interrupted = True
                self._stop(active, view)
        return ledger

    def division(self, plan: Plan, found: Accelerators) -> Division:
        """How the plan's runs, and the others of a whole that it is a part of, share this machine."""
        everyone = plan.whole or [run for run in plan.runs if run.key not in plan.followed]
        return fit(self.options, everyone, found, len({planned.run_id for planned in everyone}))

    def _follow(
        self,
        waiting: deque[PlannedRun],
        active: dict[PlannedRun, Started],
        ledger: Ledger,
        division: Division,
        deadline: float,
    ) -> None:
        elsewhere: dict[PlannedRun, float] = {}
        while waiting or active or elsewhere:
            if time.monotonic() > deadline and (waiting or elsewhere):
                ledger.outcome.late += [*waiting, *elsewhere]
                waiting.clear()
                elsewhere.clear()
                continue
            self._take_back(elsewhere, waiting, ledger)
            while len(active) < division.parallel and (ready := _next(waiting, active, division)):
                planned, devices = ready
                state = planned.state()
                if state in ("complete", "queued"):
                    division.give_back(planned)
                if state == "complete":  # another command did it meanwhile
                    ledger.complete(planned)
                    continue
                if state == "queued":
                    elsewhere[planned] = time.monotonic()
                    ledger.view.held(planned)
                    continue
                with held_back():  # otherwise a signal could leave a process that nobody stops
                    status = self._start(ledger.plan, planned, division, devices, active)
                if status is not None:
                    division.give_back(planned)
                if status is not None:
                    self._ended(planned, status, None, waiting, elsewhere, ledger)
                elif planned not in self._shown:
                    self._shown.add(planned)
                    ledger.view.started(planned)
            for planned, (process, receiver) in list(active.items()):
                if process.exitcode is None:
                    continue
                del active[planned]
                self._followers.ended(planned.run.run_id, planned.experiment.tracker)
                division.give_back(planned)
                reason = sent(receiver)
                self._ended(planned, process.exitcode, reason, waiting, elsewhere, ledger)
            late = ledger.outcome.late  # whose results may come with another command
            waiting.extend(ledger.choose([*waiting, *active, *elsewhere, *late]))
            ledger.view.update(list(active), len(waiting), len(elsewhere))
            time.sleep(POLL_SECONDS)

    def _start(
        self,
        plan: Plan,
        planned: PlannedRun,
        division: Division,
        devices: list[str],
        active: dict[PlannedRun, Started],
    ) -> int | None:
        """Adds the run's process to `active`; returns _SERVER_GONE if the fork server died meanwhile.

        Call it while stop signals are held back. The fork server inherits that, so signals to the whole process group,
        such as at the end of a terminal, only reach its children.
        """
        # If others wait for the same encoder, this process only pretrains; then each evaluation gets its own.
        alone = planned.run.is_pretrained() or not _shares_run(planned, plan)
        usual = division.threads if alone else division.pretraining_threads
        others = [other for other in plan.runs if other.run_id == planned.run_id]
        job = worker.Job.of(
            plan,
            planned,
            self.cache,
            _threads_of(planned) or usual,
            device=devices[0],
            devices=tuple(devices),
            evaluates=alone,
            evaluations=tuple((o.evaluation_key, o.experiment.to_config()) for o in others),
            evaluation_threads=division.threads,
        )
        try:
            with held_back():
                # Otherwise the fork server would start it, without holding signals back.
                resource_tracker.ensure_running()
            receiver, sender = CONTEXT.Pipe(duplex=False)
        except OSError:  # too many processes or files
            return _SERVER_GONE
        process = CONTEXT.Process(target=worker.work, args=(job, sender), daemon=False)
        with sender, held_back():
            try:
                process.start()
            except (OSError, EOFError):
                receiver.close()
                return _SERVER_GONE
        active[planned] = Started(process, receiver)
        self._followers.begin(planned.run.run_id, planned.experiment.tracker)
        return None

    def _ended(
        self,
        planned: PlannedRun,
        status: int,
        reason: str | None,
        waiting: deque[PlannedRun],
        elsewhere: dict[PlannedRun, float],
        ledger: Ledger,
    ) -> None:
        """Notes how a process ended and decides what happens to its run. reason: the one it sent, if any."""
        if status == worker.Status.COMPLETE:
            if planned.run.is_evaluated(planned.evaluation_key):
                ledger.complete(planned)
            else:
                waiting.appendleft(planned)  # its encoder is there now
        elif status in (worker.Status.HELD, worker.Status.TAKEN):
            elsewhere[planned] = time.monotonic()
            ledger.view.held(planned)
        elif status == _SERVER_GONE and self._may_start_again(planned):
            # The old process ends by itself, and holds the run until then.
            waiting.append(planned)
            ledger.view.say(f"retrying  {planned.label}  {_SERVER_GONE_REASON}")
        elif status != _SERVER_GONE and _is_continued(planned):
            elsewhere[planned] = time.monotonic()
        else:
            ledger.fail(planned, _why(status, reason))

    def _may_start_again(self, planned: PlannedRun) -> bool:
        self._lost[planned] += 1
        return self._lost[planned] < STARTS

    def _take_back(
        self,
        elsewhere: dict[PlannedRun, float],
        waiting: deque[PlannedRun],
        ledger: Ledger,
    ) -> None:
        """Checks runs that another command or a cluster works on: notes those that ended, takes over abandoned ones."""
        if elsewhere:
            self._settle_now_and_then(task for planned in elsewhere for task in planned.tasks)
        for planned, looked in list(elsewhere.items()):
            if time.monotonic() - looked < ELSEWHERE_SECONDS:
                continue
            elsewhere[planned] = time.monotonic()
            state = planned.state()
            if state == "complete":
                del elsewhere[planned]
                ledger.complete(planned)
            elif state == "failed":
                del elsewhere[planned]
                ledger.fail(planned)
            elif state not in ("running", "queued"):
                del elsewhere[planned]
                waiting.append(planned)

    def _stop(self, active: dict[PlannedRun, Started], view: ProgressView) -> None:
        """Asks the running processes to checkpoint and end, and waits for them."""
        processes = [started.process for started in active.values()]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        try:
            with suppress(OSError):  # a terminal that is gone
                view.stopping(len(processes))
            for process in processes:
                process.join(max(0.0, deadline - time.monotonic()))
        except KeyboardInterrupt:
            view.say("stopped at once; runs will resume from their last periodic checkpoint")
        for process in processes:
            if process.exitcode is None:
                process.kill()


def _why(status: int, reason: str | None) -> str:
    """Why a process failed. reason: the one it sent, if any."""
    if status < 0:
        return worker.killed(-status)
    if status == _SERVER_GONE:
        return _SERVER_GONE_REASON
    # Without a reason, the process ended before or outside the code that records failures.
    return reason or f"its process ended with status {status} and gave no reason"


def _is_continued(planned: PlannedRun) -> bool:
    """Whether another process has completed the run or works on it, now that this one's process has ended."""
    if planned.state() == "complete":
        return True
    # Ranks may briefly outlive the process that leads them.
    with suppress(StorageError):
        return ranks_of(planned.experiment) == 1 and planned.task.is_held()
    return False


def _next(
    waiting: deque[PlannedRun], active: Mapping[PlannedRun, object], division: Division
) -> tuple[PlannedRun, list[str]] | None:
    """Takes the first run that is ready, and its devices.

    A run is ready if its encoder exists, or no run in `active` is pretraining it, and if its devices are free.
    """
    busy = {planned.run_id for planned in active}

    def is_ready(planned: PlannedRun) -> bool:
        return planned.run_id not in busy or planned.run.is_pretrained()

    for planned in filter(is_ready, waiting):
        devices = division.take(planned)
        if devices is not None:
            waiting.remove(planned)
            return planned, devices
    return None


def _threads_of(planned: PlannedRun) -> int | None:
    """With how many threads its task was begun, or was to be; None if it is new.

    A command that divides the machine otherwise, as `status retry` may, comes to the same bits.
    """
    if planned.run.is_pretrained():
        return planned.evaluating.threads()
    begun = planned.run.attempts()
    return begun[0]["threads"] if begun else None


def _shares_run(planned: PlannedRun, plan: Plan) -> bool:
    """Whether the plan has other experiments that evaluate the same encoder."""
    return sum(other.run_id == planned.run_id for other in plan.runs) > 1
