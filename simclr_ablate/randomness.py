"""Randomness without state: every draw comes from a generator named by its purpose.

A generator is seeded by (seed, purpose, indices such as epoch and step). So a resumed run draws what the uninterrupted
run would have drawn, and no draw depends on how many workers or ranks share the work.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

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
