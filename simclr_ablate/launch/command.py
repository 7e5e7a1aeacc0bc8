"""One command, from its experiments to its exit status: plan, launch and summarise."""

import dataclasses
import json
import math
import shlex
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from simclr_ablate import manner
from simclr_ablate.artefact import Definition
from simclr_ablate.commands import PROGRAM
from simclr_ablate.config import ConfigError, build, flatten, keys
from simclr_ablate.exit_status import ExitStatus
from simclr_ablate.identity import varying_keys
from simclr_ablate.launch.cluster.queue import Settler, describe_choice, require_slurm
from simclr_ablate.launch.devices import check_devices
from simclr_ablate.launch.outcome import Ledger, Outcome
from simclr_ablate.launch.torchrun import TorchrunRank, carry_out_here
from simclr_ablate.looks import LOOKS
from simclr_ablate.paths import absolute, default_cache
from simclr_ablate.plan.artefacts import Defined
from simclr_ablate.plan.hours import hours_of
from simclr_ablate.plan.keys import CommandKeys, check_top_level
from simclr_ablate.plan.launchers import (
    LauncherOptions,
    LocalOptions,
    SlurmOptions,
    read_launcher,
)
from simclr_ablate.plan.plan import Plan, plan_all
from simclr_ablate.schema import METRIC_NAMES, Experiment
from simclr_ablate.store import ChoiceFolder, Store
from simclr_ablate.tasks.choose import Choose
from simclr_ablate.terminal import complain, make_console, make_message_console, sayer, tell
from simclr_ablate.trackers.registry import check_trackers

if TYPE_CHECKING:
    from simclr_ablate.launch.cluster.slurm import SlurmLauncher
    from simclr_ablate.launch.jobs import Jobs
    from simclr_ablate.launch.progress import ProgressView


NEEDS_A_SWEEP = (
    "until=decided needs a sweep of ours, since the paper's findings rest on sweeps: give -m sweep=NAME, "
    "with our own sweeper"
)
CHOICE_SECONDS = 5.0
"""How often to check whether a choice has been made."""


@dataclass(frozen=True)
class Until:
    """How far `until=decided` goes. budget_hours: None: no limit."""

    budget_hours: float | None
    max_seeds: int


@dataclass(frozen=True)
class Command:
    """What the command line says apart from the experiments.

    sweep: the sweep's name, if there is one. artefact: the name of the artefact that shows it, if it says so. defined:
    the artefacts that sweeps define, by the sweep's name. asked: the sweep as it is written on the command line, such
    as a file. overrides: the command line's overrides that concern experiments. until: given by `until=decided`.
    """

    store: Store
    cache: str
    dry_run: bool
    launcher: LauncherOptions
    sweep: str | None = None
    artefact: str | None = None
    defined: Mapping[str, Defined] = field(default_factory=dict)
    objective_metric: str = "validation_top1"
    asked: str | None = None
    overrides: tuple[str, ...] = ()
    until: Until | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Reads the keys of the command. Raises ConfigError."""
        check_top_level(config)
        if manner.is_json() and not config.get("dry_run"):
            raise ConfigError("--json needs dry_run=true, whose plan it prints")
        names = [info.name for info in keys(CommandKeys)]
        given = build(CommandKeys, {name: config[name] for name in names if name in config})
        return cls(
            store=Store(given.store),
            cache=default_cache() if given.cache is None else absolute(given.cache, "cache"),
            dry_run=given.dry_run,
            launcher=read_launcher(config.get("launcher") or {}),
            objective_metric=given.objective_metric,
            until=_until(given),
        )


def _until(given: CommandKeys) -> Until | None:
    if given.until is not None:
        return Until(given.budget_hours, given.max_seeds)
    for name, value, usual in (
        ("budget_hours", given.budget_hours, None),
        ("max_seeds", given.max_seeds, LOOKS[-1]),
    ):
        if value != usual:
            raise ConfigError(f"{name} has no effect without until=decided, got {name}={value:g}")
    return None


class Ended(NamedTuple):
    """How a command ended: its exit status, and its first plan."""

    status: int
    plan: Plan


def execute(
    command: Command,
    experiments: Iterable[Experiment],
    sweeps: Mapping[Experiment, Sequence[str]] = MappingProxyType({}),
    chooses: Sequence[Choose] = (),
    jobs: "Jobs | None" = None,
    deadline: float = math.inf,
) -> Ended:
    """Plans and carries out the experiments. Raises ConfigError, always before the first one starts.

    sweeps: the sweeps that each experiment belongs to. chooses: one for each sweep with `select`; their candidates are
    among the experiments. jobs: notified when each run starts and ends. deadline: see `launch`.
    """
    torchrun = TorchrunRank.from_environment()
    silent = torchrun is not None and torchrun.rank > 0  # the first rank speaks for all
    console = make_message_console(silent)
    plan = checked_plan(command, experiments, sweeps, chooses, torchrun)
    artefacts = _definitions(command, plan)
    # The result of a dry run is its plan.
    is_text = command.dry_run and not manner.is_json()
    say = sayer(make_console(silent) if is_text else console)
    say(f"{command.sweep or ', '.join(_sweeps(plan)) or 'run'}: {plan.summary()}")
    for line in plan.outlook():
        say(line)
    for line in plan.passed_over() if not silent else ():
        complain(line)
    if command.dry_run:
        left = sum(state != "complete" for state in plan.states())
        say(hours_of(plan).describe(max(1, min(side_by_side(command, plan), left))))
        _print_plan(plan, make_console(silent))
        return Ended(_status(plan), plan)
    if isinstance(command.launcher, SlurmOptions) and command.launcher.cluster == "slurm":
        require_slurm()
    command.store.prepare()
    if not silent:
        for restored in plan.restore_pretraining():
            say(f"{restored}: pretraining.json was rebuilt from encoder.pt")
    until = "decided" if command.until else ""
    plan = plan.recorded(command.overrides, command.asked, until, artefacts)
    if torchrun is None:
        return Ended(launch(command, plan, console, jobs, deadline), plan)
    return Ended(_be_rank(command, plan, torchrun, console), plan)


def checked_plan(
    command: Command,
    experiments: Iterable[Experiment],
    sweeps: Mapping[Experiment, Sequence[str]],
    chooses: Sequence[Choose],
    torchrun: TorchrunRank | None = None,
) -> Plan:
    """The plan of the experiments, checked against this machine too. Raises ConfigError."""
    plan = plan_all(command.sweep, command.store, experiments, sweeps, chooses, command.cache)
    if torchrun is not None and (chooses or command.until):
        what = "a sweep with select" if chooses else "until=decided"
        raise ConfigError(
            f"torchrun carries out one run, got {what}: give the command without torchrun"
        )
    later = [one for choose in plan.pending for one in choose.experiments()]
    every = [*(planned.experiment for planned in plan.runs), *later]
    for experiment in every:
        check_devices(experiment, command.launcher, shared=torchrun is not None)
    is_here = getattr(command.launcher, "python", None) is None
    for tracking in dict.fromkeys(experiment.tracker for experiment in every):
        check_trackers(tracking, is_here)
    return plan


def _definitions(command: Command, plan: Plan) -> dict[str, Definition]:
    """The artefacts that the sweeps of the plan define, by the sweep's name. Raises ConfigError."""
    return {
        name: defined.checked(
            [planned.experiment for planned in plan.runs if name in planned.sweeps],
            lacking=bool(plan.missing),
        )
        for name, defined in command.defined.items()
    }


def side_by_side(command: Command, plan: Plan) -> int:
    """How many runs this machine carries out at once; 1 on a cluster, where nobody knows."""
    if not plan.runs or not isinstance(command.launcher, LocalOptions):
        return 1
    from simclr_ablate.launch.devices import accelerators
    from simclr_ablate.launch.local import LocalLauncher

    return LocalLauncher(command.launcher, command.cache).division(plan, accelerators()).parallel


def returns_at_once(command: Command) -> bool:
    """Whether the command submits its runs to a cluster and ends before they do."""
    launcher = command.launcher
    if not isinstance(launcher, SlurmOptions):
        return False
    return launcher.cluster == "slurm" and not launcher.follow


def _sweeps(plan: Plan) -> list[str]:
    """The names of the sweeps that the plan's runs belong to."""
    return list(dict.fromkeys(name for planned in plan.runs for name in planned.sweeps))


def _be_rank(command: Command, plan: Plan, torchrun: TorchrunRank, console: Any) -> int:
    from simclr_ablate.launch import worker

    status = carry_out_here(plan, command.cache, torchrun)
    outcome = Outcome(interrupted=status == worker.Status.INTERRUPTED)
    held = status in (worker.Status.HELD, worker.Status.TAKEN)
    if held and torchrun.rank == 0:
        complain(f"another command is running {plan.runs[0].run_id}")
    elif not outcome.interrupted:
        (outcome.complete if status == worker.Status.COMPLETE else outcome.failed).extend(plan.runs)
    if torchrun.rank > 0:
        return status  # the first rank reports for all
    return ExitStatus.SOME_FAILED if held else _report(command, plan, outcome, sayer(console))


def launch(
    command: Command,
    plan: Plan,
    console: Any,
    jobs: "Jobs | None" = None,
    deadline: float = math.inf,
) -> int:
    """Carries out the plan and its second stage with the command's launcher. jobs: see `execute`.

    deadline: when the local launcher stops starting runs, as a time of `time.monotonic`.

    Returns the command's exit status. Raises ConfigError.
    """
    say = sayer(console)
    # A pending choice still has to be made, even if its candidates were completed elsewhere meanwhile.
    if not plan.pending and all(state == "complete" for state in plan.states()):
        plan.note_choices()
        return _report(command, plan, Outcome(complete=list(plan.runs)), say)
    if isinstance(command.launcher, SlurmOptions) and command.launcher.cluster == "slurm":
        return _submit(command, command.launcher, plan, console, jobs)
    carry_out = _launcher_here(command, deadline)
    plan.note_choices()
    ledger = carry_out(plan, _view(console, plan, jobs))
    return _report(command, ledger.plan, ledger.outcome, say)


def _launcher_here(command: Command, deadline: float) -> Callable[[Plan, "ProgressView"], Ledger]:
    """The function that carries out a plan while the command waits."""
    if isinstance(command.launcher, SlurmOptions):
        from simclr_ablate.launch.cluster.slurm import SlurmLauncher

        return SlurmLauncher(command.launcher, command.cache).carry_out_here
    from simclr_ablate.launch.local import LocalLauncher

    return partial(LocalLauncher(command.launcher, command.cache).run, deadline=deadline)


def _view(console: Any, plan: Plan, jobs: "Jobs | None") -> "ProgressView":
    from simclr_ablate.launch.progress import ProgressView

    shown = console, len(plan.runs), plan.states().count("complete")
    if jobs is None:
        return ProgressView(*shown)
    from simclr_ablate.launch.jobs import TellingView

    return TellingView(jobs, *shown)


def _following(plan: Plan, say: Callable[[str], None]) -> Plan:
    """Makes the pending choices now and prints them; returns the second stage."""
    following = dataclasses.replace(plan, runs=(), pending=(), decided=())
    for choose in plan.pending:
        following = following.and_then(plan.and_then(following).choose(choose))
    for line in following.second_stage():
        say(line)
    return following


def _submit(
    command: Command,
    options: SlurmOptions,
    plan: Plan,
    console: Any,
    jobs: "Jobs | None",
) -> int:
    from simclr_ablate.launch.cluster.choose_job import arrange
    from simclr_ablate.launch.cluster.slurm import SlurmLauncher

    say, launcher = sayer(console), SlurmLauncher(options, command.cache)
    with command.store.submitting():
        submission = launcher.submit(plan)
        plan.note_choices()
    tell(submission.summary())
    for choose in plan.pending:
        folder = arrange(launcher, command.store, plan.records_of(choose), choose)
        job = (folder.last_submission() or {}).get("job")
        tell(f"{choose.sweep}: job {job} submits its second stage once the first has ended")
    sweep = [f"sweep={command.sweep}"] if command.sweep else []
    watch = shlex.join([PROGRAM, "status", *sweep, *_where(command.store), "--follow"])
    if not options.follow:
        say(f"watch them: {watch}")
        return ExitStatus.SOME_FAILED if submission.closed else _status(plan)
    outcome = launcher.follow(plan, submission, _view(console, plan, jobs))
    if plan.pending and not outcome.interrupted:
        plan, outcome = _follow_choices(command, launcher, console, plan, outcome, jobs)
    if outcome.interrupted:
        say(f"\nthe jobs continue without this command; to watch them again:\n  {watch}")
        return ExitStatus.STOPPED
    return _report(command, plan, outcome, say)


def _follow_choices(
    command: Command,
    launcher: "SlurmLauncher",
    console: Any,
    plan: Plan,
    outcome: Outcome,
    jobs: "Jobs | None",
) -> tuple[Plan, Outcome]:
    """Follows the second stage too; returns the whole plan and its outcome."""
    say = sayer(console)
    folders = {choose: command.store.choice(choose.name) for choose in plan.pending}
    if not _wait(list(folders.values())):
        return plan, outcome.and_then(Outcome(interrupted=True))
    left = []
    for choose, folder in folders.items():
        failure = folder.failure()
        if failure is not None and "cancelled" in (folder.last_submission() or {}):
            complain(describe_choice(folder))
            outcome = outcome.and_then(Outcome(called_off=True))
            continue
        left.append(choose)
        if failure is not None:
            say(f"{describe_choice(folder)}; this command submits it")
    if not left:
        return plan, outcome
    following = _following(dataclasses.replace(plan, pending=tuple(left)), say)
    # If the choosing jobs did their work, nothing is left to submit.
    with command.store.submitting():
        submission = launcher.submit(following)
        following.note_choices()
    later = launcher.follow(following, submission, _view(console, following, jobs))
    return plan.and_then(following), outcome.and_then(later)


def _wait(folders: Sequence[ChoiceFolder]) -> bool:
    """Waits until no job is left to make these choices; returns False at Ctrl-C."""
    settle_now_and_then = Settler()
    try:
        while True:
            settle_now_and_then(folders)
            if not any(folder.is_queued() for folder in folders):
                return True
            time.sleep(CHOICE_SECONDS)
    except KeyboardInterrupt:
        return False


def _report(command: Command, plan: Plan, outcome: Outcome, say: Callable[[str], None]) -> int:
    """Prints how the plan ended; returns the exit status. say: prints what is no result."""
    for planned in outcome.failed:
        reason = outcome.reason_of(planned)
        complain(f"\nFAILED {planned.run_id}: {reason}\n  log: {planned.task.log_path}")
    for line in plan.passed_over():
        complain(f"\n{line}")
    if outcome.called_off and not outcome.failed and not outcome.interrupted:
        tell("a second stage was cancelled")
        say(f"to resume it, run the same command again:\n  {_again()}")
        return ExitStatus.SOME_FAILED
    done = len(outcome.complete)
    if outcome.failed or outcome.interrupted:
        tell(f"{done} done, {len(plan.runs) - done} not")
        what = "retry what failed" if outcome.failed else "resume"
        say(f"to {what}, run the same command again:\n  {_again()}")
        return ExitStatus.STOPPED if outcome.interrupted else ExitStatus.SOME_FAILED
    if outcome.late:
        tell(f"the time is up: {done} done, {len(outcome.late)} not started")
        say(f"to go on, run the same command again:\n  {_again()}")
        return _status(plan)
    if len(plan.runs) == 1:
        _print_result(plan)
    else:
        every = "" if plan.missing else "all "
        tell(f"{every}{len(plan.runs)} experiments are in {plan.store.root}/")
        if command.artefact:
            see = [PROGRAM, "analyse", command.artefact, *_where(plan.store)]
            say(f"see them: {shlex.join(see)}")
    return _status(plan)


def _again() -> str:
    """The command line that goes on where this one stopped."""
    quiet = ["--quiet"] if manner.is_quiet() else []
    return shlex.join([PROGRAM, *quiet, *sys.argv[1:]])


def _where(store: Store) -> list[str]:
    """The word that names a store, unless it is the one that commands take without it."""
    return [] if str(store.root) == "runs" else [f"store={store.root}"]


def _status(plan: Plan) -> ExitStatus:
    """The status of a command that did all of the plan."""
    return ExitStatus.SOME_FAILED if plan.missing else ExitStatus.OK


def _print_result(plan: Plan) -> None:
    (planned,) = plan.runs
    evaluation = planned.run.evaluation(planned.evaluation_key)
    assert evaluation is not None  # the run is complete
    metrics = defaultdict(lambda: math.nan, evaluation["metrics"])
    spec = planned.experiment.evaluation
    tell(f"run      {planned.run_id}")
    tell(f"folder   {planned.run.path}")
    if spec.protocol == "probe":
        accuracy, guess = metrics["probe_accuracy"], metrics["probe_guess"]
        tell(f"probe    {accuracy:.2f} % (guessing: {guess:.2f} %)")
    elif spec.protocol == "linear":
        shown = dict.fromkeys((planned.experiment.evaluated_data.metric, "top1", "top5"))
        accuracies = [f"{METRIC_NAMES[k]} {metrics[k]:.2f} %" for k in shown if k in metrics]
        tell(f"linear   {', '.join(accuracies)}")
        (knn,) = [name for name in metrics if name.startswith("knn_")]
        tell(f"kNN      {METRIC_NAMES[knn.removeprefix('knn_')]} {metrics[knn]:.2f} %")
    else:
        values = ", ".join(f"{name} {value:.4g}" for name, value in evaluation["metrics"].items())
        tell(f"{spec.protocol}: {values}")


def _print_plan(plan: Plan, console: Any) -> None:
    """Prints the plan's runs as a table, or as JSON."""
    flat = [flatten(planned.experiment.to_config()) for planned in plan.runs]
    columns = varying_keys([planned.experiment for planned in plan.runs])
    if manner.is_json():
        rows = [
            {
                "run_id": planned.run_id,
                "state": planned.state(),
                "sweeps": list(planned.sweeps),
                "values": {name: values[name] for name in columns},
            }
            for planned, values in zip(plan.runs, flat, strict=True)
        ]
        sayer(console)(json.dumps(rows, indent=1))
    elif len(_sweeps(plan)) > 1:
        _print_union(plan, flat, columns, console)
    else:
        _print_table(plan, flat, columns, console)


def _print_table(plan: Plan, flat: list[dict[str, Any]], columns: list[str], console: Any) -> None:
    """One row per run, with the values that vary."""
    from rich.table import Column, Table

    table = Table(Column("run", no_wrap=True), *columns, "state")
    for planned, values in zip(plan.runs, flat, strict=True):
        cells = ["-" if values[name] is None else str(values[name]) for name in columns]
        table.add_row(planned.run_id, *cells, planned.state())
    console.print(table)


def _print_union(plan: Plan, flat: list[dict[str, Any]], columns: list[str], console: Any) -> None:
    """One row per run: its sweeps and its unusual values, because too many keys vary for a column each."""
    from rich.table import Column, Table

    usual = {
        name: Counter(repr(row[name]) for row in flat).most_common(1)[0][0] for name in columns
    }
    table = Table(Column("run", no_wrap=True), "sweeps", "unusual values", "state")
    for planned, row in zip(plan.runs, flat, strict=True):
        unusual = [f"{name}={row[name]}" for name in columns if repr(row[name]) != usual[name]]
        table.add_row(planned.run_id, ", ".join(planned.sweeps), " ".join(unusual), planned.state())
    console.print(table)
