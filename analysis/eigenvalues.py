"""The eigenvalues of a linear head (Figure B.3).

They have a module of their own, since results are computed again if it changes (`weights.kept`).
"""

import numpy as np

from simclr_ablate.store import Run

from .cache import Arrays
from .weights import load_weights


def squared_real_parts(run: Run) -> Arrays:
    """The squared real parts of the eigenvalues of the head's matrix W, largest first: (D,).

    Raises ValueError if W is not finite or all 0.
    """
    matrix = load_weights(run)["head"]["output.weight"].double().numpy()
    if not np.isfinite(matrix).all() or not matrix.any():
        raise ValueError(f"the head of {run.run_id} must be finite and not all 0")
    return {"squares": np.sort(np.linalg.eigvals(matrix).real ** 2)[::-1]}
