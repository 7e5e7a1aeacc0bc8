"""Training on few labels (Section 6, App. B.5): the protocol `few_labels`.

The encoder and a new linear classifier on h are trained on a balanced part of the labels, or on all (Table B.2). The
paper takes 1% or 10% of them, and trains for 60 or 30 epochs in batches of 4096, with Nesterov momentum, a learning
rate of 0.05 B / 256 without warm-up, no weight decay, and random crops and flips. The baseline is the same from random
weights, `objective=none`.
"""

from simclr_ablate.data.images import Images
from simclr_ablate.data.splits import take_balanced
from simclr_ablate.evaluation.protocol import Evaluator, Result, Subject
from simclr_ablate.evaluation.training import build_loop, check_labels, train_and_test
from simclr_ablate.training.loop import Loop


def evaluate(subject: Subject) -> Result:
    """The accuracies of the encoder and classifier after training."""
    few = labelled_part(subject)

    def make_loop() -> Loop:
        return build_loop(
            subject, subject.encoder, subject.encoder.dim, few, subject.experiment.evaluation.lr
        )

    result = train_and_test(subject, make_loop)
    if not subject.ranks.is_first:
        return result
    return Result({**result.metrics, "train_images": len(few)}, result.examples)


PROTOCOL = Evaluator(on_network=evaluate)


def labelled_part(subject: Subject) -> Images:
    """The training images whose labels are used: all, or a choice that is balanced over classes.

    The choice depends only on the data set's seed, so all encoders and the baseline get the same images.
    """
    images, wanted = subject.data.train, subject.experiment.evaluation.labels
    check_labels(subject, images)
    if wanted is None:
        return images
    counts = images.labels.bincount(minlength=subject.classes)
    if wanted < 1:
        total, most = round(wanted * len(images)), counts.tolist()
    else:
        most = counts.clamp(max=int(wanted)).tolist()
        total = sum(most)
    seed = subject.experiment.evaluated_data.seed
    return images.subset(take_balanced(images.labels, max(total, 1), most, seed, "few labels"))
