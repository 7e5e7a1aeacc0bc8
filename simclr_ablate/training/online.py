"""What a contrastive run's representation is worth, measured beside its training (`evaluation.online`).

A linear classifier learns the classes from h of the views, and says of each batch how many it got right before it
learned from it. It gets h without its graph, so no gradient of it reaches the encoder, and it draws no random numbers
that training would draw: the run's weights are the same bits with and without it. Its inputs are normalised row by row,
so neither micro-batches nor ranks change what it sees.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from simclr_ablate.models.classifier import build_classifier
from simclr_ablate.randomness import seeded_init
from simclr_ablate.ranks import SOLO, Ranks

LEARNING_RATE = 3e-3
"""Adam's, constant: the encoder that the classifier follows changes to the end."""


class OnlineEvaluation:
    """Measures top-1 of a linear classifier on h, in percent, and the effective rank of z.

    every: steps between two at which the rank is measured; at others it is NaN.
    """

    METRICS = ("online_top1", "effective_rank")

    def __init__(
        self,
        width: int,
        classes: int,
        seed: int,
        device: torch.device,
        every: int = 1,
        ranks: Ranks = SOLO,
    ) -> None:
        with seeded_init(seed, "online classifier"):
            self.classifier = build_classifier(width, classes).to(device)
        self.optimizer = torch.optim.Adam(self.classifier.parameters(), lr=LEARNING_RATE)
        self.every, self.ranks = every, ranks
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def take(self, h: Tensor, z: Tensor, labels: Tensor) -> None:
        """Takes some of a batch's views: h (M, width), z (M, D), and the classes of their images (M,)."""
        self._parts.append((h.detach().float(), z.detach(), labels))

    def finish(self, step: int) -> Tensor:
        """METRICS of the views taken since the last call, on all ranks, which must all call it; then learns from them.

        step: the number of the step, counted from 1.
        """
        h, z, labels = map(torch.cat, zip(*self._parts, strict=True))
        self._parts.clear()
        with torch.enable_grad():
            logits = self.classifier(F.layer_norm(h, h.shape[1:]))
            loss = F.cross_entropy(logits, labels, reduction="sum")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        right = (logits.detach().argmax(1) == labels).sum()
        counts = torch.stack([right, torch.full_like(right, len(labels))]).float()
        gradients = [p.grad for p in self.classifier.parameters() if p.grad is not None]
        self.ranks.sum_([counts, *gradients])
        for gradient in gradients:
            gradient /= counts[1]
        self.optimizer.step()
        rank = self._rank(z) if step % self.every == 0 else torch.full_like(counts[0], math.nan)
        return torch.stack([100 * counts[0] / counts[1], rank])

    def _rank(self, z: Tensor) -> Tensor:
        z = z.double() if z.device.type != "mps" else z.float()
        gram = z.T @ z
        self.ranks.sum_([gram])
        return effective_rank(gram).float()

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "classifier": self.classifier.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])


def effective_rank(gram: Tensor) -> Tensor:
    """The exponential of the entropy of z's singular values, normalised to sum to 1 (Roy & Vetterli 2007).

    gram: z^T z, (D, D), whose eigenvalues are the squares of z's singular values.

    Returns a number between 1 and D; NaN if z is 0 or not finite.
    """
    # For a matrix that is not finite, the decomposition would raise. The loop has an error of its own for that.
    decomposed = torch.linalg.eigvalsh(gram.nan_to_num(nan=0, posinf=0, neginf=0))
    singular = decomposed.clamp(min=0).sqrt()
    shares = singular / singular.sum()
    rank = torch.special.entr(shares).sum().exp()
    return torch.where(gram.isfinite().all(), rank, math.nan)
