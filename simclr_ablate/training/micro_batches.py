"""Exact contrastive gradients of a batch that does not fit in memory: gradient caching (Gao et al. 2021, section 3.2).

The loss needs all embeddings at once, but of each only z, a few numbers; what fills the memory is the graph that leads
to it. So the embeddings of all parts are computed without a graph, then the loss's gradient with respect to them, then
each part once more with a graph, which that gradient enters. This costs a second forward pass.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from simclr_ablate.losses.nt_xent import ContrastiveLoss


def backward_in_parts(
    embed: Callable[[slice], Tensor],
    parts: Sequence[slice],
    loss: Callable[[Tensor], ContrastiveLoss],
    networks: Iterable[nn.Module],
) -> ContrastiveLoss:
    """`loss(z).loss.backward()` with the graph of one part at a time; returns the loss, detached.

    embed: z, (2n, D), of the n images of a part, its first views before its second. It is called twice for each part,
        and must give the same z both times.
    networks: what `embed` trains. In training mode their batch norm normalises each part by itself, and running
        statistics move once for each part; in eval mode, or without batch norm, the gradients are those of the whole
        batch.
    """
    with torch.no_grad(), _unmoved_statistics(networks):
        views = zip(*(embed(part).chunk(2) for part in parts), strict=True)
        z = torch.cat([half for view in views for half in view]).requires_grad_()
    result = loss(z)
    result.loss.backward()
    assert z.grad is not None
    first, second = z.grad.chunk(2)
    result = ContrastiveLoss(result.loss.detach(), result.accuracy, result.entropy)
    del z  # with the loss's graph it would stay through the second pass
    for part in parts:
        embed(part).backward(torch.cat([first[part], second[part]]))
    return result


@contextmanager
def _unmoved_statistics(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Batch norm in training mode leaves its running statistics alone: the second pass moves them."""
    norms = [
        module
        for network in networks
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    ]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
