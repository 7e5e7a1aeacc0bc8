"""Results that need a run's weights: computed once, then kept in the cache."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.cache import Arrays, kept_under
from simclr_ablate.store import Run


def with_weights(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs that still have their encoder and head."""
    there = {path: Run(Path(path)).is_pretrained() for path in set(runs["path"])}
    return runs[runs["path"].map(there).astype(bool)]


def load_weights(run: Run) -> dict[str, Any]:
    """The tensors of a run's encoder and head, by name. Raises ValueError if they are damaged or cannot be read."""
    return run.weights()


def kept(run: Run, name: str, compute: Callable[[Run], Arrays]) -> Arrays:
    """The arrays that `compute` makes of the run's weights, from the cache if it has them.

    They are cached under the size and time of the file of weights, and the source of the module of `compute`.
    """
    file = run.encoder_path.stat()
    code = Path(inspect.getfile(compute)).read_text(encoding="utf-8")
    stamp = f"{run.path.resolve()} {file.st_size} {file.st_mtime_ns} {code}"
    return kept_under(f"{name}-{run.run_id}", stamp, lambda: compute(run))
