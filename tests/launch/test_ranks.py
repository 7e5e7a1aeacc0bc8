"""A run that processes share: one command, the results of one process, and no rank left behind by another's death."""

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from simclr_ablate.launch import worker
from simclr_ablate.launch.launchers import LocalOptions
from simclr_ablate.launch.local import Division, LocalLauncher, fit
from simclr_ablate.ranks import RankLostError
from simclr_ablate.stopping import StopSignal
from simclr_ablate.store import Run, Store
from tests import commands
from tests.commands import SMALL_STEPS, assert_close, only_run, wait_for_step
from tests.slowly import SLOW

LENGTH = [SLOW, "optimizer.epochs=6"]


def start(environment: dict[str, str], store: Path, *overrides: str) -> subprocess.Popen[str]:
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


def ranks_of(found: Run) -> list[int]:
    """Process ids of the run's ranks, the first one's first."""
    holder = found.holder()
    assert holder is not None
    first = int(holder["pid"])
    everyone = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    siblings = [pid for pid in everyone if parent_of(pid) == parent_of(first) and pid != first]
    return [first, *siblings]


@pytest.fixture(scope="module")
def alone(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of one process."""
    return run(environment, tmp_path_factory.mktemp("alone"), *LENGTH)


needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")


@needs_proc
def test_a_killed_rank_ends_all_and_what_ranks_leave_one_process_goes_on_with(
    environment: dict[str, str], tmp_path: Path, alone: Run
) -> None:
    """Whichever it is; afterwards the same command goes on, is stopped by Ctrl-C, and one process ends it."""
    victim = random.randrange(2)
    arguments = (*LENGTH, "compute.ranks=2")
    process = start(environment, tmp_path, *arguments)
    found = wait_for_step(tmp_path, 15)
    pids = ranks_of(found)
    assert len(pids) == 2
    os.kill(pids[victim], signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    reason = f"rank {victim} of 2 killed by SIGKILL (out of memory?)"
    assert found.failure()["reason"] == reason
    assert reason in output
    assert found.state() == "failed"
    assert not any(map(parent_of, pids)), "a rank is left"
    reached = found.progress()["step"]

    process = start(environment, tmp_path, *arguments)
    wait_for_step(tmp_path, reached + 10)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert found.state() == "interrupted"

    assert_close(run(environment, tmp_path, *LENGTH), alone)
    log = found.log_path.read_text()
    assert log.count("pretraining from step") == 3
    assert log.count("pretraining from step 0") == 1


def test_the_random_encoder_is_that_of_one_process(
    environment: dict[str, str], tmp_path: Path
) -> None:
    one, two = (
        run(environment, tmp_path / count, "objective=none", f"compute.ranks={count}")
        for count in ("1", "2")
    )
    (ours,), (theirs,) = two.evaluations().values(), one.evaluations().values()
    assert ours["metrics"] == pytest.approx(theirs["metrics"], abs=0.5)


def test_two_commands_with_ranks_train_once(environment: dict[str, str], tmp_path: Path) -> None:
    arguments = ("optimizer.epochs=1", "compute.ranks=2")
    both = [start(environment, tmp_path, *arguments) for _ in range(2)]
    outputs = [command.communicate(timeout=120)[0] for command in both]
    assert [command.returncode for command in both] == [0, 0], outputs
    (found,) = Store(tmp_path).runs()
    assert found.log_path.read_text().count("pretraining from step") == 1


def test_the_failure_names_the_rank_and_the_first_cause_stays(make_runs) -> None:
    plan = make_runs(1)
    (planned,) = plan.runs
    job = plan.job(planned, "cache", 1, device="cpu")
    stop = StopSignal()

    def fail(error: Exception, index: int) -> int:
        return worker.record_failure(job, error, stop, index, 4).status

    cause, consequence = ValueError("no such file"), RankLostError("another rank is gone")
    assert fail(consequence, 0) == worker.Status.LOST
    assert planned.run.failure()["reason"] == "RankLostError: another rank is gone"
    assert fail(cause, 3) == worker.Status.FAILED
    assert fail(consequence, 0) == worker.Status.LOST
    assert planned.run.failure()["reason"] == "rank 3 of 4: ValueError: no such file"


def launcher(**changes: object) -> LocalOptions:
    options = {"name": "local", "parallel": None, "memory_gb": 1.0, "runs_per_gpu": 1}
    return LocalOptions(**{**options, **changes})  # type: ignore[arg-type]


def test_a_run_takes_a_gpu_for_each_rank(make_runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr("simclr_ablate.launch.local.memory", lambda: (2.0**40, 2.0**40))
    monkeypatch.setattr("simclr_ablate.launch.local.gpu_count", lambda: 5)
    runs = list(make_runs(9, "compute.ranks=2").runs)
    shares = fit(launcher(), runs, 9, 9)
    assert (shares.parallel, shares.threads) == (2, 8)
    assert fit(launcher(runs_per_gpu=2), runs, 9, 9).parallel == 5
    local = LocalLauncher(launcher(), "cache")
    chosen = [local._choose_devices(planned, shares) for planned in runs[:2]]
    assert chosen == [["cuda:0", "cuda:1"], ["cuda:2", "cuda:3"]]
    on_cpus = Division(2, 8, 8, ["cpu"])
    assert local._choose_devices(runs[2], on_cpus) == ["cpu", "cpu"]
