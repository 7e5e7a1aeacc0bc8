"""How the local launcher shares a machine out."""

import io
from collections import deque
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from simclr_ablate.launch import local, worker
from simclr_ablate.launch.local import LocalLauncher
from simclr_ablate.launch.outcome import Ledger, Outcome
from simclr_ablate.launch.progress import ProgressView
from simclr_ablate.plan.launchers import LocalOptions
from simclr_ablate.plan.plan import Plan, PlannedRun, make_plan
from simclr_ablate.store import Store
from tests.commands import only_run
from tests.small_runs import SMALL, give


def launcher(**changes: object) -> LocalOptions:
    options = {"name": "local", "parallel": None, "memory_gb": 1.0, "runs_per_gpu": None}
    return LocalOptions(**{**options, **changes})  # type: ignore[arg-type]


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


@pytest.mark.slow
def test_runs_do_not_need_to_be_forked(
    compose_config, make_experiment, monkeypatch, tmp_path: Path
) -> None:
    """As on macOS, where a forked process cannot use the GPU."""
    monkeypatch.setattr(local, "CONTEXT", SpawnContext())
    experiments = [make_experiment(*SMALL, "evaluation=knn", "evaluation.knn=5")]
    assert give(compose_config, tmp_path / "spawned", tmp_path / "cache", experiments) == 0
    monkeypatch.undo()
    assert give(compose_config, tmp_path / "forked", tmp_path / "cache", experiments) == 0
    spawned, forked = (only_run(tmp_path / store) for store in ("spawned", "forked"))
    (one,), (other,) = (run.evaluations().values() for run in (spawned, forked))
    assert one["metrics"] == other["metrics"]
