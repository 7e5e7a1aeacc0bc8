"""How the local launcher shares a machine out."""

import io
import os

import pytest
from rich.console import Console

from simclr_ablate.launch import local, worker
from simclr_ablate.launch.local import LocalLauncher, fit
from simclr_ablate.launch.outcome import Outcome
from simclr_ablate.launch.progress import ProgressView
from simclr_ablate.launch.settings import LocalSettings


def launcher(**changes: object) -> LocalSettings:
    settings = {"name": "local", "parallel": None, "memory_gb": 1.0, "runs_per_gpu": 1}
    return LocalSettings(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.fixture
def machine(monkeypatch):
    """`machine(cores, gigabytes, gpus, free)`: as if this machine had them, so many of the gigabytes free."""

    def build(cores: int, gigabytes: float, gpus: int = 0, free: float | None = None) -> None:
        sizes = (gigabytes * 2**30, (gigabytes if free is None else free) * 2**30)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        monkeypatch.setattr(local, "memory", lambda: sizes)
        monkeypatch.setattr(local, "gpu_count", lambda: gpus)

    return build


@pytest.mark.parametrize(
    ("cores", "gigabytes", "runs", "settings", "parallel", "threads"),
    [
        (2, 16, 50, {}, 2, 1),
        (8, 4.5, 50, {}, 4, 2),  # memory for four
        (8, 0.2, 50, {}, 1, 8),  # never none
        (8, 64, 3, {}, 3, 2),  # no more than there are runs
        (8, 64, 50, {"parallel": 2}, 2, 4),
        (8, 64, 50, {"memory_gb": 20.0}, 3, 2),
    ],
)
def test_cores_and_memory_are_shared(
    machine, make_runs, cores, gigabytes, runs, settings, parallel, threads
) -> None:
    machine(cores, gigabytes)
    shares = fit(launcher(**settings), list(make_runs(runs).runs), runs)
    assert (shares.parallel, shares.threads, shares.devices) == (parallel, threads, ["cpu"])


def test_a_runs_share_does_not_depend_on_what_is_left_or_free(machine, make_runs) -> None:
    runs = list(make_runs(1).runs)
    machine(8, 64)
    assert fit(launcher(), runs, 50).threads == 1
    assert fit(launcher(), runs, 1).threads == 8
    machine(8, 64, free=2.5)
    short = fit(launcher(), list(make_runs(50).runs), 50)
    assert (short.parallel, short.threads) == (2, 1)
    asked = fit(launcher(parallel=4), list(make_runs(50).runs), 50)
    assert (asked.parallel, asked.threads) == (4, 2)
    machine(8, 64, free=0.5)
    assert fit(launcher(), runs, 50).parallel == 1


def test_memory_is_what_the_system_says() -> None:
    total, available = local.memory()
    assert 0 < available < total
    assert total == pytest.approx(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def test_gpus_take_one_run_each_or_as_many_as_asked(machine, make_runs) -> None:
    machine(16, 128, 2)
    runs = list(make_runs(9).runs)
    assert fit(launcher(), runs, 9).parallel == 2
    assert fit(launcher(), runs, 9).devices == ["cuda:0", "cuda:1"]
    assert fit(launcher(runs_per_gpu=3), runs, 9).parallel == 6
    on_cpu = fit(launcher(), list(make_runs(9, "compute.device=cpu").runs), 9)
    assert (on_cpu.parallel, on_cpu.devices) == (9, ["cpu"])


@pytest.mark.parametrize(
    ("status", "recorded", "reason"),
    [
        (worker.FAILED, "the loss became nan", "the loss became nan"),
        (worker.FAILED, None, "its process ended with status 1 and left no reason"),
        (255, None, "its process ended with status 255 and left no reason"),
        (worker.INTERRUPTED, None, "stopped by SIGTERM; its checkpoint is kept"),
        (-9, "of an earlier attempt", "killed by SIGKILL (out of memory?)"),
        (-11, None, "killed by SIGSEGV"),
    ],
)
def test_no_run_fails_without_a_reason(make_runs, status, recorded, reason) -> None:
    (planned,) = make_runs(1).runs
    if recorded is not None:
        planned.run.write_failure({"reason": recorded})
    outcome = Outcome()
    view = ProgressView(Console(file=io.StringIO(), width=200), total=1, done=0)
    LocalLauncher(launcher(), "cache")._ended(planned, status, {}, outcome, view)
    assert outcome.failed == [planned]
    assert planned.run.failure()["reason"] == reason
    assert reason in view._console.file.getvalue()
