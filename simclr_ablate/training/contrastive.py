"""Pretraining by a contrastive loss: the steps of Algorithm 1."""

import torch
from torch import Tensor

from simclr_ablate.training.loop import Batch, Loop
from simclr_ablate.training.micro_batches import backward_in_parts


class ContrastivePretraining(Loop):
    """Trains encoder and projection head so that the two views of an image find each other."""

    VIEWS = 2
    SEEN = "pairs"
    METRICS = ("loss", "accuracy", "entropy")

    def _backward(self, batch: Batch) -> Tensor:
        """Algorithm 1 for one batch."""
        parts, ranks = self._parts(), self.training.ranks
        if len(parts) == ranks.count == 1:
            result = self.training.loss(self._outputs(batch.views))
            result.loss.backward()
        else:
            networks = (self.training.encoder, self.training.head)
            result = backward_in_parts(
                lambda part: self._outputs(batch.views.of(part)),
                parts,
                self.training.loss,
                networks,
                ranks,
            )
        return torch.stack([result.loss, result.accuracy, result.entropy]).detach()
