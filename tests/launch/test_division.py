"""How the runs of a command share a machine: each by its own device, cores and memory among all."""

import os
from collections.abc import Callable, Sequence

import pytest

from simclr_ablate.launch import division
from simclr_ablate.launch.devices import Accelerators
from simclr_ablate.launch.division import Division
from simclr_ablate.plan.launchers import LocalOptions
from simclr_ablate.plan.plan import PlannedRun

Fit = Callable[..., Division]


def options(**changes: object) -> LocalOptions:
    usual = {"name": "local", "parallel": None, "memory_gb": 1.0, "runs_per_gpu": 1}
    return LocalOptions(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> Fit:
    """`fit(runs, cores, gigabytes, gpus, free, ...)`: on a machine with these, so many of the gigabytes free."""

    def build(
        runs: Sequence[PlannedRun],
        cores: int,
        gigabytes: float,
        gpus: int = 0,
        free: float | None = None,
        gpu_gigabytes: int = 80,
        **changes: object,
    ) -> Division:
        sizes = (gigabytes * 2**30, (gigabytes if free is None else free) * 2**30)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        monkeypatch.setattr(division, "memory", lambda: sizes)
        names, memory = ("NVIDIA H100",) * gpus, (gpu_gigabytes * 2**30,) * gpus
        found = Accelerators("cuda" if gpus else "", names, memory)
        return division.fit(options(**changes), runs, found, len(runs))

    return build


@pytest.mark.parametrize(
    ("cores", "gigabytes", "runs", "changes", "parallel", "threads"),
    [
        (2, 16, 50, {}, 2, 1),
        (8, 4.5, 50, {}, 4, 2),  # memory for four
        (8, 0.2, 50, {}, 1, 8),  # never none
        (8, 64, 3, {}, 3, 2),  # no more than there are runs
        (8, 64, 50, {"parallel": 2}, 2, 4),
        (8, 64, 50, {"parallel": 12}, 12, 1),
        (8, 64, 50, {"memory_gb": 20.0}, 3, 2),
    ],
)
def test_cores_and_memory_are_shared(
    fit: Fit, make_runs, cores, gigabytes, runs, changes, parallel, threads
) -> None:
    everyone = make_runs(runs).runs
    shares = fit(everyone, cores, gigabytes, **changes)
    assert (shares.parallel, shares.threads) == (parallel, threads)
    taken = [shares.take(planned) for planned in everyone]
    assert taken[:parallel] == [["cpu"]] * parallel
    assert not any(taken[parallel:]), "no more at once"


def test_a_runs_share_does_not_depend_on_what_is_free(fit: Fit, make_runs) -> None:
    runs = make_runs(50).runs
    short = fit(runs, 8, 64, free=2.5)
    assert (short.parallel, short.threads) == (2, 1)
    asked = fit(runs, 8, 64, free=2.5, parallel=4)
    assert (asked.parallel, asked.threads) == (4, 2)
    assert fit(runs, 8, 64, free=0.5).parallel == 1
    assert fit(make_runs(1).runs, 8, 64).threads == 8


def test_memory_is_what_the_system_says() -> None:
    total, available = division.memory()
    assert 0 < available < total
    assert total == pytest.approx(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_gpus_take_one_run_each_or_as_many_as_asked(fit: Fit, make_runs, device: str) -> None:
    runs = make_runs(9, f"compute.device={device}").runs
    shares = fit(runs, 16, 128, gpus=2)
    assert (shares.parallel, shares.threads) == (2, 8)
    assert [shares.take(planned) for planned in runs[:3]] == [["cuda:0"], ["cuda:1"], None]
    shares.give_back(runs[1])
    assert shares.take(runs[2]) == ["cuda:1"]
    three = fit(runs, 16, 128, gpus=2, runs_per_gpu=3)
    assert three.parallel == 6
    taken = [three.take(planned) for planned in runs[:7]]
    assert taken == [["cuda:0"], ["cuda:1"]] * 3 + [None]


def test_a_certain_gpu_gets_its_runs_alone(fit: Fit, make_runs) -> None:
    named, others = make_runs(3, "compute.device=cuda:3").runs, make_runs(9).runs
    shares = fit([*named, *others], 16, 128, gpus=8)
    assert shares.take(named[0]) == ["cuda:3"]
    assert shares.take(named[1]) is None, "the others are for other runs"
    devices = [shares.take(planned) for planned in others]
    assert devices == [[f"cuda:{k}"] for k in (0, 1, 2, 4, 5, 6, 7)] + [None, None]


def test_runs_on_the_cpu_leave_the_gpus_to_the_others(fit: Fit, make_runs) -> None:
    on_cpu, others = make_runs(1, "compute.device=cpu").runs, make_runs(4).runs
    shares = fit([*on_cpu, *others], 16, 128, gpus=2)
    assert (shares.parallel, shares.threads) == (3, 5)
    taken = [shares.take(planned) for planned in (*on_cpu, *others[:2])]
    assert taken == [["cpu"], ["cuda:0"], ["cuda:1"]]
    alone = fit(make_runs(9, "compute.device=cpu").runs, 16, 128, gpus=2)
    assert (alone.parallel, alone.threads) == (9, 1)


def test_a_run_takes_a_gpu_for_each_rank(fit: Fit, make_runs) -> None:
    runs = make_runs(9, "compute.ranks=2").runs
    shares = fit(runs, 16, 2**10, gpus=5)
    assert (shares.parallel, shares.threads) == (2, 8)
    taken = [shares.take(planned) for planned in runs[:3]]
    assert taken == [["cuda:0", "cuda:1"], ["cuda:2", "cuda:3"], None]
    assert fit(runs, 16, 2**10, gpus=5, runs_per_gpu=2).parallel == 5
    on_cpus = fit(runs, 16, 2**10)
    assert (on_cpus.parallel, on_cpus.take(runs[2])) == (8, ["cpu", "cpu"])


@pytest.mark.parametrize(
    ("keys", "cores", "gigabytes", "each"),
    [
        ((), 16, 80, 8),  # as cores allow
        ((), 64, 80, 20),  # as memory allows
        ((), 16, 2, 1),
        (("encoder.width=4",), 16, 80, 8),
        (("encoder=resnet50",), 16, 80, 1),
        (("scale=cifar10", "data=shapes"), 16, 80, 1),
        (("optimizer.batch_size=1024",), 16, 80, 1),
        (("optimizer.batch_size=1024", "optimizer.micro_batch=256"), 16, 80, 8),
    ],
)
def test_small_runs_share_a_gpu(fit: Fit, make_runs, keys, cores, gigabytes, each) -> None:
    runs = make_runs(50, *keys).runs
    shares = fit(runs, cores, 512, gpus=2, gpu_gigabytes=gigabytes, runs_per_gpu=None)
    assert shares.parallel == min(2 * each, 50)
    asked = fit(runs, cores, 512, gpus=2, runs_per_gpu=None, parallel=5)
    assert asked.parallel == 5
    assert [shares.take(planned) for planned in runs[:2]] == [["cuda:0"], ["cuda:1"]]
