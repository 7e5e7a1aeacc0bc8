"""Exact contrastive gradients of a batch that does not fit in memory: gradient caching (Gao et al. 2021, section 3.2).

The loss needs all embeddings at once, but z is only a few numbers per view; what fills the memory is the graph that
leads to it. So the embeddings of all parts are computed without a graph, then the loss's gradient with respect to them.
Then each part is computed once more with a graph, through which that gradient flows back. This costs a second forward
pass.

The same works for a batch that several processes share: z is small enough for each of them to hold all of it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from simclr_ablate.losses.exact import ContrastiveLoss
from simclr_ablate.ranks import SOLO, Ranks


def backward_in_parts(
    embed: Callable[[slice], Tensor],
    parts: Sequence[slice],
    loss: Callable[[Tensor], ContrastiveLoss],
    networks: Iterable[nn.Module],
    ranks: Ranks = SOLO,
) -> ContrastiveLoss:
    """`loss(z).loss.backward()` with the graph of one part at a time; returns the loss, detached.

    embed: gives z, (2n, D), of a part's n images, first views before second views. It is called twice for each part,
        and must give the same z both times. A single part needs only one call, with its graph.
    networks: the networks that `embed` uses, which are trained. In training mode their batch norm normalises each part
        by itself and updates running statistics once for each part; in eval mode, or without batch norm, the gradients
        are those of the whole batch.
    ranks: the processes that share every part evenly. Each embeds its own images, all gather the whole z for the loss,
        and the gradients of their own z sum to those of the whole batch.

    Raises ValueError if ranks cannot share a part evenly.
    """
    for images in (part.stop - part.start for part in parts):
        if images % ranks.count:
            raise ValueError(f"{images} images cannot be shared evenly by {ranks.count} ranks")
    networks = list(networks)
    own = [ranks.share(part) for part in parts]
    if len(parts) == 1:
        embedded = [embed(own[0])]
    else:
        with torch.no_grad(), unmoved_statistics(networks):
            embedded = [embed(part) for part in own]
    z = _whole_batch(embedded, parts, ranks).requires_grad_()
    result = loss(z)
    result.loss.backward()
    assert z.grad is not None
    first, second = z.grad.chunk(2)
    result = ContrastiveLoss(result.loss.detach(), result.accuracy, result.entropy)
    del z  # otherwise the loss's graph would keep it through the second pass
    for part, known in zip(own, embedded, strict=True):
        again = known if known.requires_grad else embed(part)
        again.backward(torch.cat([first[part], second[part]]))
    ranks.sum_([p.grad for net in networks for p in net.parameters() if p.grad is not None])
    return result


def _whole_batch(embedded: Sequence[Tensor], parts: Sequence[slice], ranks: Ranks) -> Tensor:
    """z, (2N, D), in the order of the images; embedded: this rank's share of each part, (2n, D)."""
    views = zip(*(z.detach().chunk(2) for z in embedded), strict=True)
    own = torch.stack([torch.cat(view) for view in views])
    everyones = torch.cat(ranks.gather(own), dim=1)
    z = torch.empty_like(everyones)
    start = 0
    for shares in zip(*map(ranks.shares, parts), strict=True):
        for share in shares:  # rank by rank, as they were gathered
            stop = start + share.stop - share.start
            z[:, share] = everyones[:, start:stop]
            start = stop
    return z.flatten(0, 1)


@contextmanager
def unmoved_statistics(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, batch norm in training mode leaves its running statistics alone: the second pass updates them."""
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
