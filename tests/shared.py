"""What is made once for all of xdist's processes."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from simclr_ablate.data.shapes import open_shapes


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name`, which the first process that asks for it has filled by `make(folder)`."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, done = base / name, base / f"{name}.done"
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make(folder)
            done.touch()
    return folder


def warm_cache(factory: pytest.TempPathFactory) -> Path:
    """A new folder of decoded images, of which it holds our own: a copy of those that were drawn once."""
    drawn = made_once(factory, "drawn", lambda folder: open_shapes(folder, 0))
    cache = factory.mktemp("cache")
    shutil.copytree(drawn, cache, dirs_exist_ok=True)
    return cache
