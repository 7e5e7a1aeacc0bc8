"""The sections of a config as dataclasses: the meaning, unit and allowed values of every key."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simclr_ablate.config import GIVEN, OWN, key
from simclr_ablate.schema.names import (
    COMPILED,
    CROPPING,
    DATA_NAMES,
    ENCODER_LIBRARIES,
    FOLDERS,
    LOSS_NAMES,
    MAX_STRENGTH,
    METRICS,
    OPERATION_LIBRARIES,
    OPERATION_NAMES,
    POLICY_LIBRARIES,
    POLICY_NAMES,
    PROTOCOLS,
    RESNETS,
    SEVERAL_LABELS,
    SHAPES_VERSION,
    STEMS,
    STREAMED,
    TRACKERS,
    implied_protocol,
)

_COLORING = (
    {"views.policy": ("simclr",)},
    {"views.policy": ("pair",), "views.first": ("color",)},
    {"views.policy": ("pair",), "views.second": ("color",)},
)
"""Conditions under which views use colour operations."""

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


_OF_WIDTH = ({"encoder.architecture": RESNETS}, _IMPORTED)
"""Conditions under which the encoder's width and stem count. timm's networks have neither; but they are part of the ids
of imported ones."""


def first_version(name: str, values: Mapping[str, Any]) -> int | None:
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
        when={"data.name": FOLDERS},
    )
    seed: int = key(
        "seed of the split (validation; for caltech101, test too), the choice of `limit` images and the shapes",
        at_least=0,
    )
    label: str | None = key("short name in reports; null: the name of the data set or folder")
    fingerprint: str | None = key(
        "hash of the images, set when a run is planned; for imagenet, of all names and sizes and the contents "
        "of 1,000 files",
        when={"data.name": FOLDERS},
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
        before=functools.partial(first_version, "data.name"),
        default=None,
    )

    @property
    def is_folder(self) -> bool:
        """Whether the images are files in a folder of the user's."""
        return self.name in FOLDERS

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
        when={"views.policy": CROPPING},
    )
    flip: bool = key(
        "mirror half of the random resized crops (App. A)",
        when={"views.policy": CROPPING},
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
        when={"evaluation.data.name": FOLDERS},
        before=None,
    )
    seed: int | None = key("as data.seed", at_least=0, when=_OTHER_DATA, before=None)
    label: str | None = key("as data.label", when=_OTHER_DATA, before=None)
    fingerprint: str | None = key(
        "as data.fingerprint",
        when={"evaluation.data.name": FOLDERS},
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
        before=functools.partial(first_version, "evaluation.data.name"),
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
