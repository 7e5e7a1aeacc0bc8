"""The projection head g: z = g(h) (Section 2.1, Fig. 8)."""

from collections import OrderedDict

from torch import nn

from simclr_ablate.models.encoder import BN_EPSILON, BN_MOMENTUM


def build_head(kind: str, in_dim: int, dim: int = 128) -> "Head":
    """The projection head g.

    kind: `none`: z = h; `linear`: a dense layer and batch norm; `nonlinear`: a hidden layer as wide
        as h, with batch norm and ReLU, before them.
    in_dim: width of h. dim: width of z; `none` keeps h's.

    Dense layers have no bias, and the batch norm of the output scales but does not shift. The paper
    names neither; its released code has both, and is followed. Dense weights are drawn as in that
    code, N(0, .01^2), from torch's global generator.

    Raises ValueError for an argument out of its range.
    """
    if kind not in ("none", "linear", "nonlinear"):
        raise ValueError(f"head.kind must be one of none, linear, nonlinear, got {kind!r}")
    if dim < 1:
        raise ValueError(f"head.dim must be >= 1, got {dim}")
    return Head(kind, in_dim, dim)


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


def _batch_norm(channels: int, shift: bool) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(channels, eps=BN_EPSILON, momentum=BN_MOMENTUM)
    if not shift:
        norm.register_parameter("bias", None)
    return norm
