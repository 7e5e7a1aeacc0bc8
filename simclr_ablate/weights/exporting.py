"""Weights out: a run's encoder as a folder that others load, with its config and a model card."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simclr_ablate.config import ConfigError, is_own
from simclr_ablate.files import StorageError, flush_folder, storing, write_atomically, write_text
from simclr_ablate.schema import SCHEMA_VERSION, Encoder, Experiment
from simclr_ablate.store import Run, Store
from simclr_ablate.weights.card import card
from simclr_ablate.weights.reading import METADATA, Tensors

TORCHVISIONS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
"""Our architectures that torchvision and timm have too, with width 1 and the stem of ImageNet."""

_NO_MEAN, _UNIT_STD = [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]


@dataclass(frozen=True)
class Export:
    """What to export. to: one of `weights.FORMATS`. head: whether the projection head, or classifier, goes along. out:
    the folder to make."""

    run_id: str
    store: str
    to: str
    head: bool
    out: Path


def export(wanted: Export) -> Path:
    """Writes the folder `wanted.out`, whole or not at all; returns it.

    Raises ConfigError if there is no such run, it does not have what is asked for, the format cannot express it, or the
    folder exists.
    """
    store = Store(wanted.store)
    store.check()
    run = store.run(wanted.run_id)
    experiment = _experiment_of(run, wanted.store)
    check_format(experiment.encoder, wanted.to)
    if os.path.lexists(wanted.out):
        raise ConfigError(
            f"out must be a folder that does not exist yet, got {str(wanted.out)!r}: remove it, or choose another"
        )
    weights = run.weights()
    if wanted.head and "head" not in weights:
        raise ConfigError(
            f"head must be false for {run.run_id}, which has no head: objective={experiment.objective}"
        )
    temporary = wanted.out.with_name(f".{wanted.out.name}.{uuid.uuid4().hex}.tmp")
    try:
        with storing(wanted.out, "out"):
            temporary.mkdir(parents=True)
        _write(temporary, wanted, experiment, weights, store)
        with storing(wanted.out, "out"):
            os.rename(temporary, wanted.out)
            flush_folder(wanted.out.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return wanted.out


def _experiment_of(run: Run, store: str) -> Experiment:
    record = run.experiment()
    if record is None:
        raise ConfigError(f"run must be the id of a run in {store}, got {run.run_id!r}")
    if record["schema_version"] != SCHEMA_VERSION:
        raise ConfigError(
            f"run must be of schema {SCHEMA_VERSION}, got {run.run_id}, which is of {record['schema_version']}"
        )
    if not run.is_pretrained():
        raise ConfigError(f"run must be pretrained, got {run.run_id}, which has no encoder yet")
    return Experiment.from_config(record["config"])


def check_format(encoder: Encoder, to: str) -> None:
    """Raises ConfigError if the format cannot express the encoder."""
    named = f"{encoder.architecture} with encoder.width={encoder.width} encoder.stem={encoder.stem}"
    if to in ("torchvision", "timm"):
        shape = (encoder.architecture in TORCHVISIONS, encoder.width, encoder.stem)
        if shape != (True, 1, "imagenet"):
            raise ConfigError(
                f"to must be hf or npz for an encoder that {to} does not have, got to={to} for {named}"
            )
    if to == "npz" and is_own(encoder.architecture):
        raise ConfigError(
            f"to must be hf for encoder.architecture={encoder.architecture}, got to=npz"
        )


def _write(
    folder: Path,
    wanted: Export,
    experiment: Experiment,
    weights: Mapping[str, Tensors],
    store: Store,
) -> None:
    """Writes everything into a folder that exists."""
    told = metadata_of(experiment, wanted.run_id)
    encoder = _plain(weights["encoder"])
    if wanted.to == "npz":
        _save_npz(folder / "encoder.npz", _as_released(encoder), told)
    else:
        _save_safetensors(folder / "model.safetensors", encoder, told)
    if wanted.head:
        head = {name: tensor.contiguous() for name, tensor in weights["head"].items()}
        if wanted.to == "npz":
            _save_npz(folder / "head.npz", head, told)
        else:
            _save_safetensors(folder / "head.safetensors", head, told)
    config = config_of(experiment, wanted.to, _width_of_h(experiment), told)
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    write_text(folder / "README.md", card(experiment, wanted, store))


def metadata_of(experiment: Experiment, run_id: str) -> dict[str, Any]:
    """What an import needs to know of an encoder, beside its weights."""
    names = ("architecture", "width", "stem", "mean", "std")
    encoder = {name: getattr(experiment.encoder, name) for name in names}
    return {"run": run_id, "encoder": encoder, "size": experiment.data.size}


def config_of(
    experiment: Experiment, to: str, width_of_h: int, told: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of config.json; for timm, in the form in which it reads it."""
    if to != "timm":
        return {METADATA: told}
    size, encoder = experiment.data.size, experiment.encoder
    pretrained = {
        "input_size": [3, size, size],
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "mean": list(encoder.mean or _NO_MEAN),
        "std": list(encoder.std or _UNIT_STD),
        "num_classes": 0,
        "pool_size": [7, 7],
        "first_conv": "conv1",
        "classifier": "fc",
    }
    return {
        "architecture": encoder.architecture,
        "num_classes": 0,
        "num_features": width_of_h,
        "pretrained_cfg": pretrained,
        METADATA: told,
    }


def _width_of_h(experiment: Experiment) -> int:
    import torch

    from simclr_ablate.models.encoder import build_encoder

    spec = experiment.encoder
    with torch.device("cpu" if is_own(spec.architecture) else "meta"):
        return build_encoder(
            spec.architecture, spec.width, spec.stem, size=experiment.evaluated_data.size
        ).dim


def _plain(tensors: Tensors) -> Tensors:
    from simclr_ablate.weights.matching import plain_name

    return {plain_name(name): tensor.contiguous() for name, tensor in tensors.items()}


def _as_released(encoder: Tensors) -> Tensors:
    """The tensors under the names of the paper's released code, and as they are there."""
    from simclr_ablate.weights.tensorflow import tensorflow_names, to_tensorflow

    names = tensorflow_names(list(encoder))
    return {theirs: to_tensorflow(encoder[ours]) for ours, theirs in names.items()}


def _save_safetensors(path: Path, tensors: Tensors, told: Mapping[str, Any]) -> None:
    from safetensors.torch import save

    content = save(tensors, {"format": "pt", METADATA: json.dumps(told)})
    write_atomically(path, lambda file: file.write(content))


def _save_npz(path: Path, tensors: Tensors, told: Mapping[str, Any]) -> None:
    import numpy as np

    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    arrays[METADATA] = np.array(json.dumps(told))
    write_atomically(path, lambda file: np.savez(file, **arrays))


def hub_for(repository: str) -> Callable[[Path], str]:
    """A function that pushes a folder as a new repository of the Hugging Face hub, and returns its address.

    Raises ConfigError if huggingface_hub is not set up, or the repository exists.
    """
    named = f"--push {repository}"
    try:
        from huggingface_hub import HfApi, get_token
    except ImportError as error:
        raise ConfigError(
            f"{named} needs huggingface_hub: pip install 'simclr-ablate[hf]'"
        ) from error
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise ConfigError(f"--push must name a repository, as in OWNER/NAME, got {repository!r}")
    if get_token() is None:
        raise ConfigError(f"{named} needs a login: give `hf auth login` first")
    hub = HfApi()
    try:
        exists = hub.repo_exists(repository)
    except Exception as error:
        raise ConfigError(f"{named} could not reach the hub: {_line(error)}") from error
    if exists:
        raise ConfigError(
            f"--push must name a repository that does not exist yet, got {repository}"
        )

    def push(folder: Path) -> str:
        try:
            address = hub.create_repo(repository)
            hub.upload_folder(repo_id=repository, folder_path=folder)
        except Exception as error:
            raise StorageError(
                f"{named} failed: {_line(error)}; the export is in {folder}"
            ) from error
        return str(address)

    return push


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
