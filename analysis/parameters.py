"""The number of parameters of an encoder, cached because counting has to load torch."""

import functools
import hashlib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.cache import cache_folder
from simclr_ablate.files import StorageError, write_json
from simclr_ablate.store import Run
from simclr_ablate.store.records import read_record

ENCODER = "simclr_ablate.models.encoder"


@functools.cache
def parameters(architecture: str, width: int, stem: str) -> int:
    """The number of parameters of f alone, without head or classifier."""
    file = cache_folder() / f"parameters-{architecture}-{width}-{stem}-{_version()}.json"
    known: int | None = read_record(file, int)
    if known is None:
        known = count(architecture, width, stem)
        with suppress(StorageError):  # counted again next time
            write_json(file, known)
    return known


def count(architecture: str, width: int, stem: str) -> int:
    """The same, counted on an encoder whose weights take no memory."""
    import torch

    from simclr_ablate.models.encoder import build_encoder

    with torch.device("meta"):
        encoder = build_encoder(architecture, width, stem)
    return sum(weights.numel() for weights in encoder.parameters())


def of_weights(run: Run) -> dict[str, NDArray[np.int64]]:
    """The number of parameters of a run's encoder, from its weights: for networks that are not ours."""
    state = run.weights()["encoder"]
    trained = (value.numel() for name, value in state.items() if not name.endswith(_NOT_TRAINED))
    return {"parameters": np.asarray(sum(trained))}


_NOT_TRAINED = ("running_mean", "running_var", "num_batches_tracked")


@functools.cache
def _version() -> str:
    """A hash of the code that builds encoders."""
    spec = find_spec(ENCODER)
    assert spec is not None
    assert spec.origin is not None
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:10]
