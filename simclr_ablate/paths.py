"""Where the package's YAML files lie, and where images are kept."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def config_folder(name: str) -> Path:
    """`conf` or `sweeps`: inside an installed package, or beside it in a checkout."""
    inside, beside = _PACKAGE / name, _PACKAGE.parent / name
    return inside if inside.is_dir() else beside


def default_cache() -> str:
    """Where images are kept once decoded: $SIMCLR_ABLATE_CACHE, or the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.environ.get("SIMCLR_ABLATE_CACHE") or f"{home}/simclr_ablate"
    return str(Path(folder).expanduser().resolve())
