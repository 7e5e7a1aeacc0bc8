"""What may stand in a config: names of operations, losses, protocols, data sets, architectures and trackers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from simclr_ablate.config import is_own

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

CROPPING = ("simclr", "crop", "autoaugment", "pair")
"""The policies that begin with a random resized crop."""

TRAINED = ("contrastive", "supervised")
"""The objectives that train. The random encoder is never trained, and an imported one was, elsewhere."""

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

FOLDERS = ("image_folder", STREAMED)
"""The data sets that are read from the user's own files."""


def implied_protocol(values: Mapping[str, Any]) -> str:
    """The protocol of an evaluation that names none, from before there were protocols."""
    return "linear" if values.get("evaluation.probe") is None else "probe"


COLUMNS = ("run_id", "path", "sweeps", "defining", "looked_at", "state", "evaluation")
"""Columns of the table of runs beside keys and metrics (`analysis.load`)."""

RESNETS = ("resnet8", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""Our own architectures."""

ENCODER_LIBRARIES = ("timm",)
"""The libraries whose networks can be encoders."""

TIMM = "timm:"
"""How names of timm's architectures and weights begin."""

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
