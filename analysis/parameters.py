"""The number of parameters of a network that is not ours, from a run's weights.

It is a module of its own, since results are computed again if it changes (`weights.kept`). `models/sizes.py` counts
those of our encoders.
"""

import numpy as np

from simclr_ablate.store import Run

from .cache import Arrays
from .weights import load_weights

_NOT_TRAINED = ("running_mean", "running_var", "num_batches_tracked")


def of_weights(run: Run) -> Arrays:
    """The number of parameters of a run's encoder f."""
    state = load_weights(run)["encoder"]
    trained = (value.numel() for name, value in state.items() if not name.endswith(_NOT_TRAINED))
    return {"parameters": np.asarray(sum(trained))}
