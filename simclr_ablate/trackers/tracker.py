"""What a tracker is: one run in TensorBoard, in Weights & Biases, and so on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simclr_ablate.schema import Tracking
from simclr_ablate.store.metrics import Metrics

NOT_METRICS = ("step", "time")
"""What a line of metrics.jsonl says of itself."""


@dataclass(frozen=True)
class Known:
    """What a tracker has of a run already: its last step, and the names of its metrics."""

    step: int = 0
    names: frozenset[str] = frozenset()


class Tracker(ABC):
    """One run in one tracker. Each method may raise whatever the tracker's library raises.

    tracking: the section `tracker` of the config. folder: of the tracker's files.
    """

    def __init__(self, tracking: Tracking, folder: Path) -> None:
        self.tracking, self.folder = tracking, folder

    @abstractmethod
    def begin(self, run_id: str, config: Mapping[str, Any]) -> Known | None:
        """Makes the run `run_id`, or goes on with the one that is there, which must not become a second one.

        config: the run's, as nested dictionaries; {} for pictures.

        Returns what the tracker has of it, or None if the tracker cannot be asked.
        """

    @abstractmethod
    def log(self, lines: Sequence[Metrics]) -> None:
        """Sends lines of metrics.jsonl, in order."""

    @abstractmethod
    def conclude(self, metrics: Mapping[str, float], step: int) -> None:
        """Sends what was measured at the end, by name. step: the run's last."""

    @abstractmethod
    def show(self, pictures: Mapping[str, Path]) -> None:
        """Sends PNG files, by name."""

    @abstractmethod
    def end(self, failed: bool) -> None:
        """Ends the run for now, once all has been sent. failed: whether the run has."""


def measured(line: Metrics) -> dict[str, float]:
    """The metrics of a line, by name."""
    return {name: value for name, value in line.items() if name not in NOT_METRICS}
