"""Files of weights as tensors by name, whatever their format. No code from a file is ever run.

The format shows in a file's first bytes, not in its name: safetensors, torch's (also Lightning's .ckpt and our own
encoder.pt), or NumPy's .npz.
"""

import json
import pickle
import re
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simclr_ablate.config import ConfigError
from simclr_ablate.files import storing
from simclr_ablate.store import tensors
from simclr_ablate.store.records import BELONGS_TO

Tensors = dict[str, Tensor]

FORMATS = "safetensors, torch's (.pt, .pth, .ckpt) or NumPy's (.npz)"

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_SAFETENSORS = re.compile(rb".{4}\0{4}\{", re.DOTALL)
"""The length of a JSON header, in 8 bytes, and its beginning."""
_TF_ENDINGS = (".index", ".meta", ".data-00000-of-00001")

_SETTINGS = (
    *("argparse", "omegaconf", "pathlib", "typing", "numpy"),
    *("pytorch_lightning", "lightning", "lightning_fabric", "lightning_utilities"),
)
"""Modules whose objects checkpoints hold beside tensors: settings, which are not needed, and are not made."""

_PLAIN = {
    f"{each.__module__}.{each.__name__}": each
    for each in (bool, bytes, dict, float, frozenset, int, list, set, str, tuple, defaultdict)
}


def read_tensors(path: Path, named: str) -> tuple[Tensors, dict[str, Any]]:
    """The tensors of a file by name, on the CPU, and the metadata that our own exports have.

    The names of nested mappings are joined by dots. named: how errors name the file. Raises ConfigError.
    """
    begin = _begin_of(path, named)
    try:
        with storing(path):
            if _SAFETENSORS.match(begin):
                return _read_safetensors(path)
            if begin.startswith(_ZIP) and _is_npz(path):
                return _read_npz(path)
            if begin.startswith((_ZIP, _PICKLE)):
                return dict(_flat(_read_torch(path, named))), {}
    except (ConfigError, MemoryError):
        raise
    except Exception as error:
        if "memory" in str(error):
            raise
        raise ConfigError(f"{named} is damaged: it is cut short or changed") from error
    hint = ""
    if path.name.endswith(_TF_ENDINGS) or path.name.startswith("model.ckpt"):
        hint = "; docs/weights.md turns a TensorFlow checkpoint into an .npz"
    raise ConfigError(f"{named} must be a file of weights, in {FORMATS}, got another format{hint}")


def _begin_of(path: Path, named: str) -> bytes:
    """The file's first bytes. Raises ConfigError if it is no file, or is empty."""
    with storing(path):
        if path.is_dir():
            raise ConfigError(f"{named} must be a file of weights, got a folder")
        try:
            with open(path, "rb") as file:
                begin = file.read(9)
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(f"{named} must be a file of weights: there is no such file") from None
    if not begin:
        raise ConfigError(f"{named} must be a file of weights, got an empty file")
    return begin


def _is_npz(path: Path) -> bool:
    """Whether a zip archive is NumPy's. Raises BadZipFile if it is cut short, except for torch's own reader to say."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return False  # torch's, with our digest at its end, or damaged
    return bool(names) and all(name.endswith(".npy") for name in names)


def _read_npz(path: Path) -> tuple[Tensors, dict[str, Any]]:
    found, metadata = {}, {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            array = arrays[name]
            if name == METADATA:
                metadata = json.loads(str(array))
            elif array.dtype.kind in "fiu":
                found[name] = torch.from_numpy(np.ascontiguousarray(array))
    return found, metadata


def _read_safetensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        written = (file.metadata() or {}).get(METADATA)
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return found, json.loads(written) if written else {}


METADATA = "simclr_ablate"
"""The entry of an exported file that says what its encoder is, as JSON."""


def _read_torch(path: Path, named: str) -> Any:
    """What torch.save wrote, without settings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles of other protocols than torch's own
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        others = _other_classes(path)
        unknown = [name for name in others if name not in _PLAIN and not _is_setting(name)]
        if unknown or not others:
            what = f" ({', '.join(sorted(unknown))})" if unknown else ""
            raise ConfigError(
                f"{named} holds more than tensors and settings{what}, and is not loaded: it could run code; "
                "save its state dict alone"
            ) from error
        stands_in: list[Any] = [(_PLAIN.get(name, _Setting), name) for name in others]
        with torch.serialization.safe_globals(stands_in):
            content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, dict) and BELONGS_TO in content:
        try:
            tensors.check(path)  # our own: its digest shows damage inside a tensor
        except tensors.DamagedError as error:
            raise ConfigError(f"{named} is damaged: {error.problem}") from error
    return content


def _other_classes(path: Path) -> list[str]:
    """What a pickle names that torch does not load by itself; empty if it cannot be told."""
    tell = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)  # from torch 2.6
    try:
        return list(tell(path)) if tell is not None else []
    except Exception:
        return []


def _is_setting(name: str) -> bool:
    return name.partition(".")[0] in _SETTINGS


class _Setting:
    """Stands in for an object that is no tensor, whatever that is made of."""

    def __new__(cls, *_: Any, **__: Any) -> "_Setting":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def _flat(content: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of nested mappings, by their keys joined by dots."""
    if isinstance(content, Tensor):
        yield path, content
    elif isinstance(content, Mapping):
        for name, value in content.items():
            yield from _flat(value, f"{path}.{name}" if path else str(name))
