"""What was computed from a run's weights, for readers who have no weights: `derived/NAME.npz` in the run's folder.

Where the weights are, such results are kept in the cache, under a name that says of which weights they are. A pack
takes them from there (`packing.py`), and only what a pack brought is in a run's folder.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simclr_ablate.files import StorageError, names_in, report_damage
from simclr_ablate.paths import default_cache
from simclr_ablate.store import tensors
from simclr_ablate.store.arrays import load_arrays
from simclr_ablate.store.records import BELONGS_TO, owner_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from simclr_ablate.store.run import Run

    Arrays = Mapping[str, NDArray[Any]]

NAME = r"[a-z]+"
_CACHED = re.compile(rf"({NAME})-(.+)-[0-9a-f]{{10}}\.npz")


def cache_folder() -> Path:
    """The cache's folder for what is computed from weights or images, which may not exist."""
    return Path(default_cache()).expanduser() / "analysis"


def of_weights(run: "Run") -> str:
    """The run's id and a stamp of its weights, as names in the cache have them. Raises StorageError."""
    return f"{run.run_id}-{tensors.stamp(run.encoder_path)}"


def owned(run: "Run", name: str, arrays: "Arrays") -> "Arrays":
    """The arrays with their owner, the run's result `name`, as files have them."""
    import numpy as np

    return {**arrays, BELONGS_TO: np.array(_owner(run.run_id, name))}


def path_of(run: "Run", name: str) -> Path:
    """Where the run has the result `name` if a pack brought it."""
    return run.path / "derived" / f"{name}.npz"


def read(run: "Run", name: str) -> "Arrays":
    """The arrays of the result `name` that a pack brought. Raises ValueError if they are missing or damaged."""
    path = path_of(run, name)
    try:
        return parsed(path.read_bytes(), run.run_id, name)
    except FileNotFoundError:
        raise ValueError(f"{run.run_id} has no weights, nor {name} computed from them") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def parsed(content: bytes, run_id: str, name: str) -> "Arrays":
    """The arrays of a file's content, without their owner. Raises ValueError if they are damaged, or another's."""
    arrays = load_arrays(content)
    belongs_to = str(arrays.pop(BELONGS_TO, None))
    if belongs_to != _owner(run_id, name):
        raise ValueError(f"it belongs to {belongs_to}")
    return arrays


class Found:
    """The results that the cache has, and those that packs brought. The cache is listed once."""

    def __init__(self) -> None:
        self._cached: dict[str, list[tuple[str, Path]]] = defaultdict(list)
        for file in names_in(cache_folder()):
            if match := _CACHED.fullmatch(file):
                self._cached[match[2]].append((match[1], cache_folder() / file))

    def of(self, run: "Run") -> dict[str, bytes]:
        """The content of each whole result of the run, by name: of its weights if they are here, else a pack's."""
        found = {}
        for name, path in self._candidates(run):
            try:
                content = path.read_bytes()
                parsed(content, run.run_id, name)
            except (OSError, ValueError) as error:
                report_damage(path, str(error))
            else:
                found[name] = content
        return found

    def _candidates(self, run: "Run") -> list[tuple[str, Path]]:
        """Files with results, each better than those of the same name before it."""
        packed = [
            (name.removesuffix(".npz"), run.path / "derived" / name)
            for name in names_in(run.path / "derived")
            if re.fullmatch(rf"{NAME}\.npz", name)
        ]
        try:
            cached = self._cached.get(of_weights(run), []) if run.is_pretrained() else []
        except StorageError:
            cached = []
        # If several versions of the code have cached a result, the latest comes last, and counts.
        return [*packed, *sorted(cached, key=lambda one: _date(one[1]))]


def _owner(run_id: str, name: str) -> str:
    return owner_of(Path(run_id), f"derived/{name}")


def _date(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
