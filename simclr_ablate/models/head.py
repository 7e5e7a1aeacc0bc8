"""The projection head g: z = g(h) (Section 2.1, Fig. 8)."""

from collections import OrderedDict

import torch
from torch import nn

from simclr_ablate import own
from simclr_ablate.config import ConfigError
from simclr_ablate.models.encoder import BN_EPSILON, BN_MOMENTUM

KINDS = ("none", "linear", "nonlinear")


def build_head(kind: str, in_dim: int, dim: int = 128) -> "Head | OwnHead":
    """The projection head g.

    kind: `none`: z = h; `linear`: a dense layer and batch norm; `nonlinear`: a hidden layer as wide
        as h, with batch norm and ReLU, before them; `package.module:function`: see OwnHead.
    in_dim: width of h.
    dim: width of z; `none` keeps h's.

    Dense layers have no bias, and the output's batch norm scales but does not shift. The paper mentions neither; both
    follow its released code. So do dense weights, which are drawn from N(0, .01^2) with torch's global generator.

    Raises ValueError if an argument is out of range, and ConfigError if a user's own head fails or is not one.
    """
    if dim < 1:
        raise ValueError(f"head.dim must be >= 1, got {dim}")
    return Head(kind, in_dim, dim) if kind in KINDS else OwnHead(kind, in_dim, dim)


class Head(nn.Sequential):
    """h, (N, in_dim), to z, (N, dim)."""

    def __init__(self, kind: str, in_dim: int, dim: int) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if kind == "nonlinear":
            layers["hidden"] = nn.Linear(in_dim, in_dim, bias=False)
            layers["hidden_norm"] = _batch_norm(in_dim, shift=True)
            layers["relu"] = nn.ReLU(inplace=True)
        if kind != "none":
            layers["output"] = nn.Linear(in_dim, dim, bias=False)
            layers["output_norm"] = _batch_norm(dim, shift=False)
        super().__init__(layers)
        self.dim = in_dim if kind == "none" else dim
        """Width of z."""
        for layer in layers.values():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)


class OwnHead(nn.Sequential):
    """A user's own head: the module that `function(in_dim, dim)` returns, from h, (N, in_dim), to z, (N, D).

    dim: the config's head.dim. D, the width of z, is the function's choice, and is measured once.

    The module is wrapped: if the head is nothing but a batch norm, ranks can still replace it by one that they share.
    """

    def __init__(self, kind: str, in_dim: int, dim: int) -> None:
        make = own.find("head.kind", kind, KINDS)
        with own.blamed(f"head.kind={kind}", f"make a head for h of width {in_dim}"):
            module = make(in_dim, dim)
        if not isinstance(module, nn.Module):
            raise ConfigError(
                f"head.kind={kind} must make a torch.nn.Module, got {type(module).__name__}"
            )
        super().__init__(OrderedDict(own=module))
        self.dim = self._width_of_z(kind, in_dim)
        """Width of z."""

    def _width_of_z(self, kind: str, in_dim: int) -> int:
        # In eval mode, which leaves batch norm's statistics alone.
        with torch.no_grad(), own.blamed(f"head.kind={kind}", f"take h, (3, {in_dim})"):
            z = self.eval()(torch.randn(3, in_dim))
        self.train()
        if not isinstance(z, torch.Tensor) or z.ndim != 2 or len(z) != 3:
            got = tuple(z.shape) if isinstance(z, torch.Tensor) else type(z).__name__
            raise ConfigError(
                f"head.kind={kind} must map h, (3, {in_dim}), to z, (3, D), got {got}"
            )
        return z.shape[1]


def _batch_norm(channels: int, shift: bool) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(channels, eps=BN_EPSILON, momentum=BN_MOMENTUM)
    if not shift:
        norm.register_parameter("bias", None)
    return norm
