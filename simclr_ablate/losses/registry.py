"""The losses that a config can name, and users' own."""

import functools
from collections.abc import Callable

from torch import Tensor

from simclr_ablate import own, schema
from simclr_ablate.config import ConfigError
from simclr_ablate.losses.exact import ContrastiveLoss
from simclr_ablate.losses.margin_triplet import margin_triplet
from simclr_ablate.losses.nt_logistic import nt_logistic
from simclr_ablate.losses.nt_xent import nt_xent
from simclr_ablate.ranks import SOLO, Ranks

Loss = Callable[[Tensor], ContrastiveLoss]
"""A function of z, (2N, D); rows i and i+N are the two views of image i."""

Maker = Callable[[schema.Loss, Ranks], Loss]
"""Makes the loss of a config. All ranks call the loss with the same z, that of the whole batch, and must get the same
result; they may share the computation (`ranks`), or each do all of it."""


def _maker(loss: Callable[..., ContrastiveLoss], *more: str) -> Maker:
    """The Maker of a loss of Table 2, whose arguments are named like the config's keys: the common ones and `more`."""
    names = ("temperature", "normalize", "negatives", *more)

    def make(spec: schema.Loss, ranks: Ranks) -> Loss:
        arguments = {name: getattr(spec, name) for name in names}
        return functools.partial(loss, **arguments, ranks=ranks)

    return make


LOSSES: dict[str, Maker] = {
    "nt_xent": _maker(nt_xent, "margin", "semi_hard"),
    "nt_logistic": _maker(nt_logistic, "margin", "semi_hard", "reduction"),
    "margin_triplet": _maker(margin_triplet, "margin", "semi_hard"),
}
"""The losses of Table 2, by `loss.name`."""


def build_loss(spec: schema.Loss, ranks: Ranks = SOLO) -> Loss:
    """The loss of `spec`.

    A name `package.module:function` is a user's own Maker. The config alone says where it is, so every process of every
    launcher finds it.

    Raises ConfigError if there is no such loss, or if a user's own Maker fails or makes something else.
    """
    if spec.name in LOSSES:
        return LOSSES[spec.name](spec, ranks)
    maker = own.find("loss.name", spec.name, LOSSES)
    with own.blamed(f"loss.name={spec.name}", "make a loss from the loss's keys and the ranks"):
        loss = maker(spec, ranks)
    if not callable(loss):
        raise ConfigError(
            f"loss.name={spec.name} must make a function of z, got {type(loss).__name__}"
        )
    return loss
