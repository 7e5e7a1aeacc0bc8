"""A task's share of the machine, and the images that it opens with it."""

from pathlib import Path
from typing import Protocol

from simclr_ablate.cores import available_cores
from simclr_ablate.data.progress import reporting
from simclr_ablate.data.splits import Splits, open_data
from simclr_ablate.ranks import SOLO, Ranks
from simclr_ablate.schema import Data, Experiment
from simclr_ablate.store import TaskFolder


class Share(Protocol):
    """The share of the machine that a launcher gives a task."""

    @property
    def cache(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def device(self) -> str: ...


def read_data(
    data: Data, experiment: Experiment, folder: TaskFolder, share: Share, ranks: Ranks = SOLO
) -> Splits:
    """The images of `data`. Decoding, needed only once, shows as the task's progress. Raises ConfigError."""

    def write(progress: dict[str, object]) -> None:
        if ranks.is_first:
            folder.write_progress(progress)

    def report(what: str, done: int, total: int) -> None:
        write({"phase": f"{what}: {done:,} of {total:,}", "fraction": done / max(total, 1)})

    write({"phase": "reading the data"})
    # The first rank goes first: the others find in the cache what it has decoded.
    with ranks.first_alone(), reporting(report):
        return open_data(data, Path(share.cache), loader_workers(experiment, share, ranks))


def loader_workers(experiment: Experiment, share: Share, ranks: Ranks) -> int:
    """How many processes decode images for this rank."""
    if experiment.compute.workers is not None:
        return experiment.compute.workers
    # Other ranks have workers too, so this rank's must fit its own share of the cores.
    cores = available_cores() if ranks.count == 1 else share.threads
    return min(cores, 16)
