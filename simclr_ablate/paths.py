"""Where the package's YAML files lie."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def config_folder(name: str) -> Path:
    """`conf` or `sweeps`: inside an installed package, or beside it in a checkout."""
    inside, beside = _PACKAGE / name, _PACKAGE.parent / name
    return inside if inside.is_dir() else beside
