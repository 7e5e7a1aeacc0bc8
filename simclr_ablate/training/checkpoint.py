"""Checkpoints that survive a kill at any moment, and a disk that damages them.

The obvious way, `torch.save` over the old file, leaves neither when the process dies half-way. Here the new one is
written whole under another name, the old one becomes `checkpoint.previous.pt`, and only then the new one takes its
place. Each carries its digest (`tensors.py`), which tells a damaged one: the one before it is used then, with a
warning.
"""

import logging
import os
from pathlib import Path
from typing import Any

from simclr_ablate import tensors
from simclr_ablate.files import clear_way, remove, storing
from simclr_ablate.tensors import DamagedError

log = logging.getLogger(__name__)


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain containers) as the newest checkpoint in `folder`. Raises StorageError."""
    newest, previous, incoming = _paths(folder)
    tensors.save(incoming, state)
    with storing(newest):
        if newest.exists():
            clear_way(previous)
            os.replace(newest, previous)
        os.replace(incoming, newest)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint in `folder`, on the CPU, or None where there is none. Raises StorageError."""
    newest, previous, incoming = _paths(folder)
    # `incoming` is whole if it exists, and then newer than the others: killed between two renames.
    for path in (incoming, newest, previous):
        if not path.exists():
            continue
        try:
            state: dict[str, Any] = tensors.load(path, needs_digest=True)
            return state
        except DamagedError as error:
            log.warning("%s; falling back to the checkpoint before it", error)
    return None


def remove_checkpoints(folder: Path) -> None:
    """Removes what is of no use once pretraining is complete."""
    for path in _paths(folder):
        remove(path)


def _paths(folder: Path) -> tuple[Path, Path, Path]:
    """The newest checkpoint, the one before it, and one that is about to take the newest's place."""
    return (
        folder / "checkpoint.pt",
        folder / "checkpoint.previous.pt",
        folder / "checkpoint.incoming.pt",
    )
