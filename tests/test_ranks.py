"""Collectives, among real processes."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from simclr_ablate.ranks import SOLO, RankLostError, Ranks, join

CPU = torch.device("cpu")


def numbers(index: int) -> list[Tensor]:
    """What rank `index` has: of several shapes, not all contiguous."""
    draw = torch.Generator().manual_seed(index)
    return [torch.randn(shape, generator=draw) for shape in ((3,), (2, 5), ())] + [
        torch.randn(4, 3, generator=draw).T,
        torch.randn(2, 3, 4, 4, generator=draw).contiguous(memory_format=torch.channels_last),
    ]


def use_all(ranks: Ranks) -> dict[str, Any]:
    tensors = numbers(ranks.index)
    gathered = [ranks.gather(tensor.bfloat16()) for tensor in tensors]
    gathered.append(ranks.gather(torch.tensor([ranks.index == 1])))
    ranks.sum_(tensors)
    results = {
        "gathered": gathered,
        "sums": tensors,
        "any": [ranks.any(ranks.index == 2), ranks.any(False), ranks.any(True)],
        "first": ranks.from_first({"who": ranks.index}),
        "share": ranks.share(slice(12, 24)),
        "collected": ranks.collect(
            [torch.full((k + 1, 2), ranks.index) for k in range(ranks.index)]
        ),
    }
    with ranks.first_alone():
        begin = time.time()
        if ranks.is_first:
            time.sleep(0.2)
        results["times"] = (begin, time.time())
    ranks.leave()
    return results


def test_all_ranks_get_the_same(on_ranks: Callable) -> None:
    everyones = on_ranks(3, use_all)
    for k, one in enumerate(everyones):
        for place, tensor in enumerate(numbers(0)):
            expected = [numbers(rank)[place].bfloat16() for rank in range(3)]
            assert all(map(torch.equal, one["gathered"][place], expected))
            total = sum(numbers(rank)[place] for rank in range(3))
            torch.testing.assert_close(one["sums"][place], total)
            assert torch.equal(one["sums"][place], everyones[0]["sums"][place])
            assert one["sums"][place].stride() == tensor.stride()
        assert [bool(flag) for flag in one["gathered"][-1]] == [False, True, False]
        assert one["any"] == [True, False, True]
        assert one["first"] == {"who": 0}
        assert one["share"] == slice(12 + 4 * k, 16 + 4 * k)
        if k:
            assert one["collected"] == []
            assert one["times"][0] >= everyones[0]["times"][1]
    collected = everyones[0]["collected"]
    assert [[tuple(t.shape) for t in tensors] for tensors in collected] == [
        [],
        [(1, 2)],
        [(1, 2), (2, 2)],
    ]
    assert all(bool((t == rank).all()) for rank, tensors in enumerate(collected) for t in tensors)


def meet_and_lose(index: int, meet: str, fate: Connection) -> None:
    """Rank 2 dies without a word; the others say what they see of it, and after how long."""
    with join(index, 3, f"file://{meet}", CPU) as ranks:
        ranks.wait()
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        begin = time.monotonic()
        try:
            while True:
                (ranks.any(False), ranks.gather(torch.ones(2)))
        except RankLostError as error:
            fate.send((time.monotonic() - begin, str(error)))
        ranks.abandon()


def test_the_death_of_one_is_seen_by_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    ranks = [
        context.Process(target=meet_and_lose, args=(index, str(tmp_path / "meet"), theirs))
        for index in range(3)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
        rank.kill()
    for _ in range(2):
        assert ours.poll(0)
        seconds, message = ours.recv()
        assert seconds < 30
        assert message.startswith("another rank of this run is gone: ")


def test_a_process_that_is_alone_gets_back_what_it_gives() -> None:
    one = torch.randn(3)
    assert SOLO.gather(one)[0] is one
    before = one.clone()
    SOLO.sum_([one])
    assert torch.equal(one, before)
    assert SOLO.any(True)
    assert not SOLO.any(False)
    assert SOLO.from_first(3) == 3
    assert SOLO.collect([one])[0][0] is one
    assert SOLO.share(slice(2, 5)) == slice(2, 5)
    with join(0, 1, "never used", CPU) as ranks:
        assert ranks is SOLO


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_shares_are_as_even_as_they_can_be(count: int) -> None:
    first, images = random.randrange(100), random.randrange(100)
    shares = unmet(count).shares(slice(first, first + images))
    assert [k for share in shares for k in range(share.start, share.stop)] == [
        *range(first, first + images)
    ]
    lengths = [share.stop - share.start for share in shares]
    assert max(lengths) - min(lengths) == (1 if images % count else 0)


def unmet(count: int) -> Ranks:
    """The first of so many ranks, which have not met."""
    ranks = Ranks.__new__(Ranks)
    ranks.index, ranks.count = 0, count
    return ranks
