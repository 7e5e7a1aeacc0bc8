"""Features in the cache: the same bits, computed once, and never more than there is room for."""

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from simclr_ablate.evaluation.feature_cache import cached_features, digest_of, make_room
from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.protocol import Frozen

ROOM = 1e9
BYTES = 3 * (40 * 6 * 4 + 40 * 8)
"""Of what `computed` returns."""


def features(seed: int = 0) -> Frozen:
    draw = torch.Generator().manual_seed(seed)
    splits = (
        Features(
            torch.randn(40, 6, generator=draw),
            torch.randint(3, (40,), generator=draw, dtype=torch.long),
        )
        for _ in range(3)
    )
    return Frozen(*splits)


class Computed:
    """Counts how often the features are computed."""

    def __init__(self, seed: int = 0) -> None:
        self.seed, self.times = seed, 0

    def __call__(self) -> Frozen:
        self.times += 1
        return features(self.seed)


def assert_same(one: Frozen, other: Frozen) -> None:
    for split, expected in zip(one, other, strict=True):
        for tensor, bits in zip(split, expected, strict=True):
            assert tensor.dtype == bits.dtype
            assert torch.equal(tensor, bits)


def kept(cache: Path) -> list[Path]:
    return sorted(path for path in cache.glob("features/sets/*") if not path.name.startswith("."))


def test_features_are_computed_once_and_are_the_same_bits(tmp_path: Path) -> None:
    compute = Computed()
    for _ in range(3):
        assert_same(cached_features(tmp_path, {"of": 1}, ROOM, compute), features())
    assert compute.times == 1
    # Of anything else there are others.
    other = Computed(seed=7)
    assert_same(cached_features(tmp_path, {"of": 2}, ROOM, other), features(7))
    assert other.times == 1
    assert len(kept(tmp_path)) == 2


def test_they_are_memory_mapped(tmp_path: Path) -> None:
    found = cached_features(tmp_path, {}, ROOM, Computed())
    files = Path(f"/proc/{os.getpid()}/maps").read_text()
    assert str(kept(tmp_path)[0] / "train.features.npy") in files
    found.train.features[0] = 0  # a process's own: nobody else sees it
    assert_same(cached_features(tmp_path, {}, ROOM, Computed()), features())


def test_damage_is_noticed_and_made_good(tmp_path: Path) -> None:
    cached_features(tmp_path, {}, ROOM, Computed())
    path = kept(tmp_path)[0] / "test.features.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    compute = Computed()
    assert_same(cached_features(tmp_path, {}, ROOM, compute), features())
    assert compute.times == 1


def test_what_was_used_longest_ago_makes_way(tmp_path: Path) -> None:
    names = {}
    for number in range(3):
        cached_features(tmp_path, {"of": number}, ROOM, Computed(number))
        names[number] = (set(kept(tmp_path)) - set(names.values())).pop()
        os.utime(names[number], (time.time() - 100 + number,) * 2)
    cached_features(tmp_path, {"of": 0}, ROOM, Computed())  # used now
    size = sum(each.stat().st_size for each in names[0].iterdir())
    make_room(tmp_path / "features", 2 * size)
    assert set(kept(tmp_path)) == {names[0], names[2]}
    # One more takes the place of another.
    cached_features(tmp_path, {"of": 3}, BYTES + size + 1, Computed(3))
    assert names[2] not in kept(tmp_path)
    assert names[0] in kept(tmp_path)
    assert len(kept(tmp_path)) == 2


def test_what_does_not_fit_is_not_kept(tmp_path: Path) -> None:
    cached_features(tmp_path, {"of": 0}, ROOM, Computed())
    for room in (0.0, BYTES - 1):
        compute = Computed(1)
        assert_same(cached_features(tmp_path, {"of": 1}, room, compute), features(1))
        assert compute.times == 1
    assert len(kept(tmp_path)) == 1


def test_a_cache_that_takes_nothing_does_without(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file in the way")
    compute = Computed()
    assert_same(cached_features(tmp_path, {}, ROOM, compute), features())
    assert compute.times == 1


def ask(cache: Path, log: Path) -> None:
    """Another process, which takes its time."""

    def compute() -> Frozen:
        with open(log, "a") as file:
            file.write("computed\n")
        time.sleep(0.5)
        return features()

    found = cached_features(cache, {}, ROOM, compute)
    np.save(log.with_suffix(f".{os.getpid()}.npy"), found.test.features.numpy())


def test_processes_that_ask_at_once_compute_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    log = tmp_path / "log"
    processes = [context.Process(target=ask, args=(tmp_path, log)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert log.read_text() == "computed\n"
    found = [np.load(path) for path in tmp_path.glob("log.*.npy")]
    assert len(found) == 3
    assert all(np.array_equal(each, features().test.features.numpy()) for each in found)


def test_the_digest_is_of_all_that_features_depend_on() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    digest = digest_of(network)
    assert digest == digest_of(network)
    with torch.no_grad():
        network[0].bias[1] += 1e-7 if network[0].bias[1] == 0 else network[0].bias[1] * 1e-6
    changed = digest_of(network)
    network[1].running_mean[0] = 2
    assert len({digest, changed, digest_of(network)}) == 3
