"""Results that need a run's weights: computed once, then kept in the cache. Packs bring them without the weights."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from simclr_ablate.store import Run, derived
from simclr_ablate.store.records import BELONGS_TO

from .cache import Arrays, kept_under


def with_weights(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs that still have their encoder and head."""
    return _where(runs, lambda run: run.is_pretrained())


def with_results(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of runs of which `kept` has, or can compute, the result `name`."""
    return _where(runs, lambda run: run.is_pretrained() or derived.path_of(run, name).exists())


def load_weights(run: Run) -> dict[str, Any]:
    """The tensors of a run's encoder and head, by name. Raises ValueError if they are damaged or cannot be read."""
    return run.weights()


def kept(run: Run, name: str, compute: Callable[[Run], Arrays]) -> Arrays:
    """The arrays that `compute` makes of the run's weights, from the cache if it has them. Without weights, a pack's.

    They are cached under a stamp of the weights and the source of the module of `compute`. Packs outlive that source:
    if the arrays change their meaning, they need another name. Raises ValueError if there are neither weights nor
    results.
    """
    if not run.is_pretrained():
        return derived.read(run, name)
    code = Path(inspect.getfile(compute)).read_text(encoding="utf-8")
    arrays = kept_under(
        f"{name}-{derived.of_weights(run)}", code, lambda: derived.owned(run, name, compute(run))
    )
    return {key: value for key, value in arrays.items() if key != BELONGS_TO}


def _where(runs: pd.DataFrame, holds: Callable[[Run], bool]) -> pd.DataFrame:
    """The rows of runs for which `holds`."""
    there = {path: holds(Run(Path(path))) for path in set(runs["path"])}
    return runs[runs["path"].map(there).astype(bool)]
