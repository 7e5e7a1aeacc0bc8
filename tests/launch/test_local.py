"""How the local launcher shares a machine out."""

import io
import os
from collections import deque
from typing import Any

import pytest
from rich.console import Console

from simclr_ablate.launch import local, worker
from simclr_ablate.launch.local import LocalLauncher, fit
from simclr_ablate.launch.outcome import Ledger, Outcome
from simclr_ablate.launch.progress import ProgressView
from simclr_ablate.plan.launchers import LocalOptions
from simclr_ablate.plan.plan import Plan, PlannedRun, make_plan
from simclr_ablate.store import Store


def launcher(**changes: object) -> LocalOptions:
    options = {"name": "local", "parallel": None, "memory_gb": 1.0, "runs_per_gpu": 1}
    return LocalOptions(**{**options, **changes})  # type: ignore[arg-type]


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
    ("cores", "gigabytes", "runs", "options", "parallel", "threads"),
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
    machine, make_runs, cores, gigabytes, runs, options, parallel, threads
) -> None:
    machine(cores, gigabytes)
    shares = fit(launcher(**options), list(make_runs(runs).runs), runs, runs)
    assert (shares.parallel, shares.threads, shares.devices) == (parallel, threads, ["cpu"])


def test_a_runs_share_does_not_depend_on_what_is_left_or_free(machine, make_runs) -> None:
    runs = list(make_runs(1).runs)
    machine(8, 64)
    assert fit(launcher(), runs, 50, 50).threads == 1
    assert fit(launcher(), runs, 1, 1).threads == 8
    machine(8, 64, free=2.5)
    short = fit(launcher(), list(make_runs(50).runs), 50, 50)
    assert (short.parallel, short.threads) == (2, 1)
    asked = fit(launcher(parallel=4), list(make_runs(50).runs), 50, 50)
    assert (asked.parallel, asked.threads) == (4, 2)
    machine(8, 64, free=0.5)
    assert fit(launcher(), runs, 50, 50).parallel == 1


def test_memory_is_what_the_system_says() -> None:
    total, available = local.memory()
    assert 0 < available < total
    assert total == pytest.approx(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def test_gpus_take_one_run_each_or_as_many_as_asked(machine, make_runs) -> None:
    machine(16, 128, 2)
    runs = list(make_runs(9).runs)
    assert fit(launcher(), runs, 9, 9).parallel == 2
    assert fit(launcher(), runs, 9, 9).devices == ["cuda:0", "cuda:1"]
    assert fit(launcher(runs_per_gpu=3), runs, 9, 9).parallel == 6
    on_cpu = fit(launcher(), list(make_runs(9, "compute.device=cpu").runs), 9, 9)
    assert (on_cpu.parallel, on_cpu.devices) == (9, ["cpu"])


@pytest.mark.parametrize(
    ("status", "told", "reason"),
    [
        (worker.Status.FAILED, "the loss became nan", "the loss became nan"),
        (worker.Status.FAILED, None, "its process ended with status 1 and gave no reason"),
        (worker.Status.INTERRUPTED, "stopped by SIGTERM", "stopped by SIGTERM"),
        (-9, None, "killed by SIGKILL (out of memory?)"),
        (-11, None, "killed by SIGSEGV"),
    ],
)
@pytest.mark.parametrize("earlier", [None, "of an earlier attempt"])
def test_no_run_fails_without_a_reason(make_runs, status, told, reason, earlier) -> None:
    (planned,) = make_runs(1).runs
    if earlier is not None:
        planned.run.write_failure({"reason": earlier})
    outcome, view = ended(planned, status, told)
    assert outcome.failed == [planned]
    assert planned.run.failure()["reason"] == outcome.reason_of(planned) == reason
    assert reason in view._console.file.getvalue()


def ended(planned: PlannedRun, status: int, told: str | None = None) -> tuple[Outcome, Any]:
    """What the launcher makes of a process that ended so."""
    waiting, elsewhere = deque(), {}
    view = ProgressView(Console(file=io.StringIO(), width=200), total=1, done=0)
    ledger = Ledger(Plan(None, (planned,), Store("nowhere")), view)
    LocalLauncher(launcher(), "cache")._ended(planned, status, told, waiting, elsewhere, ledger)
    assert len([*waiting, *elsewhere, *ledger.outcome.failed]) == 1
    return ledger.outcome, view


def test_a_process_that_never_made_its_folder_has_failed_too(make_experiment, tmp_path) -> None:
    (planned,) = make_plan([make_experiment()], Store(tmp_path / "store"), None).runs
    ended(planned, -9)
    assert planned.run.config() == planned.experiment.to_config()
    assert planned.run.failure()["reason"] == "killed by SIGKILL (out of memory?)"


def test_a_reason_that_no_file_can_keep_is_told_in_the_end(make_experiment, tmp_path) -> None:
    (planned,) = make_plan([make_experiment()], Store(tmp_path / "store"), None).runs
    (tmp_path / "store").mkdir()
    planned.run.path.write_text("no folder")
    outcome, view = ended(planned, worker.Status.FAILED, "the loss became nan")
    for text in (outcome.reason_of(planned), view._console.file.getvalue()):
        assert "the loss became nan" in text
    assert str(planned.run.path) in outcome.reason_of(planned)


def test_what_another_process_has_gone_on_with_has_not_failed(make_runs) -> None:
    """A process that was taken over, and then killed, leaves nothing in the other's run."""
    done, held = make_runs(2).runs
    done.run.write_evaluation(done.evaluation_key, {}, {"top1": 1.0})
    lease = held.run.lease()
    for planned in (done, held):
        outcome, _ = ended(planned, -9)
        assert not outcome.failed
        assert planned.run.failure() is None
    lease.release()
