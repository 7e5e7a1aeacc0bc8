"""What a process leaves of a run that it could not carry out."""

import errno
import multiprocessing
import os
import shutil
import signal

import pytest

from simclr_ablate.config import ConfigError
from simclr_ablate.files import StorageError
from simclr_ablate.launch import worker
from simclr_ablate.stopping import RankLostError, StopSignal
from tests.small_runs import SMALL


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StorageError("cannot write /a: the disk is full"), "cannot write /a: the disk is full"),
        (ConfigError("seed must be >= 0, got -1"), "seed must be >= 0, got -1"),
        (ValueError("one line\nand another"), "ValueError: one line"),
        (EOFError(), "EOFError"),
        (KeyError("top1"), "KeyError: 'top1'"),
    ],
)
def test_reasons_are_one_line_and_name_what_a_user_cannot_cause(make_runs, error, reason) -> None:
    plan = make_runs(1)
    job = worker.Job.of(plan, plan.runs[0], "cache", 1, device="cpu")
    ending = worker.record_failure(job, error, StopSignal())
    assert ending == worker.Ending(worker.Status.FAILED, reason)
    assert plan.runs[0].run.failure()["reason"] == reason


def test_a_full_disk_is_told_with_path_and_room(make_runs, tmp_path) -> None:
    plan = make_runs(1)
    job = worker.Job.of(plan, plan.runs[0], "cache", 1, device="cpu")
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "features"))
    reason = worker.record_failure(job, error, StopSignal()).reason
    assert f"cannot write {tmp_path}/features: the disk is full" in reason
    assert "free" in reason


@pytest.mark.slow
def test_a_log_that_cannot_be_opened_hides_no_reason(make_runs, tmp_path) -> None:
    plan = make_runs(1)
    (planned,) = plan.runs
    planned.run.log_path.mkdir(parents=True)
    job = worker.Job.of(plan, planned, str(tmp_path / "cache"), 1, device="nonsense")
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=worker.work, args=(job, sender))
    process.start()
    process.join(120)
    assert process.exitcode == worker.Status.FAILED
    assert "nonsense" in planned.run.failure()["reason"]
    assert receiver.recv() == planned.run.failure()["reason"]


def test_a_store_that_takes_nothing_costs_no_reason(make_runs, tmp_path) -> None:
    plan = make_runs(1)
    (planned,) = plan.runs
    job = worker.Job.of(plan, planned, "cache", 1, device="cpu")
    shutil.rmtree(planned.run.path)
    planned.run.path.touch()
    ending = worker.record_failure(job, ValueError("why"), StopSignal())
    assert ending.status == worker.Status.FAILED
    assert ending.reason.startswith("ValueError: why (not recorded: ")
    assert f"{planned.run.path} is a file" in ending.reason


def test_what_fails_right_after_the_claim_is_told_and_lets_go(make_runs, tmp_path) -> None:
    plan = make_runs(1)
    (planned,) = plan.runs
    job = worker.Job.of(plan, planned, str(tmp_path / "cache"), 1, device="cpu")
    nothing = tmp_path / "nothing"
    nothing.mkdir()

    class Away(type(planned.run)):
        def clear_failure(self, job: str | None = None) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(nothing))

    with pytest.MonkeyPatch.context() as patch, StopSignal() as stop:
        patch.setattr(worker, "run_of", lambda _: Away(planned.run.path))
        ending = worker.carry_out_job(job, stop)
    assert ending.status == worker.Status.FAILED
    assert "Input/output error" in planned.run.failure()["reason"]
    assert planned.run.holder() is None


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(("heard", "requeued"), [(signal.SIGUSR2, True), (signal.SIGTERM, False)])
def test_a_job_that_starts_again_never_looks_abandoned(
    make_runs, tmp_path, monkeypatch, heard, requeued, ranks
) -> None:
    """The lease that it leaves says so by itself: others look at any moment. Other ranks may hear the signal first."""
    plan = make_runs(1, *SMALL)
    (planned,) = plan.runs
    planned.run.write_submission({"job": "7", "cluster": "slurm", "output": ""})
    job = worker.Job.of(
        plan,
        planned,
        str(tmp_path / "cache"),
        1,
        device="cpu",
        job_id="7",
        requeue_signal=signal.SIGUSR2,
    )
    begin = worker._Attempt.begin

    def begin_and_lose_a_rank(attempt: worker._Attempt) -> int | None:
        begin(attempt)
        os.kill(os.getpid(), heard)
        raise RankLostError("another was quicker")

    with StopSignal(stop_on=(signal.SIGUSR2, signal.SIGTERM)) as stop:
        if ranks > 1:
            monkeypatch.setattr(worker._Attempt, "begin", begin_and_lose_a_rank)
            monkeypatch.setattr(worker, "LOST_SECONDS", 0)
        else:
            os.kill(os.getpid(), heard)
        ending = worker.carry_out_job(job, stop)
    assert ending.status == worker.Status.INTERRUPTED
    assert planned.run.is_queued() == requeued
    assert planned.run.is_abandoned() != requeued
    assert (planned.run.state() == "queued") == requeued
