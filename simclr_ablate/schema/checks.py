"""Whether the keys of one section fit together, each of which is valid by itself."""

import re

from simclr_ablate.calls import is_of_library
from simclr_ablate.config import ConfigError, is_own, nearest, one_of
from simclr_ablate.schema.names import (
    CROPPING,
    OFFICIAL_VALIDATION,
    OPERATION_LIBRARIES,
    OPERATION_NAMES,
    SHAPES_SIDE,
    SHAPES_VERSION,
    TIMM,
    TRACKERS,
    WEIGHTS_FORMS,
    WIDTHS,
)
from simclr_ablate.schema.sections import (
    Compute,
    Data,
    Encoder,
    Evaluation,
    Loss,
    Optimizer,
    Tracking,
    Views,
)


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


def check_views(views: Views, data: Data) -> None:
    """Raises ConfigError if a pair lacks an operation, or streamed images would not be cropped first."""
    for name, operation in {"views.first": views.first, "views.second": views.second}.items():
        if views.policy == "pair" and operation is None:
            accepted = one_of(OPERATION_NAMES, own=True, libraries=OPERATION_LIBRARIES)
            raise ConfigError(f"{name} must be {accepted}, got null")
    # Streamed images are cropped while they are decoded.
    if data.is_streamed and (views.policy == "none" or is_of_library(views.policy)):
        raise ConfigError(
            f"views.policy must begin with a crop of ours for data={data.name}, which is streamed: "
            f"{one_of(CROPPING, own=True)}, got {views.policy!r}"
        )


def check_encoder(encoder: Encoder, objective: str) -> None:
    """Raises ConfigError for a width that the architecture lacks, or weights to import that are not fully described."""
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


def check_optimizer(optimizer: Optimizer) -> None:
    """Raises ConfigError for a warm-up longer than training, or micro-batches that do not make up a batch."""
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


def check_loss(loss: Loss) -> None:
    """Raises ConfigError for a loss without the margin that it needs."""
    if loss.name == "margin_triplet" and loss.margin is None:
        raise ConfigError("loss.margin must be >= 0 with loss.name=margin_triplet, got null")
    if loss.semi_hard and loss.margin == 0 and not is_own(loss.name):
        raise ConfigError("loss.margin must be > 0 with loss.semi_hard=true, got 0")


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


def check_spaced(evaluation: Evaluation, name: str) -> None:
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


def check_compute(compute: Compute) -> None:
    """Raises ConfigError for an unknown device, or for what does not go together on it."""
    device = compute.device
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", device):
        raise ConfigError(
            "compute.device must be auto, cpu, cuda (ROCm too), mps, xpu, cuda:N or xpu:N, "
            f"got {device!r}"
        )
    if compute.compile == "graphs" and not re.fullmatch(r"auto|cuda(:\d+)?", device):
        raise ConfigError(
            f"compute.compile must be off or default with compute.device={device}, got 'graphs'"
        )
    if compute.deterministic and compute.tf32:
        raise ConfigError(
            "compute.tf32 must be null or false with compute.deterministic=true, got true"
        )
