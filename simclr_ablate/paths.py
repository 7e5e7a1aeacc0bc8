"""Folders: those that users name, those of the package's YAML files, and the cache of images."""

import os
from pathlib import Path

from simclr_ablate.config import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def config_folder(name: str) -> Path:
    """The folder `conf` or `sweeps`: inside an installed package, or beside it in a checkout."""
    inside, beside = _PACKAGE / name, _PACKAGE.parent / name
    return inside if inside.is_dir() else beside


def expanded(path: str | Path, key: str) -> Path:
    """The folder that a user gave as `key`, with `~` and `~user` expanded; no other character is special.

    Raises ConfigError if it is not a path, or is the home of an unknown user.
    """
    if not isinstance(path, str | Path) or str(path) == "" or "\0" in str(path):
        raise ConfigError(f"{key} must be a folder, got {path!r}")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{key} must be a folder, got {str(path)!r}: {error}") from error


def absolute(path: str | Path, key: str) -> str:
    """`expanded` as an absolute path, for records that outlive the current folder. Raises ConfigError."""
    return str(expanded(path, key).resolve())


def default_cache() -> str:
    """The folder of decoded images: $SIMCLR_ABLATE_CACHE, or one in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.environ.get("SIMCLR_ABLATE_CACHE") or f"{home}/simclr_ablate"
    return absolute(folder, "SIMCLR_ABLATE_CACHE")
