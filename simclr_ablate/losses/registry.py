"""The losses that a config can name, and the user's own."""

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
"""Of z, (2N, D), whose rows i and i+N are the two views of image i."""

Maker = Callable[[schema.Loss, Ranks], Loss]
"""Makes the loss of a config. Of several ranks, all call the loss with the same z, that of the whole batch, and must
get the same result; what it computes they may share (`ranks`), or each do by itself."""


def _maker(loss: Callable[..., ContrastiveLoss], *more: str) -> Maker:
    """Of a loss of Table 2, whose arguments have the names of the config's keys: those of all, and `more`."""
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

    A name `package.module:function` is a Maker of the user's own. It goes by what is in the config alone, so that every
    process of every launcher finds it.

    Raises ConfigError where there is no such loss, or a Maker of the user's own fails or makes none.
    """
    if spec.name in LOSSES:
        return LOSSES[spec.name](spec, ranks)
    maker = own.find("loss.name", spec.name, LOSSES)
    with own.blamed(f"loss.name={spec.name}", "make a loss of the loss's keys and the ranks"):
        loss = maker(spec, ranks)
    if not callable(loss):
        raise ConfigError(
            f"loss.name={spec.name} must make a function of z, got {type(loss).__name__}"
        )
    return loss
