"""Checkpoints that survive a kill at any moment, and a disk that damages them.

The obvious way, `torch.save` over the old file, leaves neither file if the process dies half-way. Here the new one is
written whole under another name, the old one becomes `checkpoint.previous.pt`, and only then does the new one take the
old one's place. Each carries its digest (`tensors.py`). If a checkpoint is damaged, the one before it is used, with a
warning. The same holds if the system cannot read it now, because of a bad sector, say, or a file server that is away.
But if there is no other, training does not start again, since the checkpoint may be readable later.
"""

import logging
import os
from pathlib import Path
from typing import Any

from simclr_ablate.files import StorageError, clear_way, remove, storing
from simclr_ablate.store import tensors
from simclr_ablate.store.records import owner_of
from simclr_ablate.store.tensors import DamagedError

log = logging.getLogger(__name__)


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain containers) as the newest checkpoint in `folder`. Raises StorageError."""
    newest, previous, incoming = _paths(folder)
    tensors.save(incoming, state, owner_of(folder, "checkpoint"))
    with storing(newest):
        if newest.exists():
            clear_way(previous)
            os.replace(newest, previous)
        os.replace(incoming, newest)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint in `folder`, on the CPU, or None if there is none.

    Raises StorageError if the only one left cannot be read by the system.
    """
    newest, previous, incoming = _paths(folder)
    unread: StorageError | None = None
    # `incoming` is whole if it exists, and newer than the others: the process was killed between two renames.
    for path in (incoming, newest, previous):
        try:
            return tensors.load(path, owner_of(folder, "checkpoint"), needs_digest=True)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                continue
            log.warning("%s; falling back to the checkpoint before it", error)
            if not isinstance(error, DamagedError):
                unread = unread or error
    if unread is not None:
        raise StorageError(
            f"{unread}; no other checkpoint is whole: run the command again once it can be read, "
            "or remove it to pretrain from the start"
        )
    return None


def remove_checkpoints(folder: Path) -> None:
    """Removes the checkpoints, which are of no use once pretraining is complete."""
    for path in _paths(folder):
        remove(path)


def _paths(folder: Path) -> tuple[Path, Path, Path]:
    """The paths of the newest checkpoint, of the one before it, and of one that is about to replace the newest."""
    return (
        folder / "checkpoint.pt",
        folder / "checkpoint.previous.pt",
        folder / "checkpoint.incoming.pt",
    )
