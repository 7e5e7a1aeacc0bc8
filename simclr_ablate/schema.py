"""The config as dataclasses: every key with its meaning, unit, allowed values, and whether it makes a run what it is.

Values come from the YAML files under `conf/`; nothing has a default here, so there is one place to look one up.
`Experiment.from_config` turns nested mappings into checked, frozen dataclasses and refuses what is wrong by name.
"""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from simclr_ablate.config import (
    GIVEN,
    UNSET,
    ConfigError,
    build,
    flatten,
    is_own,
    key,
    keys,
    one_of,
)

SCHEMA_VERSION = 3
"""Part of every run id. Raised when the meaning of a key or of a metric changes, so that old runs are not taken for
new ones; a key that is added needs `key(before=...)` and no new version.

2: `views.color` in place of `views.brightness`; the entropy and accuracy of pretraining are over the other view's
images, no longer over all views. 3: a key is part of an id only where it counts. `old_schemas.py` says which runs of
before are as good as new ones."""


OPERATION_NAMES = ("crop", "cutout", "color", "sobel", "noise", "blur", "rotate")
"""The operations of Figure 5, in its order."""

METRICS = ("top1", "mean_per_class", "map11")
"""What an accuracy can be: the share of images, the mean of the classes' shares, 11-point mean average precision."""

LOSS_NAMES = ("nt_xent", "nt_logistic", "margin_triplet")
"""The losses of Table 2, in its order."""


_CROPPING = ("simclr", "crop", "autoaugment", "pair")
"""The policies that begin with a random resized crop."""

_COLORING = (
    {"views.policy": ("simclr",)},
    {"views.policy": ("pair",), "views.first": ("color",)},
    {"views.policy": ("pair",), "views.second": ("color",)},
)
"""When views are made with colour operations."""

_TRAINED = {"objective": ("contrastive", "supervised")}
"""When there is training at all: the random encoder has none."""


def _operation_of_pair(doc: str) -> Any:
    return key(
        doc,
        choices=OPERATION_NAMES,
        own=True,
        when={"views.policy": ("pair",)},
        otherwise=None,
    )


PROTOCOLS = {
    "linear": ("features", "l2_count", "l2_min", "l2_max", "knn"),
    "linear_sgd": ("features", "lr", "epochs", "batch_size", "crop_area"),
    "few_labels": ("labels", "lr", "epochs", "batch_size", "crop_area"),
    "finetune": (
        *("steps", "batch_size", "crop_area", "lr_count", "lr_min", "lr_max"),
        *("decay_count", "decay_min", "decay_max"),
    ),
    "knn": ("features", "knn"),
    "probe": ("features", "probe", "patience"),
}
"""The protocols, each with the keys of `evaluation` that it goes by; its code is the module of
`simclr_ablate.evaluation` that has its name."""


def main_metric(evaluation: Mapping[str, Any]) -> str | None:
    """The metric that an evaluation with these keys is known by; None for a protocol of the user's own."""
    protocol = evaluation.get("protocol") or implied_protocol(
        {"evaluation.probe": evaluation.get("probe")}
    )
    if is_own(protocol):
        return None
    return "probe_accuracy" if protocol == "probe" else "top1"


DATA_NAMES = ("shapes", "image_folder", "cifar10", "cifar100", "stl10", "imagenet")

_OTHER_DATA = {"evaluation.data.name": GIVEN}
"""When an encoder is evaluated on other images than the experiment's own."""


def _used(name: str) -> dict[str, tuple[str, ...]]:
    """When a protocol goes by the key `evaluation.NAME`."""
    return {"evaluation.protocol": tuple(p for p, names in PROTOCOLS.items() if name in names)}


def _fitted(name: str) -> tuple[dict[str, tuple[Any, ...]], ...]:
    """The same where a linear classifier is fitted: supervised training brings its own, for its own classes."""
    untrained = {**_used(name), "objective": ("contrastive", "none")}
    return untrained, {**_used(name), **_OTHER_DATA}


def implied_protocol(values: Mapping[str, Any]) -> str:
    """The protocol of an evaluation that names none, as all did before there were protocols."""
    return "linear" if values.get("evaluation.probe") is None else "probe"


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
        choices=DATA_NAMES,
        own=True,
    )
    root: str | None = key(
        "folder of the images, whose EXIF rotation is ignored; null: the cache", identity=False
    )
    size: int = key("side of the images given to the encoder, pixels", at_least=8)
    limit: int | None = key("training images kept, balanced over classes; null: all", at_least=1)
    validation: int = key("images held out of training, for choosing anything", at_least=1)
    on_error: str = key(
        "an unreadable image",
        choices=("raise", "skip"),
        when={"data.name": ("image_folder", "imagenet")},
    )
    seed: int = key("seed of the split, of `limit` and of the drawn shapes", at_least=0)
    label: str | None = key("short name for reports; null: the data set's or folder's own")
    fingerprint: str | None = key(
        "hash of the images, which image_folder and your own function's are made for when a run is planned; "
        "imagenet: of all names and sizes, and of 1,000 files' contents",
        when={"data.name": ("image_folder", "imagenet")},
        otherwise=None,
    )
    metric: str = key(
        "accuracy that evaluations go by: of all images, the mean of the classes', or the mean average precision",
        choices=METRICS,
        # So it belongs to evaluations: images that are pretrained on have no use for it.
        when={"evaluation.protocol": GIVEN, "evaluation.data.name": (None,)},
        before="top1",
        default="top1",
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
    first: str | None = _operation_of_pair("first operation")
    second: str | None = _operation_of_pair(
        "second operation; the same as the first: that one alone"
    )
    strength: float = key(
        "strength s of colour jitter (App. A)", at_least=0, at_most=MAX_STRENGTH, when=_COLORING
    )
    color: str = key(
        "colour operations: torchvision's, or those of the paper's code (App. A has both)",
        choices=("pytorch", "tensorflow"),
        when=_COLORING,
    )
    blur: bool = key("Gaussian blur with probability 0.5", when={"views.policy": ("simclr",)})
    extra: str | None = key(
        "one more operation, last, on some of the images (Table 3)",
        choices=("rotate", "noise", "sobel"),
        own=True,
        when={"views.policy": ("simclr",)},
        otherwise=None,
    )
    crop_area: float = key(
        "smallest area of a random resized crop, a share",
        above=0,
        at_most=1,
        when={"views.policy": _CROPPING},
    )
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
    dim: int = key("width of z", at_least=1, when={"head.kind": ("linear", "nonlinear")})


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
        "margin m of margin_triplet; of other losses, the semi-hard margin (null: no limit)",
        at_least=0,
        when=({"loss.name": ("margin_triplet",)}, {"loss.semi_hard": (True,)}),
        otherwise=None,
    )
    semi_hard: bool = key(
        "of the negatives that are farther than the positive and within the margin, only the "
        "nearest (Table 4: sh)"
    )
    reduction: str = key(
        "an anchor's negatives are summed, or weigh as much together as its positive",
        choices=("sum", "mean"),
        when={"loss.name": ("nt_logistic",), "loss.semi_hard": (False,)},
        otherwise="sum",
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
class EvaluationData:
    """The data set that an encoder is evaluated on, where it is another one: the keys of `data`."""

    name: str | None = key(
        "data set evaluated on; null: the experiment's own",
        choices=DATA_NAMES,
        own=True,
        before=None,
    )
    root: str | None = key("as data.root", identity=False, before=None)
    size: int | None = key("as data.size", at_least=8, when=_OTHER_DATA, before=None)
    limit: int | None = key("as data.limit", at_least=1, when=_OTHER_DATA, before=None)
    validation: int | None = key("as data.validation", at_least=1, when=_OTHER_DATA, before=None)
    on_error: str | None = key(
        "as data.on_error",
        choices=("raise", "skip"),
        when={"evaluation.data.name": ("image_folder", "imagenet")},
        before=None,
    )
    seed: int | None = key("as data.seed", at_least=0, when=_OTHER_DATA, before=None)
    label: str | None = key("as data.label", when=_OTHER_DATA, before=None)
    fingerprint: str | None = key(
        "as data.fingerprint",
        when={"evaluation.data.name": ("image_folder", "imagenet")},
        otherwise=None,
        before=None,
    )
    metric: str | None = key("as data.metric", choices=METRICS, when=_OTHER_DATA, before=None)


@dataclass(frozen=True)
class Evaluation:
    """How an encoder is measured (App. B.6, B.8). Stored apart from pretraining."""

    protocol: str = key(
        "a linear classifier by L-BFGS or by SGD, training on few labels, fine-tuning, kNN, or a probe",
        choices=tuple(PROTOCOLS),
        own=True,
        before=implied_protocol,
    )
    data: EvaluationData = key("the images, where they are others", before={})
    features: str = key(
        "representation evaluated: h, or z = g(h)", choices=("h", "z"), when=_used("features")
    )
    l2_count: int = key(
        "number of l2 strengths tried on the validation split",
        at_least=1,
        when=_fitted("l2_count"),
    )
    l2_min: float = key(
        "smallest l2 strength, log-spaced to the largest",
        at_least=1e-30,
        at_most=1e30,
        when=_fitted("l2_min"),
    )
    l2_max: float = key("largest l2 strength", at_least=1e-30, at_most=1e30, when=_fitted("l2_max"))
    knn: int = key("neighbours of the kNN classifier", at_least=1, when=_used("knn"))
    probe: str | None = key(
        "transformation that an MLP is to tell from the features (Table 3)",
        choices=("color", "rotation", "noise", "sobel"),
        # It counts with every protocol, as it did when it was the only one that named any.
    )
    patience: int | None = key(
        "epochs without a better validation accuracy after which the probe has learnt; null: it has 20 epochs",
        at_least=1,
        when=_used("patience"),
        before=None,
    )
    labels: float | None = key(
        "labels of the training split that are used, balanced: a share below 1, or a number a class",
        above=0,
        when=_used("labels"),
        before=None,
    )
    lr: float = key(
        "base learning rate, times batch size / 256", above=0, when=_used("lr"), before=0.1
    )
    epochs: int = key("epochs of training", at_least=1, when=_used("epochs"), before=90)
    steps: int = key("steps of fine-tuning", at_least=1, when=_used("steps"), before=20_000)
    batch_size: int = key(
        "images in a batch, or all where there are fewer",
        at_least=2,
        when=_used("batch_size"),
        before=4096,
    )
    crop_area: float = key(
        "smallest area of a random crop in training, a share",
        above=0,
        at_most=1,
        when=_used("crop_area"),
        before=0.08,
    )
    lr_count: int = key(
        "number of learning rates tried on the validation split",
        at_least=1,
        when=_used("lr_count"),
        before=7,
    )
    lr_min: float = key(
        "smallest learning rate, log-spaced to the largest",
        above=0,
        when=_used("lr_min"),
        before=1e-4,
    )
    lr_max: float = key("largest learning rate", above=0, when=_used("lr_max"), before=0.1)
    decay_count: int = key(
        "number of weight decays tried with each, besides none",
        at_least=0,
        when=_used("decay_count"),
        before=7,
    )
    decay_min: float = key(
        "smallest weight decay, log-spaced to the largest; it is divided by the learning rate",
        above=0,
        when=_used("decay_min"),
        before=1e-6,
    )
    decay_max: float = key("largest weight decay", above=0, when=_used("decay_max"), before=1e-3)
    feature_cache_gb: float = key(
        "room for frozen features in the cache, GB; 0: none are kept",
        at_least=0,
        identity=False,
        before=4.0,
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
        "contrastive, supervised (one view, a linear classifier on h), or none for the random encoder",
        choices=("contrastive", "supervised", "none"),
    )
    seed: int = key("seed of weights, order and views", at_least=0)
    precision: str = key("of the encoder's arithmetic", choices=("float32", "bfloat16"))
    data: Data = key("the images")
    views: Views = key("how views are made", when=_TRAINED)
    encoder: Encoder = key("f")
    head: Head = key(
        "g",
        when=(
            {"objective": ("contrastive",)},
            {"objective": ("none",), "evaluation.features": ("z",)},
        ),
    )
    loss: Loss = key("the loss", when={"objective": ("contrastive",)})
    optimizer: Optimizer = key("how it is trained", when=_TRAINED)
    evaluation: Evaluation = key("what is measured")
    compute: Compute = key("how the machine works")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The checked experiment in `config` (nested mappings). Raises ConfigError.

        A transformation in `evaluation.probe` says by itself that the protocol is `probe`.
        """
        experiment = build(cls, _with_protocol(config))
        check_experiment(experiment)
        return experiment

    def to_config(self) -> dict[str, Any]:
        """Nested dictionaries that `from_config` takes back."""
        return dataclasses.asdict(self)

    @property
    def evaluated_data(self) -> Data:
        """The data set that its encoder is evaluated on."""
        other = self.evaluation.data
        return self.data if other.name is None else Data(**dataclasses.asdict(other))


def _with_protocol(config: Mapping[str, Any]) -> Mapping[str, Any]:
    evaluation = config.get("evaluation") if isinstance(config, Mapping) else None
    if not isinstance(evaluation, Mapping) or evaluation.get("protocol", "linear") != "linear":
        return config
    implied = implied_protocol({"evaluation.probe": evaluation.get("probe")})
    return {**config, "evaluation": {**evaluation, "protocol": implied}}


KEYS = tuple(keys(Experiment))
"""Every key of an experiment."""

DECISIVE = tuple(sorted(set().union(*(info.depends_on for info in KEYS))))
"""The keys that decide which others count."""


def counting_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """The names of the keys that count in an experiment. values: at least those of DECISIVE, by full name."""
    return _split(values)[0]


def pretraining_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """Those of them that count in pretraining, whatever is evaluated: the random encoder's z is of an untrained head,
    which is no part of its run."""
    return _split(values)[1]


def _split(values: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    try:
        return _split_by(tuple(values[name] for name in DECISIVE))
    except TypeError:  # a list, say, in a file that somebody has edited
        raise ValueError(f"one of {', '.join(DECISIVE)} has no plain value") from None


@functools.lru_cache(4096)
def _split_by(decisive: tuple[Any, ...]) -> tuple[frozenset[str], frozenset[str]]:
    value_of = dict(zip(DECISIVE, decisive, strict=True))
    counted = frozenset(info.name for info in KEYS if info.counts(value_of.__getitem__))
    # No condition on the evaluation holds for what is true of all.
    of_any = {n: UNSET if _is_evaluation(n) else value for n, value in value_of.items()}
    pretraining = {info.name for info in KEYS if info.counts(of_any.__getitem__)}
    return counted, frozenset(name for name in pretraining if not _is_evaluation(name))


def _is_evaluation(name: str) -> bool:
    return name.startswith("evaluation.")


def check_experiment(experiment: Experiment) -> None:
    """Raises ConfigError where keys that are right one by one do not go together."""
    value_of = flatten(experiment.to_config()).__getitem__
    for info in KEYS:
        info.check(value_of)
    _check_data(experiment)
    _check_encoder(experiment.encoder)
    if experiment.objective != "none":
        _check_views(experiment.views, experiment.data)
        _check_optimizer(experiment.optimizer)
    if experiment.objective == "contrastive":
        _check_loss(experiment.loss)
    _check_evaluation(experiment)
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


def _check_data(experiment: Experiment) -> None:
    check_data(experiment.data, "data")
    other = experiment.evaluation.data
    if other.name is None:
        given = {
            name: value for name, value in dataclasses.asdict(other).items() if value is not None
        }
        for name, value in given.items():
            raise ConfigError(
                f"evaluation.data.{name} must be null unless evaluation.data=NAME is given, got {value}"
            )
    else:
        missing = [
            field.name
            for field in dataclasses.fields(Data)
            if field.name in ("size", "validation", "on_error", "seed", "metric")
            and getattr(other, field.name) is None
        ]
        if missing:
            raise ConfigError(
                f"evaluation.data.{missing[0]} must not be null with evaluation.data.name="
                f"{other.name}: evaluation.data=NAME sets all of its keys"
            )
        check_data(experiment.evaluated_data, "evaluation.data")


def check_data(data: Data, path: str) -> None:
    """Raises ConfigError where keys of `data`, or of another data set at `path`, do not go together."""
    if data.name == "shapes" and data.size != SHAPES_SIDE:
        raise ConfigError(f"{path}.size must be {SHAPES_SIDE} for {path}=shapes, got {data.size}")
    if data.name in ("image_folder", "imagenet") and data.root is None:
        raise ConfigError(
            f"{path}.root must be a folder of images for {path}={data.name}, got null"
        )


def _check_views(views: Views, data: Data) -> None:
    for name, operation in {"views.first": views.first, "views.second": views.second}.items():
        if views.policy == "pair" and operation is None:
            raise ConfigError(f"{name} must be {one_of(OPERATION_NAMES, own=True)}, got null")
    # Streamed images are cropped while they are decoded.
    if data.name == "imagenet" and views.policy == "none":
        raise ConfigError(
            "views.policy must begin with a crop for data=imagenet, which is streamed, as "
            f"{', '.join(_CROPPING[:-1])} and {_CROPPING[-1]} do, got 'none'"
        )


def _check_encoder(encoder: Encoder) -> None:
    if encoder.architecture != "resnet8" and encoder.width not in WIDTHS:
        raise ConfigError(
            f"encoder.width must be {one_of(WIDTHS)} for encoder.architecture="
            f"{encoder.architecture}, got {encoder.width}"
        )


def _check_optimizer(optimizer: Optimizer) -> None:
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


def _check_loss(loss: Loss) -> None:
    if loss.name == "margin_triplet" and loss.margin is None:
        raise ConfigError("loss.margin must be >= 0 with loss.name=margin_triplet, got null")
    if loss.semi_hard and loss.margin == 0 and not is_own(loss.name):
        raise ConfigError("loss.margin must be > 0 with loss.semi_hard=true, got 0")


def _check_evaluation(experiment: Experiment) -> None:
    evaluation, protocol = experiment.evaluation, experiment.evaluation.protocol
    if experiment.objective == "supervised" and evaluation.features != "h":
        raise ConfigError(
            "evaluation.features must be h for objective=supervised, which has no head, "
            f"got {evaluation.features!r}"
        )
    if evaluation.probe is not None and protocol != "probe" and not is_own(protocol):
        raise ConfigError(
            "evaluation.probe must be null unless evaluation.protocol=probe, "
            f"got {evaluation.probe}"
        )
    if protocol == "probe" and evaluation.probe is None:
        raise ConfigError(
            "evaluation.probe must name a transformation with evaluation.protocol=probe, got null"
        )
    if protocol == "few_labels" and evaluation.labels is None:
        raise ConfigError(
            "evaluation.labels must be > 0 with evaluation.protocol=few_labels, got null"
        )
    if evaluation.labels is not None and evaluation.labels >= 1 and evaluation.labels % 1:
        raise ConfigError(
            "evaluation.labels must be below 1, a share, or a whole number of labels a class, "
            f"got {evaluation.labels}"
        )
    for name in ("l2", "lr", "decay"):
        _check_spaced(evaluation, name)


def _check_spaced(evaluation: Evaluation, name: str) -> None:
    """Raises ConfigError where values cannot be log-spaced: both ends are among them, so one value is both."""
    count, smallest, largest = (
        getattr(evaluation, f"{name}_{part}") for part in ("count", "min", "max")
    )
    if largest < smallest:
        raise ConfigError(
            f"evaluation.{name}_max must be >= evaluation.{name}_min ({smallest}), got {largest}"
        )
    if count == 1 and largest != smallest:
        raise ConfigError(
            f"evaluation.{name}_max must equal evaluation.{name}_min ({smallest}) where "
            f"evaluation.{name}_count is 1, got {largest}"
        )
