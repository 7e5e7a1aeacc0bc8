"""How the runs of a plan ended."""

from dataclasses import dataclass, field

from simclr_ablate.launch.plan import PlannedRun


@dataclass
class Outcome:
    """What a launcher made of a plan's runs.

    interrupted: it was told to stop before all had ended; called_off: somebody cancelled what was to follow.
    """

    complete: list[PlannedRun] = field(default_factory=list)
    failed: list[PlannedRun] = field(default_factory=list)
    interrupted: bool = False
    called_off: bool = False

    def and_then(self, other: "Outcome") -> "Outcome":
        """What became of both plans, of which `other` is the later one's."""
        return Outcome(
            [*self.complete, *other.complete],
            [*self.failed, *other.failed],
            other.interrupted,
            self.called_off or other.called_off,
        )
