"""The config as dataclasses: the meaning, unit and allowed values of every key, and whether run ids depend on it.

Values come from the YAML files under `conf/`. Nothing has a default here, so there is one place to look a value up.
`Experiment.from_config` turns nested mappings into checked, frozen dataclasses. Its errors name the key that is wrong.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from simclr_ablate.calls import is_of_library
from simclr_ablate.config import (
    GIVEN,
    OWN,
    UNSET,
    ConfigError,
    build,
    flatten,
    is_own,
    key,
    keys,
    nearest,
    one_of,
)

SCHEMA_VERSION = 3
"""Part of every run id. It is raised when the meaning of a key or metric changes, so that old runs are not mistaken for
new ones. A new key needs no new version, only `key(before=...)`.

2: `views.color` replaces `views.brightness`; the entropy and accuracy of pretraining are over the other view's images,
no longer over all views. 3: a key is part of an id only where it counts. `old_schemas.py` says which earlier runs are
as good as new ones."""


OPERATION_NAMES = ("crop", "cutout", "color", "sobel", "noise", "blur", "rotate")
"""The operations of Figure 5, in order."""

OPERATION_LIBRARIES = ("torchvision", "kornia")
"""The libraries whose transforms can be operations."""

POLICY_NAMES = ("simclr", "crop", "autoaugment", "pair", "none")

POLICY_LIBRARIES = ("lightly",)
"""The libraries whose transforms can be policies."""

METRICS = ("top1", "mean_per_class", "map11")
"""Kinds of accuracy: over all images, the mean over classes, and 11-point mean average precision."""

METRIC_NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_per_class": "mean per class",
    "map11": "mAP",
}
"""How accuracies are called to people."""

LOSS_NAMES = ("nt_xent", "nt_logistic", "margin_triplet")
"""The losses of Table 2, in order."""


_CROPPING = ("simclr", "crop", "autoaugment", "pair")
"""The policies that begin with a random resized crop."""

_COLORING = (
    {"views.policy": ("simclr",)},
    {"views.policy": ("pair",), "views.first": ("color",)},
    {"views.policy": ("pair",), "views.second": ("color",)},
)
"""Conditions under which views use colour operations."""

TRAINED = ("contrastive", "supervised")
"""The objectives that train. The random encoder is never trained, and an imported one was, elsewhere."""

_TRAINED = {"objective": TRAINED}
_IMPORTED = {"objective": ("imported",)}


def _operation_of_pair(doc: str) -> Any:
    return key(
        doc,
        choices=OPERATION_NAMES,
        own=True,
        libraries=OPERATION_LIBRARIES,
        when={"views.policy": ("pair",)},
        otherwise=None,
    )


PROTOCOLS = {
    "linear": ("features", "l2_count", "l2_min", "l2_max", "knn"),
    "linear_sgd": ("features", "lr", "epochs", "batch_size", "crop_area"),
    "few_labels": ("labels", "lr", "epochs", "batch_size", "crop_area"),
    "finetune": (
        *("steps", "batch_size", "crop_area", "lr_count", "lr_min", "lr_max"),
        *("no_decay", "decay_count", "decay_min", "decay_max"),
    ),
    "knn": ("features", "knn"),
    "probe": ("features", "probe", "patience"),
}
"""The protocols, each with the keys of `evaluation` that it uses. The code of a protocol is the module of that name in
`simclr_ablate.evaluation`."""


def main_metric(
    evaluation: Mapping[str, Any], beside: Mapping[str, Any] = MappingProxyType({})
) -> str | None:
    """The main metric of an evaluation with these keys; None for a user's own protocol.

    It is the metric of the data set. beside: see `identity.evaluated_beside`, which has that of the experiment's own.
    """
    protocol = evaluation.get("protocol") or implied_protocol(
        {"evaluation.probe": evaluation.get("probe")}
    )
    if is_own(protocol):
        return None
    if protocol == "probe":
        return "probe_accuracy"
    other = evaluation.get("data") or {}
    metric = other.get("metric") if other.get("name") else beside.get("data.metric")
    return metric or "top1"


TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")
"""Our trackers. The code of each is in `simclr_ablate.trackers`."""

TRANSFER_SETS = (
    *("food101", "sun397", "stanford_cars", "fgvc_aircraft", "voc2007"),
    *("dtd", "oxford_iiit_pet", "caltech101", "flowers102"),
)
"""The sets of Table 8 that are files in a layout of their own, in order; the others are CIFAR-10, CIFAR-100 and
Birdsnap."""

OFFICIAL_VALIDATION = ("fgvc_aircraft", "voc2007", "dtd", "flowers102")
"""The data sets that come with a validation split."""

SEVERAL_LABELS = ("voc2007",)
"""The data sets whose images can show several classes."""

DATA_NAMES = (
    *("shapes", "image_folder", "cifar10", "cifar100", "stl10", "imagenet"),
    *TRANSFER_SETS,
)
STREAMED = "imagenet"
"""The data set whose images are decoded when they are needed."""
_FOLDERS = ("image_folder", STREAMED)
"""The data sets that are read from the user's own files."""

_OTHER_DATA = {"evaluation.data.name": GIVEN}
"""Condition for evaluating an encoder on another data set than the experiment's own."""


def _used(name: str) -> dict[str, tuple[str, ...]]:
    """The condition that the protocol uses `evaluation.NAME`."""
    return {"evaluation.protocol": tuple(p for p, names in PROTOCOLS.items() if name in names)}


def _fitted(name: str) -> tuple[dict[str, tuple[Any, ...]], ...]:
    """The condition that the protocol uses `evaluation.NAME` and fits a linear classifier.

    Supervised training has a classifier already, for the classes of its own data.
    """
    without = {**_used(name), "objective": ("contrastive", "none", "imported")}
    return without, {**_used(name), **_OTHER_DATA}


def implied_protocol(values: Mapping[str, Any]) -> str:
    """The protocol of an evaluation that names none, from before there were protocols."""
    return "linear" if values.get("evaluation.probe") is None else "probe"


RESNETS = ("resnet8", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""Our own architectures."""

ENCODER_LIBRARIES = ("timm",)
"""The libraries whose networks can be encoders."""

TIMM = "timm:"
"""How names of timm's architectures and weights begin."""

_OF_WIDTH = ({"encoder.architecture": RESNETS}, _IMPORTED)
"""Conditions under which the encoder's width and stem count. timm's networks have neither; but they are part of the ids
of imported ones."""

WEIGHTS_FORMS = "torchvision:NAME.WEIGHTS, timm:NAME, hf:REPO or a file of weights"

STEMS = ("imagenet", "tensorflow", "cifar", "strided")

MAX_STRENGTH = 2.5
"""Above this, colour jitter would turn hues by more than half a circle."""

COMPILED = ("off", "default", "graphs")
"""How networks can be compiled; `graphs` needs CUDA."""

WIDTHS = (1, 2, 4)
"""Channel multipliers of the standard ResNets (Figure 7); resnet8 takes any."""

SHAPES_SIDE = 32
"""Side of the embedded images, pixels."""
SHAPES_VERSION = 2
"""The version of the embedded images that is drawn. To be increased when the same arguments give other images."""


def _first_version(name: str, values: Mapping[str, Any]) -> int | None:
    """The version of the embedded images from before the key existed. name: the key of the data set's name."""
    return 1 if values.get(name) == "shapes" else None


@dataclass(frozen=True)
class Data:
    """The images and their split."""

    name: str = key(
        "data set",
        choices=DATA_NAMES,
        own=True,
    )
    root: str | None = key(
        "folder of the images (EXIF rotation is ignored); null: the cache", identity=False
    )
    size: int = key("side of the images that the encoder gets, pixels", at_least=8)
    limit: int | None = key("training images used, balanced over classes; null: all", at_least=1)
    validation: int | None = key(
        "training images held out as the validation split, on which all choices are made; null: the official split",
        at_least=1,
    )
    on_error: str = key(
        "what to do about an unreadable image",
        choices=("raise", "skip"),
        when={"data.name": _FOLDERS},
    )
    seed: int = key(
        "seed of the split (validation; for caltech101, test too), the choice of `limit` images and the shapes",
        at_least=0,
    )
    label: str | None = key("short name in reports; null: the name of the data set or folder")
    fingerprint: str | None = key(
        "hash of the images, set when a run is planned; for imagenet, of all names and sizes and the contents "
        "of 1,000 files",
        when={"data.name": _FOLDERS},
        otherwise=None,
    )
    metric: str = key(
        "accuracy that evaluations report: over all images, mean over classes, or 11-point mean average precision",
        choices=METRICS,
        # This makes it a key of evaluations: pretraining has no use for it.
        when={"evaluation.protocol": GIVEN, "evaluation.data.name": (None,)},
        before="top1",
        default="top1",
    )
    exact: bool = key(
        "crop streamed images exactly as Pillow does, instead of twice as fast",
        when={"data.name": (STREAMED,)},
        before=True,
        default=True,
    )
    version: int | None = key(
        f"version of the embedded images, {SHAPES_VERSION}; earlier runs have 1, which is no longer drawn",
        at_least=1,
        when={"data.name": ("shapes",)},
        before=functools.partial(_first_version, "data.name"),
        default=None,
    )

    @property
    def is_folder(self) -> bool:
        """Whether the images are files in a folder of the user's."""
        return self.name in _FOLDERS

    @property
    def has_several_labels(self) -> bool:
        """Whether an image can show several classes."""
        return self.name in SEVERAL_LABELS

    @property
    def is_streamed(self) -> bool:
        """Whether images are decoded when they are needed; others are kept in memory, decoded."""
        return self.name == STREAMED


@dataclass(frozen=True)
class Views:
    """How the two views of an image are made (Section 3, App. A).

    Supervised training uses one view, that of the first branch. With `policy=pair`, this is the branch that gets the
    operations.
    """

    policy: str = key(
        "augmentation of both views (crop: crop and flip only), or of one branch, as in Figure 5 (pair), or none",
        choices=POLICY_NAMES,
        own=True,
        libraries=POLICY_LIBRARIES,
    )
    first: str | None = _operation_of_pair("first operation")
    second: str | None = _operation_of_pair(
        "second operation; if equal to the first, that one alone"
    )
    strength: float = key(
        "strength s of colour jitter (App. A)", at_least=0, at_most=MAX_STRENGTH, when=_COLORING
    )
    color: str = key(
        "colour operations of torchvision, or of the paper's code (App. A has both)",
        choices=("pytorch", "tensorflow"),
        when=_COLORING,
    )
    blur: bool = key("Gaussian blur with probability 0.5", when={"views.policy": ("simclr",)})
    extra: str | None = key(
        "what is applied last, to some of the images: an operation (Table 3), or the four of App. B.2 (broader)",
        choices=("rotate", "noise", "sobel", "broader"),
        own=True,
        libraries=OPERATION_LIBRARIES,
        when={"views.policy": ("simclr",)},
        otherwise=None,
    )
    crop_area: float = key(
        "smallest area of a random resized crop, as a fraction of the image",
        above=0,
        at_most=1,
        when={"views.policy": _CROPPING},
    )
    flip: bool = key(
        "mirror half of the random resized crops (App. A)",
        when={"views.policy": _CROPPING},
        before=True,
    )
    interpolation: str = key(
        "interpolation of crops",
        choices=("bicubic", "bilinear"),
        when={"views.policy": POLICY_NAMES},
    )


@dataclass(frozen=True)
class Encoder:
    """The encoder f. Its output, after the average pool, is h."""

    architecture: str = key(
        "network of the encoder: a ResNet, one of timm's without its classifier, or a user's own",
        choices=RESNETS,
        own=True,
        libraries=ENCODER_LIBRARIES,
    )
    width: int = key("multiplier of every stage's channels", at_least=1, when=_OF_WIDTH)
    stem: str = key(
        "first convolution, kernel/stride. imagenet: 7x7/2, then a max pool; tensorflow: the same, with the pool's "
        "windows where TensorFlow has them; cifar: 3x3/1; strided: 3x3/2",
        choices=STEMS,
        when=_OF_WIDTH,
    )
    weights: str | None = key(
        "weights to import: torchvision:NAME.WEIGHTS, timm:NAME, hf:REPO or a file",
        identity=False,
        when=_IMPORTED,
        otherwise=None,
        before=None,
    )
    fingerprint: str | None = key(
        "hash of the imported weights, set when a run is planned",
        when=_IMPORTED,
        otherwise=None,
        before=None,
    )
    mean: tuple[float, ...] | None = key(
        "mean of each channel of images in [0, 1], subtracted before the first convolution; null: what the weights' "
        "source says, else nothing is subtracted",
        when=_IMPORTED,
        otherwise=None,
        before=None,
    )
    std: tuple[float, ...] | None = key(
        "standard deviation of each channel, by which images are divided after that; null: as for mean",
        when=_IMPORTED,
        otherwise=None,
        before=None,
    )
    label: str | None = key(
        "short name of the imported encoder in reports; null: from the weights' source",
        identity=False,
        when=_IMPORTED,
        otherwise=None,
        before=None,
    )


@dataclass(frozen=True)
class Head:
    """The projection head g, with z = g(h)."""

    kind: str = key("projection head", choices=("none", "linear", "nonlinear"), own=True)
    dim: int = key("width of z", at_least=1, when={"head.kind": ("linear", "nonlinear")})


@dataclass(frozen=True)
class Loss:
    """The contrastive loss."""

    name: str = key("contrastive loss", choices=LOSS_NAMES, own=True)
    temperature: float = key(
        "temperature tau; margin_triplet uses it only for the entropy that it reports", above=0
    )
    normalize: bool = key("l2-normalise z (Table 5)")
    negatives: str = key(
        "take negatives from both views or from one (Table 4)", choices=("both", "one")
    )
    margin: float | None = key(
        "margin m of margin_triplet; for other losses, the semi-hard margin (null: no limit)",
        at_least=0,
        when=({"loss.name": ("margin_triplet",)}, {"loss.semi_hard": (True,)}),
        otherwise=None,
    )
    semi_hard: bool = key(
        "use only the nearest of the negatives that are farther than the positive and within the "
        "margin (Table 4: sh)"
    )
    reduction: str = key(
        "sum the terms of an anchor's negatives, or average them",
        choices=("sum", "mean"),
        when={"loss.name": ("nt_logistic",), "loss.semi_hard": (False,)},
        otherwise="sum",
    )


@dataclass(frozen=True)
class Optimizer:
    """The optimiser, its schedule and the length of training."""

    name: str = key("optimiser", choices=("lars", "sgd", "adamw"))
    lr: float = key("base learning rate, before `lr_rule`", above=0)
    lr_rule: str = key(
        "peak learning rate. linear: lr*B/256; sqrt: lr*sqrt(B); constant: lr",
        choices=("linear", "sqrt", "constant"),
    )
    momentum: float = key("momentum; for AdamW, the first beta", at_least=0, below=1)
    weight_decay: float = key("weight decay, except on biases and batch norm", at_least=0)
    warmup_epochs: float = key("epochs of linear warm-up from 0", at_least=0)
    epochs: int = key("epochs of pretraining, and length of the schedule", at_least=1)
    batch_size: int = key(
        "images per batch, N; a step takes 2N views, or N if supervised", at_least=2
    )
    micro_batch: int | None = key(
        "images with views in memory at a time; gradients are still those of the whole batch, but "
        "batch norm sees micro-batches; null: all",
        at_least=2,
    )


@dataclass(frozen=True)
class EvaluationData:
    """Another data set to evaluate the encoder on, with the keys of `data`."""

    name: str | None = key(
        "data set to evaluate on; null: the experiment's own",
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
        when={"evaluation.data.name": _FOLDERS},
        before=None,
    )
    seed: int | None = key("as data.seed", at_least=0, when=_OTHER_DATA, before=None)
    label: str | None = key("as data.label", when=_OTHER_DATA, before=None)
    fingerprint: str | None = key(
        "as data.fingerprint",
        when={"evaluation.data.name": _FOLDERS},
        otherwise=None,
        before=None,
    )
    metric: str | None = key("as data.metric", choices=METRICS, when=_OTHER_DATA, before=None)
    exact: bool | None = key(
        "as data.exact; null: true", when={"evaluation.data.name": (STREAMED,)}, before=None
    )
    version: int | None = key(
        "as data.version",
        at_least=1,
        when={"evaluation.data.name": ("shapes",)},
        before=functools.partial(_first_version, "evaluation.data.name"),
        default=None,
    )


@dataclass(frozen=True)
class Evaluation:
    """How an encoder is evaluated (App. B.6, B.8). Its result is stored apart from pretraining."""

    protocol: str = key(
        "linear classifier by L-BFGS or by SGD, training on few labels, fine-tuning, kNN, or a probe",
        choices=tuple(PROTOCOLS),
        own=True,
        before=implied_protocol,
    )
    data: EvaluationData = key("another data set to evaluate on", before={})
    features: str = key(
        "representation to evaluate: h, or z = g(h)", choices=("h", "z"), when=_used("features")
    )
    l2_count: int = key(
        "number of l2 strengths to try on the validation split",
        at_least=1,
        when=_fitted("l2_count"),
    )
    l2_min: float = key(
        "smallest l2 strength; the others are log-spaced up to l2_max",
        at_least=1e-30,
        at_most=1e30,
        when=_fitted("l2_min"),
    )
    l2_max: float = key("largest l2 strength", at_least=1e-30, at_most=1e30, when=_fitted("l2_max"))
    knn: int = key("neighbours of the kNN classifier", at_least=1, when=_used("knn"))
    probe: str | None = key(
        "transformation that an MLP predicts from the features (Table 3)",
        choices=("color", "rotation", "noise", "sobel"),
        # It counts with every protocol, as it did when it alone decided the protocol.
    )
    patience: int | None = key(
        "stop the probe after this many epochs without better validation accuracy; null: after 20 epochs in all",
        at_least=1,
        when=_used("patience"),
        before=None,
    )
    labels: float | None = key(
        "labels of the training split to use, balanced: below 1, a share of them; else, how many per class; null: all",
        above=0,
        when=_used("labels"),
        before=None,
    )
    lr: float = key(
        "base learning rate, multiplied by batch_size / 256",
        above=0,
        when=_used("lr"),
        before=0.1,
    )
    epochs: int = key("epochs of training", at_least=1, when=_used("epochs"), before=90)
    steps: int = key("steps of fine-tuning", at_least=1, when=_used("steps"), before=20_000)
    batch_size: int = key(
        "images per batch; all, if there are fewer",
        at_least=2,
        when=_used("batch_size"),
        before=4096,
    )
    crop_area: float = key(
        "smallest area of a random crop in training, as a fraction of the image",
        above=0,
        at_most=1,
        when=_used("crop_area"),
        before=0.08,
    )
    lr_count: int = key(
        "number of learning rates to try on the validation split",
        at_least=1,
        when=_used("lr_count"),
        before=7,
    )
    lr_min: float = key(
        "smallest learning rate; the others are log-spaced up to lr_max",
        above=0,
        when=_used("lr_min"),
        before=1e-4,
    )
    lr_max: float = key("largest learning rate", above=0, when=_used("lr_max"), before=0.1)
    no_decay: bool = key(
        "try each learning rate without weight decay too", when=_used("no_decay"), before=True
    )
    decay_count: int = key(
        "number of weight decays to try with each learning rate",
        at_least=0,
        when=_used("decay_count"),
        before=7,
    )
    decay_min: float = key(
        "smallest weight decay, before division by the learning rate; the others are log-spaced up to decay_max",
        above=0,
        when=_used("decay_min"),
        before=1e-6,
    )
    decay_max: float = key("largest weight decay", above=0, when=_used("decay_max"), before=1e-3)
    feature_cache_gb: float = key(
        "space for frozen features in the cache, GB; 0: keep none",
        at_least=0,
        identity=False,
        before=4.0,
    )
    online: bool = key(
        "measure beside training, as metrics of steps: a linear classifier on h, and the effective rank of z",
        identity=False,
        when={"objective": ("contrastive",)},
        before=False,
    )


@dataclass(frozen=True)
class Compute:
    """How the machine does the work. None of this is part of a run's identity."""

    device: str = key(
        "auto, cpu, cuda (ROCm too), mps or xpu; cuda:N, xpu:N: a certain one", identity=False
    )
    threads: int | None = key(
        "CPU threads; null: those that the launcher gives", at_least=1, identity=False
    )
    workers: int | None = key(
        "processes per rank that decode images; null: by the number of cores",
        at_least=0,
        identity=False,
    )
    ranks: int | None = key(
        "processes that share one run, one per GPU; null: one per GPU that the launcher gives, or one without GPUs",
        at_least=1,
        identity=False,
    )
    channels_last: bool = key(
        "use the channels-last memory format, which is faster", identity=False
    )
    deterministic: bool = key(
        "bit for bit the same on an accelerator: deterministic algorithms only, no TF32",
        identity=False,
        before=False,
    )
    tf32: bool | None = key(
        "NVIDIA's TF32 in convolutions, which is faster; null: unless deterministic",
        identity=False,
        before=None,
    )
    compile: str = key(
        "train with compiled networks: off, default (torch.compile), or graphs (with CUDA graphs too, for small "
        "encoders, which take longer to launch than to compute)",
        choices=COMPILED,
        identity=False,
        before="off",
    )
    checkpoint_minutes: float = key("minutes between checkpoints", at_least=0, identity=False)


@dataclass(frozen=True)
class Tracking:
    """What becomes of a run's metrics while it trains. None of this is part of a run's identity."""

    names: tuple[str, ...] = key(
        f"trackers that get the metrics too: {', '.join(TRACKERS)}, or {OWN}",
        identity=False,
        before=(),
    )
    every: int = key(
        "steps between two whose metrics are kept in metrics.jsonl and sent",
        at_least=1,
        identity=False,
        before=10,
    )
    project: str = key(
        "project of wandb and trackio, experiment of mlflow",
        identity=False,
        before="simclr_ablate",
    )
    folder: str | None = key(
        "folder of the files of tensorboard and wandb; null: .trackers in the store",
        identity=False,
        before=None,
    )
    uri: str | None = key(
        "server of mlflow, http://HOST:PORT, or sqlite:///FILE; null: $MLFLOW_TRACKING_URI",
        identity=False,
        before=None,
    )


def _as_json(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in pairs}


@dataclass(frozen=True)
class Experiment:
    """All that one run depends on: frozen at submission and stored beside its results."""

    objective: str = key(
        "how the encoder is trained: contrastive, supervised (one view and a linear classifier on h), none "
        "(the random encoder), or not here: imported (encoder.weights)",
        choices=(*TRAINED, "none", "imported"),
    )
    seed: int = key("seed of weights, order and views", at_least=0)
    precision: str = key("precision of the encoder", choices=("float32", "bfloat16"))
    data: Data = key("the images")
    views: Views = key("how views are made", when=_TRAINED)
    encoder: Encoder = key("the encoder f")
    head: Head = key(
        "the projection head g",
        when=(
            {"objective": ("contrastive",)},
            {"objective": ("none",), "evaluation.features": ("z",)},
        ),
    )
    loss: Loss = key("the loss", when={"objective": ("contrastive",)})
    optimizer: Optimizer = key("the optimiser", when=_TRAINED)
    evaluation: Evaluation = key("how the encoder is evaluated")
    compute: Compute = key("how the machine does the work")
    tracker: Tracking = key("what becomes of a run's metrics while it trains", before={})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The experiment of `config` (nested mappings), checked. Raises ConfigError.

        A transformation in `evaluation.probe` implies the protocol `probe`. Embedded images without a version are of
        the first.
        """
        experiment = build(cls, _with_versions(_with_protocol(config)))
        check_experiment(experiment)
        return experiment

    def to_config(self) -> dict[str, Any]:
        """Nested dictionaries and lists, as JSON has them: the inverse of `from_config`."""
        return dataclasses.asdict(self, dict_factory=_as_json)

    @property
    def evaluated_data(self) -> Data:
        """The data set that the encoder is evaluated on."""
        other = self.evaluation.data
        if other.name is None:
            return self.data
        return Data(**{**dataclasses.asdict(other), "exact": other.exact is not False})


def _with_protocol(config: Mapping[str, Any]) -> Mapping[str, Any]:
    evaluation = config.get("evaluation") if isinstance(config, Mapping) else None
    if not isinstance(evaluation, Mapping) or evaluation.get("protocol", "linear") != "linear":
        return config
    implied = implied_protocol({"evaluation.probe": evaluation.get("probe")})
    return {**config, "evaluation": {**evaluation, "protocol": implied}}


def _with_versions(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`config` with `version`, of embedded images that have none."""

    def add(section: Any) -> Any:
        if not isinstance(section, Mapping) or "version" in section:
            return section
        return {**section, "version": _first_version("name", section)}

    config = {**config, "data": add(config["data"])} if "data" in config else config
    evaluation = config.get("evaluation")
    if isinstance(evaluation, Mapping) and "data" in evaluation:
        return {**config, "evaluation": {**evaluation, "data": add(evaluation["data"])}}
    return config


KEYS = tuple(keys(Experiment))
"""Every key of an experiment."""

DECISIVE = tuple(sorted(set().union(*(info.depends_on for info in KEYS))))
"""The keys that decide which others count."""


def counting_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """The names of the keys that count in an experiment. values: those of DECISIVE by full name; more may be there."""
    return _split(values)[0]


def pretraining_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """Those of `counting_keys` that count in pretraining, whatever is evaluated.

    The random encoder's z comes from an untrained head, which is not part of its run.
    """
    return _split(values)[1]


def _split(values: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    try:
        return _split_by(tuple(values[name] for name in DECISIVE))
    except TypeError:  # a list, say, in a file that somebody has edited
        raise ValueError(f"each of {', '.join(DECISIVE)} must be a plain value") from None


@functools.lru_cache(4096)
def _split_by(decisive: tuple[Any, ...]) -> tuple[frozenset[str], frozenset[str]]:
    value_of = dict(zip(DECISIVE, decisive, strict=True))
    counted = frozenset(info.name for info in KEYS if info.counts(value_of.__getitem__))
    # With the evaluation unset, no condition on it holds: what still counts does so for all evaluations.
    of_any = {n: UNSET if _is_evaluation(n) else value for n, value in value_of.items()}
    pretraining = {info.name for info in KEYS if info.counts(of_any.__getitem__)}
    return counted, frozenset(name for name in pretraining if not _is_evaluation(name))


def _is_evaluation(name: str) -> bool:
    return name.startswith("evaluation.")


def check_experiment(experiment: Experiment) -> None:
    """Raises ConfigError if keys that are valid one by one do not fit together."""
    value_of = flatten(experiment.to_config()).__getitem__
    for info in KEYS:
        info.check(value_of)
    _check_data(experiment)
    _check_encoder(experiment.encoder, experiment.objective)
    if experiment.objective in TRAINED:
        _check_views(experiment.views, experiment.data)
        _check_optimizer(experiment.optimizer)
    if experiment.objective == "contrastive":
        _check_loss(experiment.loss)
    _check_evaluation(experiment)
    check_tracking(experiment.tracker)
    device = experiment.compute.device
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", device):
        raise ConfigError(
            "compute.device must be auto, cpu, cuda (ROCm too), mps, xpu, cuda:N or xpu:N, "
            f"got {device!r}"
        )
    if experiment.compute.compile == "graphs" and not re.fullmatch(r"auto|cuda(:\d+)?", device):
        raise ConfigError(
            f"compute.compile must be off or default with compute.device={device}, got 'graphs'"
        )
    if experiment.compute.deterministic and experiment.compute.tf32:
        raise ConfigError(
            "compute.tf32 must be null or false with compute.deterministic=true, got true"
        )
    if experiment.compute.ranks is not None:
        check_ranks(experiment, experiment.compute.ranks)


def check_ranks(experiment: Experiment, ranks: int) -> None:
    """Raises ConfigError if `ranks` processes cannot share the pretraining evenly, or the evaluation at all."""
    optimizer, device = experiment.optimizer, experiment.compute.device
    evaluation = experiment.evaluation
    named = {
        "optimizer.batch_size": optimizer.batch_size,
        "optimizer.micro_batch": optimizer.micro_batch,
    }
    for name, images in named.items():
        if images is not None and images % ranks:
            raise ConfigError(f"{name} must be a multiple of compute.ranks ({ranks}), got {images}")
    if "batch_size" in PROTOCOLS.get(evaluation.protocol, ()) and evaluation.batch_size < ranks:
        raise ConfigError(
            f"evaluation.batch_size must be >= compute.ranks ({ranks}), got {evaluation.batch_size}"
        )
    if ranks > 1 and experiment.compute.compile != "off":
        raise ConfigError(
            f"compute.compile must be off with compute.ranks={ranks}, whose batch norm communicates, "
            f"got {experiment.compute.compile!r}"
        )
    if ranks > 1 and ":" in device:
        raise ConfigError(
            f"compute.device must name no single one with compute.ranks={ranks}, got {device!r}"
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
                f"evaluation.data.{name} must be null unless evaluation.data.name is set, got {value}"
            )
    else:
        needed = {"size", "validation", "on_error", "seed", "metric"}
        if other.name in OFFICIAL_VALIDATION:
            needed.remove("validation")
        missing = [
            field.name
            for field in dataclasses.fields(Data)
            if field.name in needed and getattr(other, field.name) is None
        ]
        if missing:
            raise ConfigError(
                f"evaluation.data.{missing[0]} must not be null with evaluation.data.name="
                f"{other.name}; evaluation.data=NAME sets all keys of a data set"
            )
        check_data(experiment.evaluated_data, "evaluation.data")


def check_data(data: Data, path: str) -> None:
    """Raises ConfigError if the keys of `data` do not fit together. path: the section that `data` comes from."""
    if data.name == "shapes" and data.size != SHAPES_SIDE:
        raise ConfigError(f"{path}.size must be {SHAPES_SIDE} for {path}=shapes, got {data.size}")
    if data.name == "shapes" and (data.version is None or data.version > SHAPES_VERSION):
        raise ConfigError(
            f"{path}.version must be {SHAPES_VERSION} for {path}=shapes, got {data.version or 'null'}"
        )
    if data.name in OFFICIAL_VALIDATION and data.validation is not None:
        raise ConfigError(
            f"{path}.validation must be null for {path}={data.name}, which has an official validation split, "
            f"got {data.validation}"
        )
    if data.name not in OFFICIAL_VALIDATION and data.validation is None:
        raise ConfigError(
            f"{path}.validation must be >= 1 for {path}={data.name}, which has no official validation split, got null"
        )
    if data.has_several_labels and data.metric != "map11":
        raise ConfigError(
            f"{path}.metric must be map11 for {path}={data.name}, whose images have several labels, got {data.metric!r}"
        )
    if data.is_folder and data.root is None:
        raise ConfigError(
            f"{path}.root must be a folder of images for {path}={data.name}, got null"
        )


def _check_views(views: Views, data: Data) -> None:
    for name, operation in {"views.first": views.first, "views.second": views.second}.items():
        if views.policy == "pair" and operation is None:
            accepted = one_of(OPERATION_NAMES, own=True, libraries=OPERATION_LIBRARIES)
            raise ConfigError(f"{name} must be {accepted}, got null")
    # Streamed images are cropped while they are decoded.
    if data.is_streamed and (views.policy == "none" or is_of_library(views.policy)):
        raise ConfigError(
            f"views.policy must begin with a crop of ours for data={data.name}, which is streamed: "
            f"{one_of(_CROPPING, own=True)}, got {views.policy!r}"
        )


def _check_encoder(encoder: Encoder, objective: str) -> None:
    architecture = encoder.architecture
    if architecture.startswith(TIMM) and encoder.width != 1:
        raise ConfigError(
            f"encoder.width must be 1 for encoder.architecture={architecture}, got {encoder.width}"
        )
    if objective == "imported":
        _check_imported(encoder)
    if not is_own(architecture) and architecture != "resnet8" and encoder.width not in WIDTHS:
        raise ConfigError(
            f"encoder.width must be {one_of(WIDTHS)} for encoder.architecture="
            f"{encoder.architecture}, got {encoder.width}"
        )


def _check_imported(encoder: Encoder) -> None:
    if not encoder.weights:
        got = "null" if encoder.weights is None else repr(encoder.weights)
        raise ConfigError(
            f"encoder.weights must be {WEIGHTS_FORMS} with objective=imported, got {got}"
        )
    for name in ("mean", "std"):
        values = getattr(encoder, name)
        if values is not None and len(values) != 3:
            raise ConfigError(f"encoder.{name} must be three numbers, got {len(values)}")
    if (encoder.mean is None) != (encoder.std is None):
        absent, there = ("mean", "std") if encoder.mean is None else ("std", "mean")
        raise ConfigError(
            f"encoder.{absent} must be three numbers with encoder.{there} set, got null"
        )
    if encoder.std is not None and min(encoder.std) <= 0:
        raise ConfigError(f"encoder.std must be > 0, got {list(encoder.std)}")


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
    _check_several_labels(experiment)
    _check_online(experiment)
    if experiment.objective in ("supervised", "imported") and evaluation.features != "h":
        raise ConfigError(
            f"evaluation.features must be h for objective={experiment.objective}, which has no head, "
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
    if evaluation.labels is not None and evaluation.labels >= 1 and evaluation.labels % 1:
        raise ConfigError(
            "evaluation.labels must be a share below 1 or a whole number of labels per class, "
            f"got {evaluation.labels}"
        )
    if protocol == "finetune" and not evaluation.no_decay and not evaluation.decay_count:
        raise ConfigError(
            "evaluation.decay_count must be >= 1 with evaluation.no_decay=false, got 0"
        )
    for name in ("l2", "lr", "decay"):
        _check_spaced(evaluation, name)


def _check_several_labels(experiment: Experiment) -> None:
    """Raises ConfigError for what needs one label an image, if the images have several."""
    evaluated = experiment.evaluated_data
    if experiment.objective == "supervised" and experiment.data.has_several_labels:
        raise ConfigError(
            "objective must be contrastive or none with "
            f"data={experiment.data.name}, whose images have several labels, got 'supervised'"
        )
    if experiment.evaluation.protocol == "few_labels" and evaluated.has_several_labels:
        raise ConfigError(
            "evaluation.protocol must be linear, linear_sgd, finetune, knn or probe on "
            f"{evaluated.name}, whose images have several labels and no balanced part, got 'few_labels'"
        )


def _check_online(experiment: Experiment) -> None:
    """Raises ConfigError if a classifier is to learn beside training, but images have no label, or several."""
    data = experiment.data
    if not experiment.evaluation.online or experiment.objective != "contrastive":
        return
    lacking = "several labels" if data.has_several_labels else "no labels" * (data.name == "stl10")
    if lacking:
        raise ConfigError(
            f"evaluation.online must be false with data={data.name}, whose training images have {lacking}, got true"
        )


def check_tracking(tracker: Tracking) -> None:
    """Raises ConfigError for a tracker that is unknown or named twice."""
    for name in tracker.names:
        if name not in TRACKERS and not is_own(name):
            accepted = f"must name trackers, each {one_of(TRACKERS, own=True)}"
            raise ConfigError(f"tracker.names {accepted}, got {name!r}{nearest(name, TRACKERS)}")
    twice = [name for k, name in enumerate(tracker.names) if name in tracker.names[:k]]
    if twice:
        raise ConfigError(f"tracker.names must name each tracker once, got {twice[0]!r} twice")
    if not tracker.project:
        raise ConfigError("tracker.project must not be empty, got ''")


def _check_spaced(evaluation: Evaluation, name: str) -> None:
    """Raises ConfigError if values cannot be log-spaced. They include both ends, so a single value must equal both."""
    count, smallest, largest = (
        getattr(evaluation, f"{name}_{part}") for part in ("count", "min", "max")
    )
    if largest < smallest:
        raise ConfigError(
            f"evaluation.{name}_max must be >= evaluation.{name}_min ({smallest}), got {largest}"
        )
    if count == 1 and largest != smallest:
        raise ConfigError(
            f"evaluation.{name}_max must equal evaluation.{name}_min ({smallest}) if "
            f"evaluation.{name}_count is 1, got {largest}"
        )
