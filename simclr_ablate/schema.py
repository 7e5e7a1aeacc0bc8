"""The config as dataclasses: every key with its meaning, unit, allowed values, and whether it makes a run what it is.

Values come from the YAML files under `conf/`; nothing has a default here, so there is one place to look one up.
`Experiment.from_config` turns nested mappings into checked, frozen dataclasses and refuses what is wrong by name.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from simclr_ablate.config import ConfigError, build, is_own, key, one_of

SCHEMA_VERSION = 2
"""Part of every run id. Raised when the meaning of a key or of a metric changes, so that old runs are not taken for
new ones. 2: `views.color` in place of `views.brightness`; the entropy and accuracy of pretraining are over the other
view's images, no longer over all views."""


OPERATION_NAMES = ("crop", "cutout", "color", "sobel", "noise", "blur", "rotate")
"""The operations of Figure 5, in its order."""

LOSS_NAMES = ("nt_xent", "nt_logistic", "margin_triplet")
"""The losses of Table 2, in its order."""


MAX_STRENGTH = 2.5
"""At more, hue would turn by over half of its circle."""

WIDTHS = (1, 2, 4)
"""Multipliers of the common ResNets' channels (Figure 7); resnet8 takes any."""

SHAPES_SIDE = 32
"""Pixels that the embedded images are drawn at."""


@dataclass(frozen=True)
class Data:
    """Where the images come from, and how they are split."""

    name: str = key(
        "kind of data set",
        choices=("shapes", "image_folder", "cifar10", "cifar100", "stl10", "imagenet"),
        own=True,
    )
    root: str | None = key(
        "folder of the images, whose EXIF rotation is ignored; null: the cache", identity=False
    )
    size: int = key("side of the images given to the encoder, pixels", at_least=8)
    limit: int | None = key("training images kept, balanced over classes; null: all", at_least=1)
    validation: int = key("images held out of training, for choosing anything", at_least=1)
    on_error: str = key("an unreadable image", choices=("raise", "skip"))
    seed: int = key("seed of the split, of `limit` and of the drawn shapes", at_least=0)
    label: str | None = key("short name for reports; null: the data set's or folder's own")
    fingerprint: str | None = key(
        "hash of the images, which image_folder and your own function's are made for when a run is planned; "
        "imagenet: of all names and sizes, and of 1,000 files' contents"
    )


@dataclass(frozen=True)
class Views:
    """How the two views of an image are made (Section 3, App. A).

    Supervised training has one: the first branch's, which is the changed one of a pair.
    """

    policy: str = key(
        "simclr, crop (and flip alone), autoaugment: both views; pair: Figure 5's one branch; none",
        choices=("simclr", "crop", "autoaugment", "pair", "none"),
        own=True,
    )
    first: str | None = key("pair: first operation", choices=OPERATION_NAMES, own=True)
    second: str | None = key(
        "pair: second operation; the same as the first: that one alone",
        choices=OPERATION_NAMES,
        own=True,
    )
    strength: float = key("strength s of colour jitter (App. A)", at_least=0, at_most=MAX_STRENGTH)
    color: str = key(
        "colour operations: torchvision's, or those of the paper's code (App. A has both)",
        choices=("pytorch", "tensorflow"),
    )
    blur: bool = key("Gaussian blur with probability 0.5")
    extra: str | None = key(
        "simclr: one more operation, last, on some of the images (Table 3)",
        choices=("rotate", "noise", "sobel"),
        own=True,
    )
    crop_area: float = key("smallest area of a random resized crop, a share", above=0, at_most=1)
    interpolation: str = key("of crops", choices=("bicubic", "bilinear"))


@dataclass(frozen=True)
class Encoder:
    """The encoder f; h is the output of its average pool."""

    architecture: str = key(
        "ResNet", choices=("resnet8", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    )
    width: int = key("multiplier of every stage's channels", at_least=1)
    stem: str = key(
        "imagenet: 7x7/2 and pool; cifar: 3x3/1; strided: 3x3/2",
        choices=("imagenet", "cifar", "strided"),
    )


@dataclass(frozen=True)
class Head:
    """The projection head g; z = g(h)."""

    kind: str = key("projection head", choices=("none", "linear", "nonlinear"), own=True)
    dim: int = key("width of z", at_least=1)


@dataclass(frozen=True)
class Loss:
    """The contrastive loss."""

    name: str = key("loss", choices=LOSS_NAMES, own=True)
    temperature: float = key(
        "temperature tau; margin_triplet: of the entropy that is reported only", above=0
    )
    normalize: bool = key("l2-normalise z (Table 5)")
    negatives: str = key("views that negatives come from (Table 4: one)", choices=("both", "one"))
    margin: float | None = key(
        "margin_triplet: margin m; the others, semi-hard: of the negatives, null: none", at_least=0
    )
    semi_hard: bool = key(
        "of the negatives that are farther than the positive and within the margin, only the "
        "nearest (Table 4: sh)"
    )
    reduction: str = key(
        "nt_logistic, not semi-hard: an anchor's negatives are summed, or weigh as much together "
        "as its positive",
        choices=("sum", "mean"),
    )


@dataclass(frozen=True)
class Optimizer:
    """The optimiser, its schedule and the length of training."""

    name: str = key("optimiser", choices=("lars", "sgd", "adamw"))
    lr: float = key("base learning rate; `lr_rule` makes the peak of it", above=0)
    lr_rule: str = key(
        "peak: linear lr*B/256, sqrt lr*sqrt(B), constant lr",
        choices=("linear", "sqrt", "constant"),
    )
    momentum: float = key("momentum; AdamW's first beta", at_least=0, below=1)
    weight_decay: float = key("weight decay, not on biases and batch norm", at_least=0)
    warmup_epochs: float = key("epochs of linear warm-up from 0", at_least=0)
    epochs: int = key("epochs of pretraining; the schedule ends with them", at_least=1)
    batch_size: int = key(
        "images in a batch, N; a step sees 2N views, a supervised one N", at_least=2
    )
    micro_batch: int | None = key(
        "images whose views are in memory at a time; gradients stay the whole batch's, batch norm "
        "sees micro-batches; null: all",
        at_least=2,
    )


@dataclass(frozen=True)
class Evaluation:
    """What is measured on the frozen encoder (App. B.6, B.8). Stored apart from pretraining.

    A supervised run brings its own classifier, which is measured in place of one fitted with l2.
    """

    features: str = key("representation evaluated: h, or z = g(h)", choices=("h", "z"))
    l2_count: int = key("number of l2 strengths tried on the validation split", at_least=1)
    l2_min: float = key(
        "smallest l2 strength, log-spaced to the largest", at_least=1e-30, at_most=1e30
    )
    l2_max: float = key("largest l2 strength", at_least=1e-30, at_most=1e30)
    knn: int = key("neighbours of the kNN classifier", at_least=1)
    probe: str | None = key(
        "transformation that an MLP is to tell from the features (Table 3); null: linear and kNN",
        choices=("color", "rotation", "noise", "sobel"),
    )


@dataclass(frozen=True)
class Compute:
    """How the machine does the work; none of it belongs to a run's identity."""

    device: str = key("auto, cpu, cuda or cuda:N", identity=False)
    threads: int | None = key("CPU threads; null: the launcher's share", at_least=1, identity=False)
    workers: int | None = key(
        "processes of each rank that decode images; null: from the cores",
        at_least=0,
        identity=False,
    )
    ranks: int | None = key(
        "processes that share one run, one per GPU; null: one per GPU that the launcher gives, else one",
        at_least=1,
        identity=False,
    )
    channels_last: bool = key("channels-last memory format, the faster one", identity=False)
    checkpoint_minutes: float = key("minutes between checkpoints", at_least=0, identity=False)


@dataclass(frozen=True)
class Experiment:
    """All that one run depends on: frozen at submission, stored beside its results."""

    objective: str = key(
        "contrastive, supervised (one view, a linear classifier on h; head and loss don't count), "
        "or none for the random encoder",
        choices=("contrastive", "supervised", "none"),
    )
    seed: int = key("seed of weights, order and views", at_least=0)
    precision: str = key("of the encoder's arithmetic", choices=("float32", "bfloat16"))
    data: Data = key("the images")
    views: Views = key("how views are made")
    encoder: Encoder = key("f")
    head: Head = key("g")
    loss: Loss = key("the loss")
    optimizer: Optimizer = key("how it is trained")
    evaluation: Evaluation = key("what is measured")
    compute: Compute = key("how the machine works")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The checked experiment in `config` (nested mappings). Raises ConfigError."""
        experiment = build(cls, config)
        check_experiment(experiment)
        return experiment

    def to_config(self) -> dict[str, Any]:
        """Nested dictionaries that `from_config` takes back."""
        return dataclasses.asdict(self)


def check_experiment(experiment: Experiment) -> None:
    """Raises ConfigError where keys that are right one by one do not go together."""
    _check_views(experiment.views)
    _check_loss(experiment.loss)
    _check_encoder(experiment.encoder)
    data, optimizer = experiment.data, experiment.optimizer
    if data.name == "shapes" and data.size != SHAPES_SIDE:
        raise ConfigError(f"data.size must be {SHAPES_SIDE} for data=shapes, got {data.size}")
    if data.name == "imagenet" and experiment.objective != "none":
        _check_streamed(experiment.views)
    if data.name in ("image_folder", "imagenet") and data.root is None:
        raise ConfigError(f"data.root must be a folder of images for data={data.name}, got null")
    if optimizer.warmup_epochs > optimizer.epochs:
        raise ConfigError(
            f"optimizer.warmup_epochs must be <= optimizer.epochs ({optimizer.epochs}), "
            f"got {optimizer.warmup_epochs}"
        )
    micro_batch = optimizer.micro_batch
    if micro_batch is not None and optimizer.batch_size % micro_batch:
        raise ConfigError(
            f"optimizer.micro_batch must divide optimizer.batch_size ({optimizer.batch_size}), "
            f"got {micro_batch}"
        )
    if experiment.objective == "supervised" and experiment.evaluation.features != "h":
        raise ConfigError(
            "evaluation.features must be h for objective=supervised, which has no head, "
            f"got {experiment.evaluation.features!r}"
        )
    _check_strengths(experiment.evaluation)
    device = experiment.compute.device
    if device not in ("auto", "cpu", "cuda") and not (
        device.startswith("cuda:") and device[5:].isdigit()
    ):
        raise ConfigError(f"compute.device must be auto, cpu, cuda or cuda:N, got {device!r}")
    if experiment.compute.ranks is not None:
        check_ranks(experiment, experiment.compute.ranks)


def check_ranks(experiment: Experiment, ranks: int) -> None:
    """Raises ConfigError where `ranks` processes cannot share the experiment's run evenly."""
    optimizer, device = experiment.optimizer, experiment.compute.device
    named = {
        "optimizer.batch_size": optimizer.batch_size,
        "optimizer.micro_batch": optimizer.micro_batch,
    }
    for name, images in named.items():
        if images is not None and images % ranks:
            raise ConfigError(f"{name} must be a multiple of compute.ranks ({ranks}), got {images}")
    if ranks > 1 and device.startswith("cuda:"):
        raise ConfigError(
            f"compute.device must be auto, cpu or cuda with compute.ranks={ranks}, got {device!r}"
        )


def _check_strengths(evaluation: Evaluation) -> None:
    """Both ends are tried, so one strength is both."""
    smallest, largest = evaluation.l2_min, evaluation.l2_max
    if largest < smallest:
        raise ConfigError(
            f"evaluation.l2_max must be >= evaluation.l2_min ({smallest}), got {largest}"
        )
    if evaluation.l2_count == 1 and largest != smallest:
        raise ConfigError(
            f"evaluation.l2_max must equal evaluation.l2_min ({smallest}) where evaluation.l2_count is 1, got {largest}"
        )


def _check_views(views: Views) -> None:
    if views.extra is not None and views.policy != "simclr":
        raise ConfigError(f"views.extra needs views.policy=simclr, got views.policy={views.policy}")
    named = {"views.first": views.first, "views.second": views.second}
    for name, operation in named.items():
        if views.policy == "pair" and operation is None:
            raise ConfigError(f"{name} must be {one_of(OPERATION_NAMES, own=True)}, got null")
        if views.policy != "pair" and operation is not None:
            raise ConfigError(f"{name} needs views.policy=pair, got views.policy={views.policy}")


def _check_streamed(views: Views) -> None:
    """Streamed images are cropped while they are decoded."""
    if views.policy == "none":
        raise ConfigError(
            "views.policy must begin with a crop for data=imagenet, which is streamed, as simclr, crop, "
            "autoaugment and pair do, got 'none'"
        )


def _check_encoder(encoder: Encoder) -> None:
    if encoder.architecture != "resnet8" and encoder.width not in WIDTHS:
        raise ConfigError(
            f"encoder.width must be {one_of(WIDTHS)} for encoder.architecture="
            f"{encoder.architecture}, got {encoder.width}"
        )


def _check_loss(loss: Loss) -> None:
    """Keys that a loss does not use have one value, for one run to have one id."""
    if is_own(loss.name):
        return  # it may use all keys
    if loss.name != "margin_triplet" and not loss.semi_hard and loss.margin is not None:
        raise ConfigError(
            f"loss.margin must be null with loss.name={loss.name} and loss.semi_hard=false, "
            f"got {loss.margin}"
        )
    if loss.name == "margin_triplet" and loss.margin is None:
        raise ConfigError("loss.margin must be >= 0 with loss.name=margin_triplet, got null")
    if loss.semi_hard and loss.margin == 0:
        raise ConfigError("loss.margin must be > 0 with loss.semi_hard=true, got 0")
    if loss.reduction != "sum" and (loss.name != "nt_logistic" or loss.semi_hard):
        raise ConfigError(
            "loss.reduction=mean needs loss.name=nt_logistic and loss.semi_hard=false, "
            f"got loss.name={loss.name} and loss.semi_hard={str(loss.semi_hard).lower()}"
        )
