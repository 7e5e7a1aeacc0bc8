"""What takes a run's weights: computed once, then kept in the cache, beside the decoded images."""

import hashlib
import inspect
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simclr_ablate.files import write_atomically
from simclr_ablate.paths import default_cache
from simclr_ablate.store import Run

Arrays = Mapping[str, NDArray[Any]]


def with_weights(runs: pd.DataFrame) -> pd.DataFrame:
    """Of the rows, those whose run has kept its encoder and head."""
    there = {path: Run(Path(path)).is_pretrained() for path in set(runs["path"])}
    return runs[runs["path"].map(there).astype(bool)]


def load_weights(run: Run) -> dict[str, Any]:
    """Its encoder's and its head's tensors, by name. Raises ValueError where they can't be read."""
    # Here, so that nothing else waits for torch.
    import torch

    try:
        return torch.load(run.encoder_path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{run.encoder_path} cannot be read: {error}") from error


def cache_folder() -> Path:
    """Where the analysis keeps what takes long to compute."""
    folder = Path(default_cache()).expanduser() / "analysis"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def kept(run: Run, name: str, compute: Callable[[Run], Arrays]) -> Arrays:
    """The arrays that `compute` makes of the run's weights, from the cache where it has them.

    What is kept is as good as the weights and the module of `compute` that it was made with.
    """
    file = run.encoder_path.stat()
    code = Path(inspect.getfile(compute)).read_text(encoding="utf-8")
    stamp = f"{run.path.resolve()} {file.st_size} {file.st_mtime_ns} {code}"
    digest = hashlib.sha256(stamp.encode()).hexdigest()[:10]
    path = cache_folder() / f"{name}-{run.run_id}-{digest}.npz"
    if not path.exists():
        arrays: dict[str, Any] = dict(compute(run))
        write_atomically(path, lambda stream: np.savez(stream, **arrays))
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)
