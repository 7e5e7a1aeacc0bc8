"""Randomness without state: every draw comes from a generator named by what it is for.

A generator is seeded by (seed, purpose, indices such as epoch and step), so a resumed run draws what the uninterrupted
one would have drawn, and no draw depends on how many workers or ranks share the work.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(seed: int, purpose: str, *indices: int) -> int:
    """A 63-bit seed, the SHA-256 of its arguments: alike arguments give unrelated seeds."""
    text = ":".join([str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """A CPU generator for one purpose at one place, e.g. `generator(0, "views", epoch, step)`.

    Parameters are drawn on the CPU whatever the device, so that a run's views are the same on both.
    """
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *indices))


@contextmanager
def seeded_init(seed: int, purpose: str) -> Iterator[None]:
    """Seeds torch's global CPU generator inside the block, for `torch.nn.init`, and restores it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(derive_seed(seed, purpose))
        yield
