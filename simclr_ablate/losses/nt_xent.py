"""NT-Xent, the normalised temperature-scaled cross entropy loss (Eq. 1), block by block."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from simclr_ablate.losses.blockwise import Block, SimilarityBlocks
from simclr_ablate.losses.candidates import Candidates, OtherView
from simclr_ablate.losses.exact import (
    ContrastiveLoss,
    Terms,
    contrastive_loss,
    for_both_anchors,
    gradient_of_negatives,
    pull_to_positives,
)
from simclr_ablate.losses.semi_hard import margin_in_logits, semi_hard_negatives
from simclr_ablate.ranks import SOLO, Ranks


def nt_xent(
    z: Tensor,
    temperature: float,
    normalize: bool = True,
    negatives: str = "both",
    semi_hard: bool = False,
    margin: float | None = None,
    block_size: int | None = None,
    ranks: Ranks = SOLO,
) -> ContrastiveLoss:
    """NT-Xent, Eq. 1 and Algorithm 1 of SimCLR: the mean over the 2N anchors of `-log p(positive)`.

    In five lines, with the 2N x 2N matrix that this function never holds:

        n, u = len(z) // 2, F.normalize(z) if normalize else z
        view = torch.arange(2 * n) // n
        barred = torch.eye(2 * n).bool() if negatives == "both" else view == view[:, None]
        logits = (u @ u.T / temperature).masked_fill(barred, -math.inf)
        loss = F.cross_entropy(logits, torch.arange(2 * n).roll(n))

    The released code adds the means of the two views, which makes twice this value. LARS removes the factor again,
    except for biases and the parameters of batch norm, which it does not adapt: here, their steps are half of those in
    the released code.

    z: (2N, D), rows i and i+N are the two views of image i. The arithmetic is float32, or float64 for a float64 z, even
        under autocast.
    temperature: tau, > 0.
    normalize: l2-normalise z first, which makes similarities cosines; without it, they are dot products (Table 5).
    negatives: which views are an anchor's negatives.
        `both`: all views of other images, 2N-2 negatives (Eq. 1).
        `one`: N-1 negatives. For Table 4, the paper takes "negatives from one augmentation view" and does not say
        which. Here it is the view that holds the anchor's positive: an anchor has one candidate for each image. The
        anchors are still both views.
    semi_hard, margin: as in `nt_logistic`; the softmax is over the positive and the one negative. Table 4 has no such
        column, because this loss already weighs its negatives by how hard they are.
    block_size: side of the blocks of similarities held at a time; None: a size that suits the device. It changes only
        memory, time and rounding.
    ranks: processes that share the work. All have the same z, that of the whole batch, and get the same loss and the
        gradient of all of z.

    Accuracy and entropy are always over the other view's candidates, whatever the negatives (see ContrastiveLoss).

    Memory grows with N, not with its square. The similarities are computed twice: first for the softmax's denominators,
    then for the exact gradient, which is ready when the forward pass ends. There is no second derivative.

    Raises ValueError if an argument is out of range.
    """
    within = margin_in_logits(semi_hard, margin, temperature)

    def evaluate(blocks: SimilarityBlocks) -> Terms:
        return _of_semi_hard(blocks, within) if semi_hard else _of_all(blocks)

    return contrastive_loss(z, evaluate, temperature, normalize, negatives, block_size, ranks)


def _of_all(blocks: SimilarityBlocks) -> Terms:
    candidates = Candidates(blocks)
    positive, negative, log_sum = candidates.positive, candidates.negative, candidates.log_sum

    def probabilities(block: Block) -> Tensor:
        def softmax(memory: Tensor, anchors: slice, dim: int) -> Tensor:
            log_sums = log_sum[anchors].unsqueeze(dim)
            return torch.sub(block.similarities, log_sums, out=memory).exp2_()

        return for_both_anchors(block, softmax)

    gradient = gradient_of_negatives(blocks, probabilities)
    # 1 - p(positive), precise even if p(positive) rounds to 1.
    pull_to_positives(gradient, blocks.v, torch.exp2(negative - log_sum))
    losses = F.softplus((negative - positive) * math.log(2))
    return Terms(losses, gradient, *candidates.other_view.accuracy_and_entropy())


def _of_semi_hard(blocks: SimilarityBlocks, margin: float) -> Terms:
    other_view = OtherView(blocks)
    positive = other_view.see_all()
    negative = semi_hard_negatives(blocks, positive, margin)
    logit = -negative.beyond * math.log(2)
    losses = negative.losses(F.softplus(logit), positive)
    share = logit.sigmoid()
    gradient = negative.gradient(blocks.v, share, share)
    return Terms(losses, gradient, *other_view.accuracy_and_entropy())
