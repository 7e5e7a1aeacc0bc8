"""Checkpoints that survive a kill at any moment, and a disk that damages them.

The obvious way, `torch.save` over the old file, leaves neither when the process dies half-way. Here the new one is
written whole under another name, the old one becomes `checkpoint.previous.pt`, and only then the new one takes its
place. A SHA-256 at the end of each file tells a damaged one, which torch's reader would load without complaint where
the damage lies within a tensor; the one before it is used then, with a warning.
"""

import hashlib
import io
import logging
import os
from pathlib import Path
from typing import Any

import torch

from simclr_ablate.files import write_atomically

log = logging.getLogger(__name__)

_DIGEST_BYTES = hashlib.sha256().digest_size


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain containers) as the newest checkpoint in `folder`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    newest, previous, incoming = _paths(folder)

    def write(file: Any) -> None:
        file.write(content)
        file.write(hashlib.sha256(content).digest())

    write_atomically(incoming, write)
    if newest.exists():
        os.replace(newest, previous)
    os.replace(incoming, newest)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint in `folder`, on the CPU, or None where there is none."""
    newest, previous, incoming = _paths(folder)
    # `incoming` is whole if it exists, and then newer than the others: killed between two renames.
    for path in (incoming, newest, previous):
        if not path.exists():
            continue
        state = _read(path)
        if state is not None:
            return state
        log.warning("%s is damaged; falling back to the checkpoint before it", path)
    return None


def remove_checkpoints(folder: Path) -> None:
    """Removes what is of no use once pretraining is complete."""
    for path in _paths(folder):
        path.unlink(missing_ok=True)


def _paths(folder: Path) -> tuple[Path, Path, Path]:
    return (
        folder / "checkpoint.pt",
        folder / "checkpoint.previous.pt",
        folder / "checkpoint.incoming.pt",
    )


def _read(path: Path) -> dict[str, Any] | None:
    content = path.read_bytes()
    payload, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
