"""What protocols that train share: their loop, and the scores of the classifier that it trains."""

from collections.abc import Callable

from torch import Tensor, nn

from simclr_ablate.augment.policies import crop_policy
from simclr_ablate.config import ConfigError
from simclr_ablate.data.images import Images
from simclr_ablate.evaluation.features import FEATURE_BATCH, extract
from simclr_ablate.evaluation.metrics import METRICS
from simclr_ablate.evaluation.protocol import Result, Subject, classified
from simclr_ablate.losses.cross_entropy import binary_cross_entropy, cross_entropy
from simclr_ablate.models.batch_norm import share_statistics
from simclr_ablate.models.classifier import build_classifier
from simclr_ablate.models.encoder import memory_format
from simclr_ablate.randomness import derive_seed, seeded_init
from simclr_ablate.schema import Optimizer
from simclr_ablate.training.loop import Loop, Training
from simclr_ablate.training.supervised import SupervisedTraining, require_labels


def build_loop(
    subject: Subject,
    encoder: nn.Module,
    width: int,
    images: Images,
    lr: float,
    weight_decay: float = 0.0,
    steps: int | None = None,
    frozen: bool = False,
) -> Loop:
    """A loop that trains a new linear classifier on the outputs of `encoder`, and the encoder unless it is `frozen`.

    It trains by `sgd_of` on crops and flips; if images have several labels, by `binary_cross_entropy`. The
    classifier, the order of images and their views are drawn from the experiment's seed.

    width: the width of the outputs. lr: the learning rate for a batch of 256, scaled in proportion to the batch; with
    `steps`, which replaces `evaluation.epochs`, the learning rate of any batch.

    Raises ConfigError for images without labels, and if a batch has fewer images than there are ranks.
    """
    experiment, spec = subject.experiment, subject.experiment.evaluation
    ranks, device = subject.ranks, subject.device
    check_labels(subject, images)
    # The same for any number of ranks, which may share it unevenly.
    batch_size = min(spec.batch_size, len(images))
    if batch_size < ranks.count:
        raise ConfigError(
            f"compute.ranks must be <= {batch_size}, the images in a batch of "
            f"evaluation.protocol={spec.protocol}, got {ranks.count}"
        )
    with seeded_init(experiment.seed, f"{spec.protocol} classifier"):
        classifier = build_classifier(width, subject.classes).to(device)
    if not frozen:
        share_statistics(encoder, ranks, device)
    lr_rule = "linear" if steps is None else "constant"
    return SupervisedTraining(
        Training(
            images=images.to(device),
            policy=crop_policy(experiment.evaluated_data.size, crop_area=spec.crop_area),
            encoder=encoder,
            head=classifier,
            loss=cross_entropy if images.labels.ndim == 1 else binary_cross_entropy,
            optimizer=sgd_of(subject, batch_size, lr, lr_rule, weight_decay),
            seed=derive_seed(experiment.seed, spec.protocol),
            precision=experiment.precision,
            layout=memory_format(experiment.compute),
            device=device,
            ranks=ranks,
            steps=steps,
            compile=experiment.compute.compile,
            frozen=frozen,
        )
    )


def sgd_of(
    subject: Subject, batch_size: int, lr: float, lr_rule: str, weight_decay: float
) -> Optimizer:
    """SGD with Nesterov momentum 0.9, and half a cosine without warm-up, as in the released code."""
    return Optimizer(
        name="sgd",
        lr=lr,
        lr_rule=lr_rule,
        momentum=0.9,
        weight_decay=weight_decay,
        warmup_epochs=0,
        epochs=subject.experiment.evaluation.epochs,
        batch_size=batch_size,
        micro_batch=None,
    )


def train_and_test(subject: Subject, make_loop: Callable[[], Loop]) -> Result:
    """Trains the loop's classifier once, and scores it on the test and validation splits.

    Nothing is chosen on the validation split. Ranks other than the first get an empty result.
    """
    metric, data = subject.metric, subject.data
    result = Result({}, {})

    def finish(loop: Loop) -> dict[str, float]:
        nonlocal result
        (validation, known), (test, labels) = (
            scores_of(loop, images) for images in (data.validation, data.test)
        )
        if not subject.ranks.is_first:
            return {}
        metrics, examples = classified(test, labels, metric)
        metrics[f"validation_{metric}"] = METRICS[metric](validation, known)
        result = Result(metrics, examples)
        return metrics

    subject.train(make_loop, finish)
    return result


def check_labels(subject: Subject, images: Images) -> None:
    """Raises ConfigError for images without labels."""
    experiment = subject.experiment
    named = f"evaluation.protocol={experiment.evaluation.protocol}"
    require_labels(images, named, experiment.evaluated_data.name)


def scores_of(loop: Loop, images: Images) -> tuple[Tensor, Tensor]:
    """The trained classifier's logits (N, classes) of `images`, in eval mode, and labels, on the CPU.

    Ranks share the images; the first gets all results, the others nothing.
    """
    training = loop.training
    batches = images.batches(FEATURE_BATCH, training.ranks)
    scores = extract(training.encoder, batches, training.device, training.head, training.ranks)
    return scores.features, scores.labels
