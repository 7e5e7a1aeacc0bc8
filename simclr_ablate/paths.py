"""Folders: those that users name, where the package's YAML files lie, and where images are kept."""

import os
from pathlib import Path

from simclr_ablate.config import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def config_folder(name: str) -> Path:
    """`conf` or `sweeps`: inside an installed package, or beside it in a checkout."""
    inside, beside = _PACKAGE / name, _PACKAGE.parent / name
    return inside if inside.is_dir() else beside


def expanded(path: str | Path, key: str) -> Path:
    """A folder that a user names by `key`, with `~` and `~user` for a home; all other characters stand for themselves.

    Raises ConfigError for anything but a path, and for the home of nobody.
    """
    if not isinstance(path, str | Path) or str(path) == "" or "\0" in str(path):
        raise ConfigError(f"{key} must be a folder, got {path!r}")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{key} must be a folder, got {str(path)!r}: {error}") from error


def absolute(path: str | Path, key: str) -> str:
    """The same from the root on, as it is recorded: where a command was given says no more then. Raises ConfigError."""
    return str(expanded(path, key).resolve())


def default_cache() -> str:
    """Where images are kept once decoded: $SIMCLR_ABLATE_CACHE, or the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.environ.get("SIMCLR_ABLATE_CACHE") or f"{home}/simclr_ablate"
    return absolute(folder, "SIMCLR_ABLATE_CACHE")
