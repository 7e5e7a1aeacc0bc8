"""Supervised training, the paper's baseline: one view of each image, and a linear classifier on h."""

import torch
from torch import Tensor

from simclr_ablate.config import ConfigError
from simclr_ablate.data.images import Images
from simclr_ablate.device import send
from simclr_ablate.training.loop import Batch, Loop


def require_labels(images: Images, named: str, data: str) -> None:
    """Raises ConfigError for images without labels, which `named` (`key=value`) needs. data: the data set's name."""
    if images.labels.ndim == 1 and bool((images.labels < 0).any()):
        raise ConfigError(
            f"{named} needs a label for every training image, which data={data} lacks"
        )


class SupervisedTraining(Loop):
    """Trains encoder and linear classifier by cross entropy on the images' labels.

    With micro-batches or several ranks, the parts' shares of the mean's gradient are summed. Batch norm normalises each
    micro-batch by itself, over all ranks.
    """

    VIEWS = 1
    SEEN = "images"
    METRICS = ("loss", "accuracy")

    def _backward(self, batch: Batch) -> Tensor:
        """Computes the gradients of the mean over the images of all parts and ranks."""
        ranks, size = self.training.ranks, len(batch.labels)
        labels = send(batch.labels, self.training.device)
        shares = []
        for part in self._parts():
            own = ranks.share(part)
            logits = self._outputs(batch.views.of(own))
            share = self.training.loss(logits, labels[own], size)
            share.loss.backward()
            shares.append(torch.stack([share.loss.detach(), share.accuracy]))
        metrics = torch.stack(shares).sum(0)
        networks = self.training.trained
        ranks.sum_([p.grad for net in networks for p in net.parameters() if p.grad is not None])
        ranks.sum_([metrics])
        return metrics
