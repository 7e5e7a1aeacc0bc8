"""Batch norm over the images of all ranks."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from simclr_ablate.config import ConfigError
from simclr_ablate.device import is_accelerator
from simclr_ablate.ranks import Ranks


def share_statistics(network: nn.Module, ranks: Ranks, device: torch.device) -> None:
    """Makes the batch norms inside `network` use the statistics of all ranks' images in training mode.

    Parameters, buffers and their names stay. With one rank, nothing changes.

    Raises ConfigError for a batch norm that is neither torch's own nor timm's: it may do more than normalise.
    """
    if ranks.count == 1:
        return
    check_shareable(network, ranks.count)
    for name, child in network.named_children():
        if not isinstance(child, _BatchNorm):
            share_statistics(child, ranks, device)
        elif _is_timms(child):
            setattr(network, name, _shared_with_activation(child, ranks, device))
        elif is_accelerator(device):
            setattr(network, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
        else:
            setattr(network, name, SharedBatchNorm(child, ranks))


def check_shareable(network: nn.Module, ranks: int) -> None:
    """Raises ConfigError if several ranks cannot share the network's batch norms."""
    for module in network.modules():
        known = not isinstance(module, _BatchNorm) or type(module) in _PLAIN or _is_timms(module)
        if not known and ranks > 1:
            raise ConfigError(
                f"compute.ranks must be 1 for an encoder with {type(module).__name__}, got {ranks}"
            )


def _is_timms(norm: nn.Module) -> bool:
    """Whether this is timm's batch norm followed by an activation."""
    kind = type(norm)
    return kind.__name__ == "BatchNormAct2d" and kind.__module__.startswith("timm.")


def _shared_with_activation(norm: _BatchNorm, ranks: Ranks, device: torch.device) -> nn.Module:
    if not is_accelerator(device):
        return SharedNormAndActivation(norm, ranks)
    from timm.layers import convert_sync_batchnorm

    shared: nn.Module = convert_sync_batchnorm(norm)
    return shared


class SharedBatchNorm(_BatchNorm):
    """nn.SyncBatchNorm for CPUs, which torch lacks: (N, C) or (N, C, H, W) to the same shape.

    Each rank has some of the images; its outputs, gradients and running statistics are those of nn.BatchNorm over all
    of them. Gradients of weight and bias are this rank's part: their sum over ranks is the whole.
    """

    def __init__(self, norm: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=False)
        self.ranks = ranks
        self.affine, self.track_running_stats = norm.affine, norm.track_running_stats
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.training = norm.training

    def forward(self, input: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        output, mean, variance, count = _Normalise.apply(
            input, self.weight, self.bias, self.eps, self.ranks
        )
        if self.training and self.track_running_stats and self.running_mean is not None:
            self._track(mean, variance * (count / (count - 1)))
        return output

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm needs (N, C, ...), got {tuple(input.shape)}")

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:  # torch's name for the cumulative average
            momentum = 1 / float(self.num_batches_tracked)
        self.running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
        self.running_var.mul_(1 - momentum).add_(variance, alpha=momentum)


class SharedNormAndActivation(SharedBatchNorm):
    """timm's BatchNormAct2d over the images of all ranks: what follows its batch norm stays."""

    def __init__(self, norm: Any, ranks: Ranks) -> None:
        super().__init__(norm, ranks)
        self.drop, self.act = norm.drop, norm.act

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.act(self.drop(super().forward(input)))
        return output


class _Normalise(torch.autograd.Function):
    """Normalisation by the statistics of all ranks; also returns these, and the number of values per channel.

    With x^ the normalised input, y = w x^ + b, n values per channel and sums over all ranks:
    dx = w / sigma * (dy - sum(dy) / n - x^ * sum(dy x^) / n).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        mean, variance, count = _statistics(x, ranks)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.ranks, ctx.count = eps, ranks, count
        ctx.mark_non_differentiable(mean, variance)
        return _affine(x, mean, variance, weight, bias, eps), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        # With fixed statistics: w dy / sigma, this rank's sum(dy x^), and its sum(dy).
        dx, along, total = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack(ctx.ranks.gather(torch.stack([along, total]))).double().sum(0)
        slope = torch.rsqrt(variance + ctx.eps) * (1 if weight is None else weight)
        share_along, share_total = (-sums / ctx.count * slope).to(mean.dtype)
        dx += _affine(x, mean, variance, share_along, share_total, ctx.eps)
        needs = ctx.needs_input_grad
        return dx, along if needs[1] else None, total if needs[2] else None, None, None


def _affine(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """weight * (x - mean) / sqrt(variance + eps) + bias, with torch's own kernel."""
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)


def _statistics(x: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor, int]:
    """Each channel's mean and biased variance over all ranks, and the number of values per channel.

    Combines the ranks' means and variances in the order of ranks (Chan et al. 1979): sums of squares would cancel.
    """
    # With float32 running statistics, which a momentum of 0 leaves alone, torch computes float32 statistics even of
    # half-precision values.
    precise = torch.promote_types(x.dtype, torch.float32)
    unused = torch.zeros(2, x.shape[1], dtype=precise, device=x.device)
    local_mean, local_variance = torch.batch_norm_update_stats(x, unused[0], unused[1], 0.0)
    local_count = torch.full_like(local_mean[:1], x.numel() // x.shape[1], dtype=torch.float64)
    local = torch.cat([local_count, local_mean.double(), local_variance.double()])
    everyones = torch.stack(ranks.gather(local))
    counts = everyones[:, :1]
    means, variances = everyones[:, 1:].chunk(2, dim=1)
    count = counts.sum()
    if count <= 1:
        raise ValueError(f"batch norm needs more than 1 value per channel, got {int(count)}")
    mean = (counts * means).sum(0) / count
    variance = (counts * (variances + (means - mean) ** 2)).sum(0) / count
    dtype = local_mean.dtype
    return mean.to(dtype), variance.to(dtype), int(count)


_PLAIN = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(SharedBatchNorm, SharedNormAndActivation),
)
"""Batch norms that do nothing but normalise, or are shared already."""
