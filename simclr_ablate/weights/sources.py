"""Where weights come from: torchvision, timm, the Hugging Face hub, or a file; and what their source says of images."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from simclr_ablate.config import ConfigError, nearest
from simclr_ablate.paths import expanded
from simclr_ablate.schema import SCHEMA_VERSION, TIMM, WEIGHTS_FORMS
from simclr_ablate.store import Run
from simclr_ablate.weights.reading import read_tensors
from simclr_ablate.weights.tensorflow import SCOPE

TORCHVISION, HUB = "torchvision:", "hf:"


@dataclass(frozen=True)
class Preprocessing:
    """What a source says of the images that its encoder takes; None: nothing.

    mean, std: a value for each channel of images in [0, 1]. size: the side in pixels.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | None = None
    interpolation: str | None = None
    is_known: bool = True
    """Whether the source says anything: without a mean, whether images are known to stay in [0, 1]."""


@dataclass(frozen=True)
class Brought:
    """What a source holds.

    label: its name in reports. model: the source's own network, if it can be made. metadata: see `read_tensors`.
    """

    tensors: Mapping[str, Tensor]
    label: str
    preprocessing: Preprocessing = Preprocessing(is_known=False)
    model: nn.Module | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def is_file(source: str) -> bool:
    """Whether the value of `encoder.weights` is a path."""
    return not source.startswith((TORCHVISION, TIMM, HUB))


def bring(source: str) -> Brought:
    """The tensors of `encoder.weights=SOURCE`, downloaded if they must be. Raises ConfigError."""
    named = f"encoder.weights={source}"
    if source.startswith(TORCHVISION):
        return _of_torchvision(source.removeprefix(TORCHVISION), named)
    if source.startswith(TIMM):
        return _of_timm(source.removeprefix(TIMM), named)
    if source.startswith(HUB):
        return _of_hub(source.removeprefix(HUB), named)
    return _of_file(source, named)


def _of_file(source: str, named: str) -> Brought:
    path = expanded(source, "encoder.weights")
    if not path.exists() and ":" in source:
        raise ConfigError(f"encoder.weights must be {WEIGHTS_FORMS}, got {source!r}")
    tensors, metadata = read_tensors(path, named)
    label = path.stem
    if path.name == Run(path.parent).encoder_path.name:
        metadata = _of_run(Run(path.parent))
    if label in ("encoder", "model") and path.absolute().parent.name:
        label = path.absolute().parent.name  # a run's id, or an export's folder
    return Brought(tensors, label, _told(metadata, tensors), metadata=metadata)


def _of_run(run: Run) -> dict[str, Any]:
    """What a run of ours says of its encoder, in the form of an export's metadata; empty if it says nothing."""
    record = run.experiment()
    if record is None or record["schema_version"] != SCHEMA_VERSION:
        return {}
    config = record["config"]
    return {"encoder": config["encoder"], "size": config["data"]["size"]}


def _told(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Preprocessing:
    """What our own exports say of images; those of the released code stay in [0, 1]."""
    if metadata:
        encoder = metadata["encoder"]
        mean, std = encoder.get("mean"), encoder.get("std")
        size = metadata.get("size")
        return Preprocessing(mean and tuple(mean), std and tuple(std), size)
    if any(name.startswith(SCOPE) for name in tensors):
        return Preprocessing(size=224, interpolation="bicubic")
    return Preprocessing(is_known=False)


def _of_torchvision(name: str, named: str) -> Brought:
    from torchvision import models

    architecture, _, weights = name.partition(".")
    if architecture not in models.list_models():
        raise ConfigError(
            f"{named} must name a model of torchvision, as in torchvision:resnet50.IMAGENET1K_V2"
            f"{nearest(architecture, models.list_models())}"
        )
    accepted = models.get_model_weights(architecture).__members__
    if weights not in accepted:
        options = ", ".join(f"{TORCHVISION}{architecture}.{each}" for each in accepted)
        raise ConfigError(f"{named} must be one of {options}")
    entry = accepted[weights]
    with _downloading(named):
        tensors = entry.get_state_dict(
            progress=False, check_hash=True, weights_only=True, map_location="cpu"
        )
    images = entry.transforms()
    preprocessing = Preprocessing(
        tuple(map(float, images.mean)),
        tuple(map(float, images.std)),
        int(images.crop_size[0]),
        str(images.interpolation.value),
    )
    model = models.get_model(architecture)
    model.load_state_dict(tensors)
    return Brought(tensors, name, preprocessing, _without_classifier(model))


def _without_classifier(model: nn.Module) -> nn.Module | None:
    if not hasattr(model, "fc"):
        return None
    model.fc = nn.Identity()
    return model.eval()


def _of_timm(name: str, named: str) -> Brought:
    try:
        import timm
    except ImportError as error:
        raise ConfigError(f"{named} needs timm: pip install 'simclr-ablate[timm]'") from error
    pretrained = timm.list_pretrained()
    if name not in pretrained and name not in timm.list_models(pretrained=True):
        raise ConfigError(
            f"{named} must name pretrained weights of timm, as in timm:resnet50.a1_in1k"
            f"{nearest(name, pretrained)}"
        )
    with _downloading(named):
        model: Any = timm.create_model(name, pretrained=True, num_classes=0).eval()
    return Brought(model.state_dict(), name, of_timm_config(model.pretrained_cfg), model)


def of_timm_config(config: Mapping[str, Any]) -> Preprocessing:
    """What a `pretrained_cfg` of timm says of images."""
    mean, std, size = (config.get(each) for each in ("mean", "std", "input_size"))
    return Preprocessing(
        mean and tuple(map(float, mean)),
        std and tuple(map(float, std)),
        size and int(size[-1]),
        config.get("interpolation"),
    )


def _of_hub(repository: str, named: str) -> Brought:
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise ConfigError(f"{named} must name a repository, as in hf:OWNER/NAME")
    with _downloading(named):
        weights, about = (
            _hub_file(repository, name) for name in ("model.safetensors", "config.json")
        )
        config = json.loads(about.read_bytes()) if about is not None else {}
    if weights is None:
        raise ConfigError(f"{named} has no file model.safetensors")
    tensors, metadata = read_tensors(weights, named)
    preprocessing = _told(metadata, tensors)
    if not metadata and isinstance(config.get("pretrained_cfg"), dict):
        preprocessing = of_timm_config(config["pretrained_cfg"])
    return Brought(tensors, repository.rpartition("/")[2], preprocessing, metadata=metadata)


def _hub_file(repository: str, name: str) -> Path | None:
    """A file of a repository, downloaded unless it is there already; None if the repository has no such file."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise ConfigError(
            f"encoder.weights={HUB}{repository} needs huggingface_hub: pip install 'simclr-ablate[hf]'"
        ) from error
    try:
        return Path(hf_hub_download(repository, name))
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):  # the hub cannot be reached
            raise
        return None


@contextmanager
def _downloading(named: str) -> Iterator[None]:
    """Turns whatever goes wrong inside into one line."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        yield
    except (ConfigError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{named} could not be fetched: {reason}") from error
