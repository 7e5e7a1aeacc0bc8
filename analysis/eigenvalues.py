"""The eigenvalues of a linear head (Figure B.3), apart from what shows them: see `separation.py`."""

import numpy as np

from analysis.weights import Arrays, load_weights
from simclr_ablate.store import Run


def squared_real_parts(run: Run) -> Arrays:
    """The squared real parts of the eigenvalues of the head's matrix W, largest first."""
    matrix = load_weights(run)["head"]["output.weight"].double().numpy()
    if not np.isfinite(matrix).all() or not matrix.any():
        raise ValueError(f"the head of {run.run_id} is no matrix with eigenvalues: NaN, or all 0")
    return {"squares": np.sort(np.linalg.eigvals(matrix).real ** 2)[::-1]}
