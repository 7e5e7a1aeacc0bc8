"""The store: a folder for each run, with one for each evaluation in it, and records of what was launched."""

from simclr_ablate.store.choice import ChoiceFolder
from simclr_ablate.store.evaluation import EvaluationFolder
from simclr_ablate.store.run import Run
from simclr_ablate.store.store import Store, SweepRecord
from simclr_ablate.store.task import BUSY, STATES, TaskFolder

__all__ = [
    "BUSY",
    "STATES",
    "ChoiceFolder",
    "EvaluationFolder",
    "Run",
    "Store",
    "SweepRecord",
    "TaskFolder",
]
