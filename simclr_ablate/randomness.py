"""Randomness without state: every draw comes from a generator named by its purpose.

A generator is seeded by (seed, purpose, indices such as epoch and step). So a resumed run draws what the uninterrupted
run would have drawn, and no draw depends on how many workers or ranks share the work.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(seed: int, purpose: str, *indices: int) -> int:
    """A 63-bit seed from the SHA-256 of the arguments: similar arguments give unrelated seeds."""
    text = ":".join([str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """A CPU generator for one purpose at one place, e.g. `generator(0, "views", epoch, step)`.

    Parameters are always drawn on the CPU, so a run has the same views on every device.
    """
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *indices))


@contextmanager
def seeded_init(seed: int, purpose: str) -> Iterator[None]:
    """Seeds torch's global CPU generator for `torch.nn.init` inside the block, and restores it at the end."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(derive_seed(seed, purpose))
        yield


Seeding = Callable[[int], None]


@contextmanager
def borrowed_generators() -> Iterator[Seeding]:
    """Gives a function that seeds the global CPU generators of torch, Python and NumPy; restores them at the end.

    For code of others, which draws from them.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()

    def seed_all(seed: int) -> None:
        torch.random.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)

    try:
        with torch.random.fork_rng(devices=[]):
            yield seed_all
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
