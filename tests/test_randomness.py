"""Draws depend on (seed, purpose, indices) and on nothing else."""

import itertools

import torch

from simclr_ablate.randomness import derive_seed, generator, seeded_init


def test_every_argument_counts():
    places = [(0, "views"), (1, "views"), (0, "order"), (0, "views", 1), (0, "views", 1, 0)]
    places += [(0, "views", 0, 1), (0, "views", 10), (0, "views", 1, 1), (11, "views")]
    draws = [torch.rand(8, generator=generator(*place)) for place in places]
    for a, b in itertools.combinations(draws, 2):
        assert not torch.equal(a, b)
    assert torch.equal(draws[0], torch.rand(8, generator=generator(0, "views")))
    assert 0 <= derive_seed(0, "views") < 2**63


def test_initialisation_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    with seeded_init(3, "weights"):
        first = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded_init(3, "weights"):
        assert torch.equal(torch.rand(4), first)
