"""Hydra's groups and their options, found without Hydra."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from simclr_ablate.paths import config_folder


def groups(words: Sequence[str] = ()) -> dict[str, list[str]]:
    """The options of each group, `sweep` among them, both in order.

    words: a command line, whose `--config-dir DIR` adds a user's own.
    """
    found = {"sweep": _names(config_folder("sweeps"))}
    for root in (config_folder("conf"), *_own_folders(words)):
        for folder in root.iterdir() if root.is_dir() else ():
            if folder.is_dir() and (names := _names(folder)):
                found.setdefault(folder.name, []).extend(names)
    return {name: sorted(set(found[name])) for name in sorted(found)}


def _names(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("*.yaml")]


def _own_folders(words: Sequence[str]) -> list[Path]:
    """The folder that `--config-dir DIR`, or `--config-dir=DIR`, names, if there is one."""
    flags = ("--config-dir", "-cd")
    apart = [word for before, word in itertools.pairwise(words) if before in flags]
    joined = [word.partition("=")[2] for word in words if word.startswith(f"{flags[0]}=")]
    return [Path(name).expanduser() for name in (*apart, *joined)]
