"""`until=decided`: after a sweep's own seeds, more of them where they decide findings of the paper.

Before every step, the analysis says which finding is worth its hours most (`simclr-ablate findings more`), and the runs
that this finding rests on get the seeds of its next look. Everything is read from the store. So a command that was
interrupted continues if you give it again, and two commands share the work, as with any plan.

The analysis runs in a process of its own: a command imports nothing that stands above it.
"""

import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import simclr_ablate
from simclr_ablate.commands import PROGRAM
from simclr_ablate.config import ConfigError
from simclr_ablate.exit_status import ExitStatus
from simclr_ablate.launch.command import (
    NEEDS_A_SWEEP,
    Command,
    Ended,
    checked_plan,
    execute,
    launch,
    returns_at_once,
    side_by_side,
)
from simclr_ablate.launch.jobs import Jobs
from simclr_ablate.looks import LOOKS
from simclr_ablate.plan.hours import HOUR, hours_spent
from simclr_ablate.plan.launchers import LocalOptions
from simclr_ablate.plan.plan import Plan, planned_run
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Store
from simclr_ablate.tasks.choose import Choose
from simclr_ablate.terminal import count, make_message_console, sayer


class Widened(NamedTuple):
    """The experiments of a command at certain seeds, each with its sweeps, and the choices of sweeps with `select`."""

    sweeps: Mapping[Experiment, Sequence[str]]
    chooses: Sequence[Choose]

    @property
    def asked(
        self,
    ) -> tuple[Iterable[Experiment], Mapping[Experiment, Sequence[str]], Sequence[Choose]]:
        """The experiments, their sweeps, and the choices."""
        return self.sweeps, self.sweeps, self.chooses


Widen = Callable[[Sequence[int] | None], Widened]
"""Returns what the command line asks for with these seeds; None: with its own."""


@dataclass(frozen=True)
class Step:
    """One finding, and what its next look takes, as `simclr-ablate findings more --json` says.

    label, setting: its data, and all that its runs have in common. sweeps: those that make its runs. missing: how many
    results are missing at the next look. hours, longest: of all of their runs, one after the other, and of the longest.
    decides_at: the number of seeds that is expected to decide it, if any is.
    """

    finding: str
    label: str
    setting: str
    sweeps: tuple[str, ...]
    run_ids: frozenset[str]
    seeds: int
    next_seeds: int
    decides_at: int | None
    missing: int
    hours: float
    longest: float

    @property
    def name(self) -> tuple[str, str, int]:
        """What is not tried twice, even if runs of it failed."""
        return self.finding, self.setting, self.next_seeds

    def is_in_reach(self, most: int) -> bool:
        """Whether it may be decided with `most` seeds. Before the first look, nobody knows."""
        if self.next_seeds > most:
            return False
        return self.seeds < LOOKS[0] or (self.decides_at is not None and self.decides_at <= most)

    def hours_with(self, side_by_side: int) -> float:
        """What it takes at most with that many runs at once, in any order of the runs."""
        at_once = max(1, min(side_by_side, self.missing))
        rounds = math.ceil(self.missing / at_once)
        return min(rounds * self.longest, self.hours / at_once + self.longest * (1 - 1 / at_once))


def decide(command: Command, widen: Widen, jobs: Jobs | None = None) -> Ended:
    """Carries out the command's own experiments, then steps until nothing is left to decide within `command.until`.

    Raises ConfigError before the first run starts.
    """
    assert command.until is not None
    own = widen(None)
    _check(command, own)
    budget = _Budget.of(command, own)
    ended = execute(command, *own.asked, jobs, budget.deadline)
    if command.dry_run or ended.status == ExitStatus.STOPPED:
        return ended
    console, status = make_message_console(), ended.status
    say, seeds = sayer(console), _Seeds.of(own)
    whole = _chosen(replace(checked_plan(command, *own.asked), records=ended.plan.records))
    family = _family(whole, seeds)
    budget.note(whole)
    if "complete" not in whole.states():
        return ended
    taken = set[tuple[str, str, int]]()
    while status != ExitStatus.STOPPED:
        asked = _asked(command.store)
        ours = [step for step in asked if step.run_ids <= family.keys()]
        steps = [step for step in ours if step.name not in taken]
        step = _next(steps, command.until.max_seeds, budget, whole, say)
        if step is None:
            for line in _left(len(ours) - len(steps), len(asked) - len(ours)):
                say(line)
            break
        taken.add(step.name)
        wide = _chosen(checked_plan(command, *widen(seeds.first(step.next_seeds)).asked))
        part = _part(wide, step, family, whole).added_to(whole.records)
        if not part.runs:
            continue
        budget.note(part, -1)
        say(_told(step, part))
        status = max(status, launch(command, part, console, jobs, budget.deadline))
        budget.note(part)
    return Ended(status, ended.plan)


def _chosen(plan: Plan) -> Plan:
    """The plan with the winners of choices whose candidates have all ended, as the launcher chose them."""
    states = {planned.key: planned.state() for planned in plan.runs}
    for choose in plan.pending:
        if all(states.get(key) in ("complete", "failed") for key in choose.keys):
            plan = plan.and_then(plan.choose(choose))
    return plan


def _check(command: Command, own: Widened) -> None:
    """Raises ConfigError if the command cannot be carried out until findings are decided."""
    if not any(own.sweeps.values()):
        raise ConfigError(NEEDS_A_SWEEP)
    if returns_at_once(command):
        raise ConfigError(
            "launcher.follow must be true with until=decided, which needs the results, got false"
        )


@dataclass(frozen=True)
class _Seeds:
    """The seeds of a command. reserved: those that sweeps choose by, which no result may have."""

    own: list[int]
    reserved: frozenset[int]

    @classmethod
    def of(cls, own: Widened) -> "_Seeds":
        candidates = [candidate for choose in own.chooses for candidate in choose.candidates]
        tried = {candidate.experiment for candidate in candidates}
        reported = [one for candidate in candidates for one in candidate.reported]
        reported += [one for one in own.sweeps if one not in tried]
        reserved = frozenset(experiment.seed for experiment in tried)
        return cls(sorted({one.seed for one in reported}), reserved)

    def first(self, number: int) -> list[int]:
        """The command's own seeds, then those that follow the last of them: the looks take them in this order."""
        after = (s for s in itertools.count(self.own[-1] + 1) if s not in self.reserved)
        return [*self.own, *itertools.islice(after, max(0, number - len(self.own)))][:number]


@dataclass
class _Budget:
    """The hours of a command: those of the clock here, and on a cluster the sum over the runs.

    spent: on a cluster. deadline: as a time of `time.monotonic`; infinite on a cluster.
    """

    command: Command
    hours: float
    begin: float
    spent: float = 0.0

    @classmethod
    def of(cls, command: Command, own: Widened) -> "_Budget":
        assert command.until is not None
        hours = math.inf if command.until.budget_hours is None else command.until.budget_hours
        budget = cls(command, hours, time.monotonic())
        if not budget.is_of_the_clock:
            budget.note(checked_plan(command, *own.asked), -1)
        return budget

    @property
    def is_of_the_clock(self) -> bool:
        return isinstance(self.command.launcher, LocalOptions)

    @property
    def deadline(self) -> float:
        return self.begin + self.hours * HOUR if self.is_of_the_clock else math.inf

    @property
    def left(self) -> float:
        clock = (time.monotonic() - self.begin) / HOUR
        return self.hours - (clock if self.is_of_the_clock else self.spent)

    def note(self, plan: Plan, sign: int = 1) -> None:
        """Adds the hours of the plan's runs; with the sign -1, those that they had taken before."""
        if not self.is_of_the_clock:
            self.spent += sign * hours_spent(plan)

    def taken_by(self, step: Step, whole: Plan) -> float:
        """The hours that a step is expected to take."""
        if not self.is_of_the_clock:
            return step.hours
        return step.hours_with(side_by_side(self.command, whole))


def _family(plan: Plan, seeds: _Seeds) -> dict[str, str]:
    """For the id of each run at every seed that it may have: the id at the first seed, which stands for all."""
    family = dict[str, str]()
    for planned in plan.runs:
        first, *others = (
            planned_run(replace(planned.experiment, seed=seed), plan.store).run_id
            for seed in seeds.first(LOOKS[-1])
        )
        family |= dict.fromkeys([first, *others], first)
    return family


def _asked(store: Store) -> list[Step]:
    """The findings that more seeds may decide, the one that is worth its hours most first. Raises ConfigError."""
    above = str(Path(simclr_ablate.__file__).parents[1])
    path = os.pathsep.join(filter(None, [above, os.environ.get("PYTHONPATH")]))
    arguments = ["more", "--json", f"store={store.root}"]
    line = [sys.executable, "-P", "-m", "simclr_ablate.analysis.findings", *arguments]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(line, capture_output=True, text=True, env=environment)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise ConfigError(f"until=decided: the analysis of {store.root} failed: {reason}")
    return [_step(each) for each in json.loads(done.stdout)]


def _step(content: Mapping[str, Any]) -> Step:
    return Step(
        content["finding"],
        content["label"],
        content["setting"],
        tuple(content["sweeps"]),
        frozenset(content["run_ids"]),
        content["seeds"],
        content["next_seeds"],
        content["decides_at"],
        content["missing"],
        content["hours"],
        content["longest"],
    )


def _next(
    steps: Sequence[Step], most: int, budget: _Budget, whole: Plan, say: Callable[[str], None]
) -> Step | None:
    """The best step that fits. Says why there is none. most: `max_seeds`."""
    if not steps:
        missing = sum(state != "complete" for state in whole.states())
        own = (
            f"{count(missing, 'experiment')} of its own seeds left undone; of the rest, "
            if missing
            else ""
        )
        say(f"until=decided: {own}no finding is left that more seeds of this command would decide")
        return None
    hopeful = [step for step in steps if step.is_in_reach(most)]
    if not hopeful:
        say(f"until=decided: {count(len(steps), 'finding')} left, out of reach with {most} seeds")
        return None
    hours = {step: budget.taken_by(step, whole) for step in hopeful}
    for step in hopeful:
        if hours[step] <= budget.left:
            return step
    say(
        f"until=decided: {count(len(hopeful), 'finding')} left; the least takes {min(hours.values()):.2g} hours, "
        f"and {max(budget.left, 0):.2g} are left"
    )
    return None


def _part(wide: Plan, step: Step, family: Mapping[str, str], whole: Plan) -> Plan:
    """The runs of `wide` that the step needs: of each, those of the sweeps that it names, or else of the user's."""
    needed = {family[run_id] for run_id in step.run_ids}
    runs = [planned for planned in wide.runs if family.get(planned.run_id) in needed]
    named = [planned for planned in runs if not set(step.sweeps).isdisjoint(planned.sweeps)]
    made = {family[planned.run_id] for planned in named}
    runs = [planned for planned in runs if planned in named or family[planned.run_id] not in made]
    return replace(wide, runs=tuple(runs), pending=(), decided=(), whole=whole.runs)


def _left(tried: int, others: int) -> Iterator[str]:
    """Lines about undecided findings that no step is for. tried: those whose runs failed; others: those of others."""
    if tried:
        yield f"  {count(tried, 'finding')} left, for which runs have failed"
    if others:
        yield (
            f"  {count(others, 'finding')} left, resting on runs that this command does not make "
            f"(see {PROGRAM} findings more)"
        )


def _told(step: Step, part: Plan) -> str:
    left = sum(state != "complete" for state in part.states())
    expected = f", expected to be decided at {step.decides_at}" if step.decides_at else ""
    return (
        f"\nfinding {step.finding} ({step.label}): {count(step.seeds, 'seed')}{expected}; "
        f"{count(left, 'experiment')} to look again at {step.next_seeds}"
    )
