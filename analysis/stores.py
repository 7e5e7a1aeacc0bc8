"""The store that a command reads."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from simclr_ablate.config import ConfigError
from simclr_ablate.files import StorageError, storing
from simclr_ablate.store import Store

from .packs import origin

if TYPE_CHECKING:
    import pandas as pd


def check_store(store: Path) -> None:
    """Raises ConfigError if `store` is not a folder that can be read."""
    if not os.path.lexists(store):
        raise StorageError(f"the store {store} does not exist; name another with store=DIR")
    with storing(store, "store"):
        os.scandir(store).close()


def runs_of(store: Path) -> "pd.DataFrame":
    """The runs of `store`, as `analysis.load` gives them. Raises ConfigError if there are none."""
    from . import load

    runs = load(store)
    if runs.empty:
        there = len(list(Store(store).runs()))
        why = f"none of its {there} runs can be read" if there else "it holds no runs"
        raise ConfigError(f"the store {origin(store) or store} has nothing to show: {why}")
    return runs
