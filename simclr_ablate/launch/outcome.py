"""How the runs of a plan ended."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simclr_ablate.files import StorageError, storing
from simclr_ablate.launch.plan import Plan, PlannedRun
from simclr_ablate.tasks.choose import Choose

if TYPE_CHECKING:
    from simclr_ablate.launch.progress import ProgressView


@dataclass
class Outcome:
    """What a launcher made of a plan's runs.

    interrupted: it was told to stop before all had ended; called_off: somebody cancelled what was to follow. reasons:
    of failures that the store could not keep.
    """

    complete: list[PlannedRun] = field(default_factory=list)
    failed: list[PlannedRun] = field(default_factory=list)
    interrupted: bool = False
    called_off: bool = False
    reasons: dict[PlannedRun, str] = field(default_factory=dict)

    def fail(self, planned: PlannedRun, reason: str) -> None:
        """Notes that a run has failed: in its folder, unless it says so already or cannot be written. Never raises."""
        self.failed.append(planned)
        if planned.run.unreadable() is not None:
            self.reasons[planned] = reason
        if self.reason_of(planned) == reason:
            return
        try:
            for folder in (planned.run, planned.task):
                with storing(folder.path):
                    folder.create(planned.experiment.to_config())
            planned.task.write_failure({"reason": reason})
        except StorageError as error:
            told = f"{error}" in reason  # the process met the same
            self.reasons[planned] = reason if told else f"{reason} (not recorded: {error})"

    def reason_of(self, planned: PlannedRun) -> str:
        """Why a run has failed."""
        failure = planned.failure() or {}
        closed = planned.run.unreadable()
        unknown = f"cannot use {planned.run.path}: {closed}" if closed else "unknown reason"
        return self.reasons.get(planned) or failure.get("reason", unknown)

    def and_then(self, other: "Outcome") -> "Outcome":
        """What became of both plans, of which `other` is the later one's."""
        return Outcome(
            [*self.complete, *other.complete],
            [*self.failed, *other.failed],
            other.interrupted,
            self.called_off or other.called_off,
            {**self.reasons, **other.reasons},
        )


@dataclass
class Ledger:
    """What a launcher notes of a plan's runs, and tells whoever watches. The plan grows by what is chosen."""

    plan: Plan
    view: "ProgressView"
    outcome: Outcome = field(default_factory=Outcome)

    def complete(self, planned: PlannedRun) -> None:
        self.outcome.complete.append(planned)
        self.view.completed(planned)

    def fail(self, planned: PlannedRun, reason: str | None = None) -> None:
        """reason: for the run's folder to keep; None where it has one, or cannot be read."""
        if reason is None:
            self.outcome.failed.append(planned)
        else:
            self.outcome.fail(planned, reason)
        self.view.failed(planned, self.outcome.reason_of(planned))

    def choose(self, unfinished: Iterable[PlannedRun]) -> list[PlannedRun]:
        """Makes the choices whose candidates have ended: none is among `unfinished`. Returns what is to be run now."""
        left = set[PlannedRun]()
        if self.plan.pending:
            keys = {planned.key for planned in unfinished}
            for choose in self.plan.pending:
                if keys.isdisjoint(choose.keys):
                    left |= set(self._choose(choose))
        return [planned for planned in self.plan.runs if planned in left]

    def _choose(self, choose: Choose) -> list[PlannedRun]:
        more = self.plan.choose(choose)
        for line in more.second_stage():
            self.view.say(line)
        more.note_choices()
        self.plan = self.plan.and_then(more)
        left = [planned for planned in more.runs if planned.state() != "complete"]
        done = [planned for planned in more.runs if planned not in left]
        self.outcome.complete += done
        self.view.expect(len(more.runs), len(done))
        return left
