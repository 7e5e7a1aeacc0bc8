"""How the runs of a plan ended."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simclr_ablate.files import StorageError, storing
from simclr_ablate.plan.plan import Plan, PlannedRun
from simclr_ablate.tasks.choose import Choose

if TYPE_CHECKING:
    from simclr_ablate.launch.progress import ProgressView


@dataclass
class Outcome:
    """How a plan's runs ended.

    interrupted: whether the launcher had to stop before all runs had ended. called_off: whether somebody cancelled the
    second stage. reasons: why runs failed, if the store could not record it. late: runs that were not started, because
    the time was up.
    """

    complete: list[PlannedRun] = field(default_factory=list)
    failed: list[PlannedRun] = field(default_factory=list)
    interrupted: bool = False
    called_off: bool = False
    reasons: dict[PlannedRun, str] = field(default_factory=dict)
    late: list[PlannedRun] = field(default_factory=list)

    def fail(self, planned: PlannedRun, reason: str) -> None:
        """Notes that a run failed, also in its folder if that can be written and does not say so. Never raises."""
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
            is_known = f"{error}" in reason  # the process met the same error
            self.reasons[planned] = reason if is_known else f"{reason} (not recorded: {error})"

    def reason_of(self, planned: PlannedRun) -> str:
        """Why a run failed."""
        failure = planned.failure() or {}
        closed = planned.run.unreadable()
        unknown = f"cannot use {planned.run.path}: {closed}" if closed else "unknown reason"
        return self.reasons.get(planned) or failure.get("reason", unknown)

    def and_then(self, other: "Outcome") -> "Outcome":
        """Both outcomes together; `other` is that of the later plan."""
        return Outcome(
            [*self.complete, *other.complete],
            [*self.failed, *other.failed],
            other.interrupted,
            self.called_off or other.called_off,
            {**self.reasons, **other.reasons},
            [*self.late, *other.late],
        )


@dataclass
class Ledger:
    """A plan's outcome so far, with the view that shows it. The plan grows when winners are chosen."""

    plan: Plan
    view: "ProgressView"
    outcome: Outcome = field(default_factory=Outcome)

    def complete(self, planned: PlannedRun) -> None:
        self.outcome.complete.append(planned)
        self.view.completed(planned)

    def fail(self, planned: PlannedRun, reason: str | None = None) -> None:
        """reason: to be recorded in the run's folder; None if the folder has one or cannot be read."""
        if reason is None:
            self.outcome.failed.append(planned)
        else:
            self.outcome.fail(planned, reason)
        self.view.failed(planned, self.outcome.reason_of(planned))

    def choose(self, unfinished: Iterable[PlannedRun]) -> list[PlannedRun]:
        """Chooses, for each sweep that has no candidate among `unfinished`; returns the runs to start now."""
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
