"""Training on few labels (Section 6, App. B.5): the protocol `few_labels`.

The encoder and a new linear classifier on h are trained on a balanced part of the labels, 1% or 10% in the paper: with
Nesterov momentum, batches of 4096, a learning rate of .05 B / 256 without warm-up, no weight decay, and random crops
and flips; for 60 epochs with 1%, for 30 with 10%. The same from random weights, `objective=none`, is the baseline.
"""

from simclr_ablate.data.images import Images
from simclr_ablate.data.splits import take_balanced
from simclr_ablate.evaluation.metrics import METRICS
from simclr_ablate.evaluation.protocol import Evaluator, Result, Subject, classified
from simclr_ablate.evaluation.training import build_loop, check_labels, scores_of
from simclr_ablate.training.loop import Loop


def evaluate(subject: Subject) -> Result:
    """Accuracies of what was trained."""
    spec, metric, data = subject.experiment.evaluation, subject.metric, subject.data
    few = labelled_part(subject)
    result = Result({}, {})

    def make_loop() -> Loop:
        return build_loop(subject, subject.encoder, subject.encoder.dim, few, spec.lr)

    def finish(loop: Loop) -> dict[str, float]:
        nonlocal result
        (validation, known), (test, labels) = (
            scores_of(loop, images) for images in (data.validation, data.test)
        )
        if not subject.ranks.is_first:
            return {}
        metrics, examples = classified(test, labels, metric)
        metrics[f"validation_{metric}"] = METRICS[metric](validation, known)
        result = Result({**metrics, "train_images": len(few)}, examples)
        return metrics

    subject.train(make_loop, finish)
    return result


PROTOCOL = Evaluator(on_network=evaluate)


def labelled_part(subject: Subject) -> Images:
    """The training images whose labels are used, balanced over classes.

    Which ones depends on the data set's seed alone, so that all encoders, and the baseline, have the same.
    """
    images, wanted = subject.data.train, subject.experiment.evaluation.labels
    assert wanted is not None  # the schema has seen to it
    check_labels(subject, images)
    counts = images.labels.bincount(minlength=subject.classes)
    if wanted < 1:
        total, most = round(wanted * len(images)), counts.tolist()
    else:
        most = counts.clamp(max=int(wanted)).tolist()
        total = sum(most)
    seed = subject.experiment.evaluated_data.seed
    return images.subset(take_balanced(images.labels, max(total, 1), most, seed, "few labels"))
