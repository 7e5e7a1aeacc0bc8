"""Linear evaluation by SGD, the paper's own for ImageNet (App. B.6): the protocol `linear_sgd`.

The encoder is frozen and in eval mode, batch norm included. A linear classifier on top is trained on random crops and
flips, with Nesterov momentum and no weight decay. The paper trains for 90 epochs in batches of 4096, with a learning
rate of 0.1 B / 256. Nothing is chosen on the validation split.
"""

from torch import nn

from simclr_ablate.evaluation.protocol import Evaluator, Result, Subject
from simclr_ablate.evaluation.training import build_loop, train_and_test
from simclr_ablate.models.head import Head, OwnHead
from simclr_ablate.training.loop import Loop


def evaluate(subject: Subject) -> Result:
    """The accuracies of the classifier."""
    spec = subject.experiment.evaluation
    network: nn.Module = subject.encoder
    width = subject.encoder.dim
    if isinstance(subject.head, Head | OwnHead) and spec.features == "z":
        network, width = nn.Sequential(subject.encoder, subject.head), subject.head.dim

    def make_loop() -> Loop:
        return build_loop(subject, network, width, subject.data.train, spec.lr, frozen=True)

    return train_and_test(subject, make_loop)


PROTOCOL = Evaluator(on_network=evaluate)
