"""A run that processes share: one command, the results of one process, and no rank left behind by another's death."""

import dataclasses
import multiprocessing
import os
import random
import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from simclr_ablate.launch import worker
from simclr_ablate.launch.ranks import carry_out_rank
from simclr_ablate.ranks import RankLostError
from simclr_ablate.stopping import StopSignal
from simclr_ablate.store import EvaluationFolder, Run, TaskFolder
from tests import commands
from tests.commands import SMALL_STEPS, assert_close, eventually, only_run, wait_for_step
from tests.slowly import SLOW
from tests.warm import Command

pytestmark = pytest.mark.slow

LENGTH = "optimizer.epochs=4"
BEGUN = re.compile(r"pretraining from step (\d+)")


def start(environment: dict[str, str], store: Path, *overrides: str) -> Command:
    return commands.start(environment, store, *SMALL_STEPS, *overrides)


def run(environment: dict[str, str], store: Path, *overrides: str) -> Run:
    status, output = commands.run(environment, store, *SMALL_STEPS, *overrides)
    assert status == 0, output
    return only_run(store)


def parent_of(pid: int) -> int:
    """0 for a process that is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def ranks_of(task: TaskFolder) -> list[int]:
    """Process ids of the ranks that work on the task, the first one's first."""
    holder = task.holder()
    assert holder is not None
    first = int(holder["pid"])
    everyone = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    siblings = [pid for pid in everyone if parent_of(pid) == parent_of(first) and pid != first]
    return [first, *siblings]


def kill_one_of(task: TaskFolder) -> tuple[str, list[int]]:
    """The reason that is to be told, and who has to be gone soon."""
    pids = ranks_of(task)
    assert len(pids) == 2
    victim = random.randrange(2)
    os.kill(pids[victim], signal.SIGKILL)
    return f"rank {victim} of 2 killed by SIGKILL (out of memory?)", pids


def assert_failed(task: TaskFolder, output: str, reason: str, pids: list[int]) -> None:
    failure = task.failure()
    assert failure is not None
    assert failure["reason"] == reason
    assert reason in output
    assert not any(map(parent_of, pids)), "a rank is left"


@pytest.fixture(scope="module")
def alone(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of one process."""
    return run(environment, tmp_path_factory.mktemp("alone"), LENGTH)


needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")


@needs_proc
def test_commands_with_ranks_take_turns_and_one_process_goes_on_with_what_they_leave(
    environment: dict[str, str], tmp_path: Path, alone: Run
) -> None:
    """Of two at once one trains. It is stopped by Ctrl-C, and the other goes on until one of its ranks is killed."""
    arguments = (LENGTH, SLOW, "compute.ranks=2")
    both = [start(environment, tmp_path, *arguments) for _ in range(2)]
    found = wait_for_step(tmp_path, 5)
    leader = parent_of(ranks_of(found)[0])
    (first,) = [each for each in both if each.pid == parent_of(parent_of(leader))]
    (second,) = [each for each in both if each is not first]
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 130, output
    # Not from the progress, which the second may have written anew.
    begun = eventually(lambda: BEGUN.findall(found.log_path.read_text())[1:], "the second to begin")
    wait_for_step(tmp_path, int(begun[0]) + 5)
    reason, pids = kill_one_of(found)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert_failed(found, output, reason, pids)
    assert found.state() == "failed"

    assert_close(run(environment, tmp_path, LENGTH, SLOW), alone)
    log = found.log_path.read_text()
    assert log.count("pretraining from step") == 3
    assert log.count("pretraining from step 0") == 1


TUNING = (
    *("evaluation=finetune", "evaluation.steps=20", "evaluation.batch_size=16"),
    *("evaluation.lr_count=2", "evaluation.decay_count=0"),
)
"""Three loops."""


@needs_proc
def test_an_evaluation_goes_on_after_one_of_its_ranks_was_killed(
    environment: dict[str, str], tmp_path: Path, alone: Run
) -> None:
    shutil.copytree(alone.path.parent, tmp_path, dirs_exist_ok=True)
    arguments = (*SMALL_STEPS, LENGTH, *TUNING, "compute.ranks=2")
    found = only_run(tmp_path)

    def disturb() -> tuple[TaskFolder, str, list[int]]:
        def come_so_far() -> TaskFolder | None:
            tasks = (task for task in found.tasks() if isinstance(task, EvaluationFolder))
            return next((task for task in tasks if task.progress().get("step", 0) >= 5), None)

        task = eventually(come_so_far, "the evaluation at step 5")
        assert task is not None
        return task, *kill_one_of(task)

    with ThreadPoolExecutor() as thread:
        disturbed = thread.submit(disturb)
        status, output = commands.run(environment, tmp_path, *arguments)
        task, reason, pids = disturbed.result()
    assert status == 1, output
    assert_failed(task, output, reason, pids)
    assert found.failure() is None, "the encoder is as good as it was"

    run(environment, tmp_path, *arguments)
    assert task.is_done()
    assert task.failure() is None
    log = task.log_path.read_text()
    assert log.count("evaluating as") == 2
    assert log.count("training from step 0 of") == 3, "it has begun anew"


def test_the_random_encoder_is_that_of_one_process(
    environment: dict[str, str], tmp_path: Path
) -> None:
    one, two = (
        run(environment, tmp_path / count, "objective=none", f"compute.ranks={count}")
        for count in ("1", "2")
    )
    (ours,), (theirs,) = two.evaluations().values(), one.evaluations().values()
    assert ours["metrics"] == pytest.approx(theirs["metrics"], abs=0.5)


def test_the_failure_names_the_rank_and_the_first_cause_stays(
    make_runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LOST_SECONDS", 0)
    plan = make_runs(1)
    (planned,) = plan.runs
    job = worker.Job.of(plan, planned, "cache", 1, device="cpu")
    stop = StopSignal()

    def fail(error: Exception, index: int) -> int:
        return worker.record_failure(job, error, stop, index, 4).status

    cause, consequence = ValueError("no such file"), RankLostError("another rank is gone")
    assert fail(consequence, 0) == worker.Status.LOST
    assert planned.run.failure()["reason"] == "RankLostError: another rank is gone"
    assert fail(cause, 3) == worker.Status.FAILED
    assert fail(consequence, 0) == worker.Status.LOST
    assert planned.run.failure()["reason"] == "rank 3 of 4: ValueError: no such file"


def try_rank(job: worker.Job, index: int, meeting: str, tries: int, results: Queue) -> None:
    """Carries out a rank of two, of which the first tries `tries` times more while the run is held."""
    left = iter(range(tries))

    def tries_again() -> bool:
        assert index == 0, "the first rank decides"
        return next(left, None) is not None

    ending = carry_out_rank(job, StopSignal(), index, 2, meeting, tries_again)
    results.put((index, ending.status, next(left, None)))


def test_ranks_leave_a_held_run_together(make_runs, tmp_path) -> None:
    """Whatever their clocks say: one that went on alone would wait for the others, and fail."""
    plan = make_runs(1)
    (planned,) = plan.runs
    job = dataclasses.replace(worker.Job.of(plan, planned, "cache", 1, device="cpu"), job_id="8")
    planned.run.create(job.config)
    lease = planned.run.lease("7")
    assert lease is not None
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    meeting = f"file://{tmp_path}/meet"
    processes = [
        context.Process(target=try_rank, args=(job, k, meeting, 3 * (1 - k), results))
        for k in range(2)
    ]
    for process in processes:
        process.start()
    endings = sorted(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    assert endings == [(0, worker.Status.HELD, None), (1, worker.Status.HELD, None)]
    assert planned.run.failure() is None
    lease.release()


def test_a_rank_that_is_lost_while_others_hold_the_run_is_no_failure_of_it(
    make_runs, monkeypatch
) -> None:
    monkeypatch.setattr(worker, "LOST_SECONDS", 0)
    plan = make_runs(1)
    (planned,) = plan.runs
    job = worker.Job.of(plan, planned, "cache", 1, device="cpu")
    planned.run.create(job.config)
    lease = planned.run.lease("7")
    assert lease is not None

    def lost(job_id: str) -> int:
        of_job = dataclasses.replace(job, job_id=job_id)
        error = RankLostError("another rank is gone")
        return worker.record_failure(of_job, error, StopSignal(), 1, 2).status

    assert lost("8") == worker.Status.TAKEN
    assert planned.run.failure() is None
    # The holder may be the job's own first rank.
    assert lost("7") == worker.Status.LOST
    assert planned.run.failure()["reason"] == "rank 1 of 2: RankLostError: another rank is gone"
    lease.release()
