"""A loss that takes its time: runs are long enough to be disturbed, and cost the machine little meanwhile."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from simclr_ablate.losses.registry import build_loss

SLOW = "loss.name=tests.slowly:nt_xent"
"""Ten steps a second at most."""


def nt_xent(spec: Any, ranks: Any) -> Callable[[Tensor], Any]:
    """NT-Xent, a tenth of a second late."""
    loss = build_loss(dataclasses.replace(spec, name="nt_xent"), ranks)

    def late(z: Tensor) -> Any:
        time.sleep(0.1)
        return loss(z)

    return late
