"""Pretraining by a contrastive loss: the steps of Algorithm 1."""

import torch
from torch import Tensor

from simclr_ablate.device import send
from simclr_ablate.training.loop import Batch, Loop
from simclr_ablate.training.micro_batches import backward_in_parts


class ContrastivePretraining(Loop):
    """Trains encoder and projection head so that the two views of an image find each other."""

    VIEWS = 2
    SEEN = "pairs"
    METRICS = ("loss", "accuracy", "entropy")

    def _backward(self, batch: Batch) -> Tensor:
        """Algorithm 1 for one batch."""
        parts, ranks, online = self._parts(), self.training.ranks, self.training.online
        labels = None if online is None else send(batch.labels, self.training.device)
        if len(parts) == ranks.count == 1:
            result = self.training.loss(self._outputs(batch.views, labels))
            result.loss.backward()
        else:
            networks = (self.training.encoder, self.training.head)
            result = backward_in_parts(
                lambda part: self._outputs(batch.views.of(part), _of(labels, part)),
                parts,
                self.training.loss,
                networks,
                ranks,
            )
        metrics = torch.stack([result.loss, result.accuracy, result.entropy]).detach()
        return metrics if online is None else torch.cat([metrics, online.finish(self.step + 1)])


def _of(labels: Tensor | None, part: slice) -> Tensor | None:
    """The labels of a part's images, for those of its two passes that leave a graph: each view counts once."""
    return labels[part] if labels is not None and torch.is_grad_enabled() else None
