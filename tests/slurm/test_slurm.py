"""The SLURM launcher on a real SLURM: whatever happens to jobs, the results are those of one undisturbed machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from simclr_ablate.status import main as status_main
from simclr_ablate.store import Run, Store
from tests.commands import (
    SMALL_STEPS,
    assert_close,
    assert_same,
    logs,
    only_run,
    results,
    run_process,
    start,
    wait_for_step,
)
from tests.slowly import SLOW
from tests.slurm.conftest import ON_SLURM, STEPS, eventually, slurm

RARE_CHECKPOINTS = "compute.checkpoint_minutes=60"
START = Path(__file__).parent / "start-slurm.sh"


def seeds(store: Path) -> dict[int, Run]:
    return {run.config()["seed"]: run for run in Store(store).runs()}


def assert_as_undisturbed(store: Path, undisturbed: Path) -> None:
    expected = seeds(undisturbed)
    for seed, run in seeds(store).items():
        assert_same(run, results(expected[seed]))


def submit(environment, store: Path, *arguments: str) -> str:
    """Submits and walks away; returns what the command says."""
    status, output = run_process(environment, store, "-m", *ON_SLURM, *STEPS, *arguments)
    assert status == 0, output
    return output


def job_of(run: Run) -> str:
    submission = run.last_submission()
    assert submission is not None
    return submission["job"]


def ended(store: Path) -> bool:
    """Whether nothing in the store is queued or running, SLURM being asked.

    A run whose process was killed is `interrupted` until SLURM says that its job has ended.
    """
    assert status_main([f"store={store}", "--json"]) == 0
    going_on = ("queued", "running", "interrupted")
    return all(run.state() not in going_on for run in Store(store).runs())


def wait_until_done(store: Path, seconds: float = 300) -> None:
    eventually(lambda: ended(store), "the runs to end", seconds)
    states = {run.run_id: (run.state(), run.failure()) for run in Store(store).runs()}
    assert {state for state, _ in states.values()} == {"complete"}, states


def at_step(run: Run, step: int) -> None:
    eventually(lambda: run.progress().get("step", 0) >= step, f"{run.run_id} at step {step}")


def disturb(runs: dict[int, Run], how: dict[int, Callable[[Run], object]]) -> None:
    """Does `how[seed]` to each run as soon as it has made some steps."""
    left = dict(how)

    def look() -> bool:
        for seed in list(left):
            if runs[seed].progress().get("step", 0) >= 8:
                left.pop(seed)(runs[seed])
        return not left

    eventually(look, "runs to disturb")


def terminate_and_kill(run: Run) -> None:
    """What a preempted job sees where it gets no other warning."""
    os.kill(run.holder()["pid"], signal.SIGTERM)
    eventually((run.path / "checkpoint.pt").exists, "a checkpoint")
    os.kill(run.holder()["pid"], signal.SIGKILL)


def tasks_of(job: str) -> list[int]:
    """The processes of a job that carry its run out."""
    lines = slurm("scontrol", "listpids", job).splitlines()[1:]
    commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in (line.split()[0] for line in lines)}
    return [
        int(pid)
        for pid, command in commands.items()
        if command.exists()
        and command.read_bytes().split(b"\0")[1:4] == [b"-u", b"-m", b"submitit.core._submit"]
    ]


def block(*options: str, seconds: int) -> None:
    """A job that keeps CPUs busy with nothing."""
    slurm("sbatch", *options, "--mem=100M", "--output=/dev/null", f"--wrap=sleep {seconds}")


def kill(number: signal.Signals) -> Callable[[Run], object]:
    return lambda run: os.kill(run.holder()["pid"], number)


def accounted(jobs: list[str]) -> dict[str, str]:
    """SLURM's states of jobs in its accounting."""
    arrays = ",".join({job.partition("_")[0] for job in jobs})
    shown = slurm("sacct", "-n", "-P", "-X", "-o", "JobID,State", "-j", arrays)
    return dict(line.split("|") for line in shown.splitlines())


def test_a_sweep_of_four_of_which_one_fails(environment, tmp_path, undisturbed) -> None:
    """One array; the failure is FAILED for SLURM too, stops no other, and everything else is as on one machine."""
    folder = tmp_path / "config/sweep"
    folder.mkdir(parents=True)
    (folder / "four.yaml").write_text(
        "name: four\ngrids:\n  - seed: [0, 1, 2]\n"
        "  - seed: [0]\n    optimizer.name: [sgd]\n    optimizer.lr: [1.0e30]\n"
    )
    store = tmp_path / "store"
    status, output = run_process(
        environment,
        store,
        *("-m", "--config-dir", str(tmp_path / "config"), "sweep=four"),
        *(*ON_SLURM, *STEPS, "launcher.follow=true", "launcher.max_parallel=2"),
    )
    assert status == 1, output
    runs = list(Store(store).runs())
    jobs = [job_of(run) for run in runs]
    assert len({job.partition("_")[0] for job in jobs}) == 1, "more than one sbatch"
    (failed,) = [run for run in runs if run.state() == "failed"]
    assert "NonFiniteLossError" in failed.failure()["traceback"]
    for text in (failed.run_id, "NonFiniteLossError", "3 done, 1 not"):
        assert text in output
    wanted = {job_of(run): "FAILED" if run is failed else "COMPLETED" for run in runs}
    eventually(lambda: accounted(jobs) == wanted, "SLURM's account")
    expected = seeds(undisturbed)
    for run in runs:
        if run is not failed:
            assert_same(run, results(expected[run.config()["seed"]]))


def assert_gone_on_with(run: Run) -> None:
    """The run had two attempts, and the second did not begin anew."""
    log = run.log_path.read_text()
    assert log.count("pretraining from step") == 2
    assert log.count("pretraining from step 0") == 1


def test_interruptions_change_nothing(environment, tmp_path, undisturbed) -> None:
    """A time limit's warning, SIGKILL and retry, a requeue from outside: none begins anew."""
    submit(environment, tmp_path, "seed=0,1,2", RARE_CHECKPOINTS)
    runs = seeds(tmp_path)
    disturb(
        runs,
        {
            # Saved at the end of the step, requeued by the job itself.
            0: lambda run: slurm("scancel", "--signal=USR2", job_of(run)),
            # SLURM's last word, then its end: it does not start it again.
            1: terminate_and_kill,
            # The run hears SIGTERM and nothing else, and goes on from what that made it save.
            2: lambda run: slurm("scontrol", "requeue", job_of(run)),
        },
    )
    eventually(lambda: ended(tmp_path), "the runs to end", 300)
    states = {seed: run.state() for seed, run in runs.items()}
    assert states == {0: "complete", 1: "failed", 2: "complete"}
    assert f"SLURM job {job_of(runs[1])} ended as" in runs[1].failure()["reason"]
    assert status_main(["retry", f"store={tmp_path}", "state=failed"]) == 0
    wait_until_done(tmp_path)
    for run in runs.values():
        assert_gone_on_with(run)
    assert_as_undisturbed(tmp_path, undisturbed)


def test_the_controller_is_restarted_while_jobs_run(environment, tmp_path, undisturbed) -> None:
    """One run has to requeue itself while nobody answers, the other does not notice."""
    submit(environment, tmp_path, "seed=0,1", RARE_CHECKPOINTS)
    runs = seeds(tmp_path)
    at_step(runs[0], 8)
    folder = Path(os.environ["SIMCLR_ABLATE_TEST_SLURM"])
    os.kill(int((folder / "run/slurmctld.pid").read_text()), signal.SIGTERM)
    kill(signal.SIGUSR2)(runs[0])
    time.sleep(3)
    subprocess.run(["bash", START, folder], check=True, capture_output=True, timeout=120)
    wait_until_done(tmp_path)
    logs = {seed: run.log_path.read_text() for seed, run in runs.items()}
    assert {seed: log.count("pretraining from step") for seed, log in logs.items()} == {0: 2, 1: 1}
    assert_as_undisturbed(tmp_path, undisturbed)


def test_preemption(environment, tmp_path, undisturbed) -> None:
    """A job of a higher partition takes the place of both runs, and they come back."""
    submit(environment, tmp_path, "seed=0,1", "launcher.partition=preemptible", RARE_CHECKPOINTS)
    for run in seeds(tmp_path).values():
        at_step(run, 8)
    block("--partition=debug", "--ntasks=2", seconds=3)
    wait_until_done(tmp_path)
    for run in seeds(tmp_path).values():
        assert_gone_on_with(run)
    assert_as_undisturbed(tmp_path, undisturbed)


def test_a_real_time_limit(environment, tmp_path) -> None:
    """Longer than its minute: requeued when the minute is over, as often as it takes."""
    length = "optimizer.epochs=54"  # of 10 steps, 0.1 s each: 54 s at least, where the warning comes after 50
    alone = start(environment, tmp_path / "local", SLOW, length)
    status, output = run_process(
        environment,
        tmp_path / "slurm",
        *("-m", *ON_SLURM, SLOW, length, "launcher.time_minutes=1", "launcher.signal_seconds=10"),
        *(RARE_CHECKPOINTS, "launcher.follow=true"),
        seconds=600,
    )
    assert status == 0, output
    run = only_run(tmp_path / "slurm")
    assert run.log_path.read_text().count("pretraining from step") >= 2
    output, _ = alone.communicate(timeout=600)
    assert alone.returncode == 0, output
    assert_same(run, results(only_run(tmp_path / "local")))


def test_two_submissions_at_once(environment, tmp_path) -> None:
    arguments = ["-m", *ON_SLURM, "seed=range(3)", "optimizer.epochs=1", "launcher.follow=true"]
    commands = [start(environment, tmp_path, *arguments) for _ in range(2)]
    outputs = [command.communicate(timeout=300)[0] for command in commands]
    assert [command.returncode for command in commands] == [0, 0], outputs
    runs = list(Store(tmp_path).runs())
    assert len(runs) == 3
    assert len({job_of(run).partition("_")[0] for run in runs}) == 1
    for run in runs:
        lines = logs(run)
        assert lines.count("pretraining from step") == 1, "somebody trained it twice"
        assert lines.count("evaluating as") == 1, "somebody evaluated it twice"


def test_cancel_and_retry(environment, tmp_path, undisturbed, capsys) -> None:
    block("--ntasks=1", seconds=600)  # so that one of two waits
    submit(environment, tmp_path, "seed=0,1")
    # Before the run has begun to train: on a busy machine this command takes as long as a run.
    assert "2 are queued or running already" in submit(environment, tmp_path, "seed=0,1")
    running = wait_for_step(tmp_path, 8)
    (queued,) = [run for run in Store(tmp_path).runs() if run.run_id != running.run_id]
    assert queued.state() == "queued"
    assert status_main(["cancel", f"store={tmp_path}", f"run={queued.run_id}"]) == 0
    assert (queued.state(), running.state()) == ("failed", "running")
    assert "cancelled by" in queued.failure()["reason"]
    assert status_main(["cancel", f"store={tmp_path}", "state=running"]) == 0
    eventually(lambda: running.state() == "failed" and running.holder() is None, "its end")
    _assert_queue(tmp_path, [])
    slurm("scancel", "--user=root")
    assert status_main(["retry", f"store={tmp_path}"]) == 0
    wait_until_done(tmp_path)
    assert_as_undisturbed(tmp_path, undisturbed)


def _assert_queue(store: Path, expected: list[str]) -> None:
    jobs = {job_of(run).partition("_")[0] for run in Store(store).runs()}
    shown = slurm("squeue", "--noheader", "--states=PENDING", "--format=%A").split()
    assert [job for job in shown if job in jobs] == expected


def test_refusals_are_the_clusters_own_words(environment, tmp_path) -> None:
    status, output = run_process(
        environment, tmp_path, "-m", *ON_SLURM, "launcher.partition=nowhere", "seed=0,1"
    )
    assert status == 2
    assert "sbatch: error: invalid partition specified: nowhere" in output
    assert not list(Store(tmp_path).runs()), "something was recorded"
    assert not slurm("squeue", "--noheader")


def test_out_of_memory_is_told(environment, tmp_path) -> None:
    status, output = run_process(
        environment, tmp_path, *ON_SLURM, "launcher.memory_gb=0.3", "launcher.follow=true"
    )
    assert status == 1, output
    assert "memory limit" in only_run(tmp_path).failure()["reason"]
    assert "memory limit" in output


def test_rules_give_runs_what_they_need(environment, tmp_path) -> None:
    """One array for each shape of resources, and each job gets its shape; two evaluations of a run are one job."""
    rule = "{when: {optimizer.batch_size: '>= 100'}, cpus: 2, time_minutes: 7}"
    arguments = [f"launcher.resources=[{rule}]", "+launcher.sbatch.comment=mine"]
    grid = ["optimizer.batch_size=64,128", "evaluation.features=h,z"]
    output = submit(environment, tmp_path, *arguments, *grid, "optimizer.epochs=1")
    assert "submitted 4 experiments" in output
    shapes = {}
    for run in Store(tmp_path).runs():
        job = job_of(run)
        assert "_" not in job, "an array, so more than one job"
        shown = slurm("scontrol", "show", "job", job)
        assert "Comment=mine" in shown
        words = dict(word.split("=", 1) for word in shown.split() if "=" in word)
        size = run.config()["optimizer"]["batch_size"]
        shapes[size] = (job, words["NumCPUs"], words["TimeLimit"])
    assert shapes[64][1:] == ("1", "00:30:00")
    assert shapes[128][1:] == ("2", "00:07:00")
    assert shapes[64][0] != shapes[128][0]
    wait_until_done(tmp_path)
    for run in Store(tmp_path).runs():
        eventually(lambda run=run: len(run.evaluations()) == 2, "both evaluations")
        assert run.log_path.read_text().count("pretraining from step") == 1


def test_ctrl_c_while_following_leaves_the_jobs_alone(environment, tmp_path, undisturbed) -> None:
    command = start(environment, tmp_path, *ON_SLURM, *STEPS, "seed=2", "launcher.follow=true")
    wait_for_step(tmp_path, 8)
    command.send_signal(signal.SIGINT)
    output, _ = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "the jobs continue without this command" in output
    follow = [sys.executable, "-m", "simclr_ablate.status", f"store={tmp_path}", "--follow"]
    done = subprocess.run(follow, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 complete")
    assert_as_undisturbed(tmp_path, undisturbed)


def test_hydras_own_launcher_option(environment, tmp_path) -> None:
    options = ["hydra.launcher.cpus=1", "hydra.launcher.memory_gb=2"]
    for sweeper in ("plan", "basic"):
        status, output = run_process(
            environment,
            tmp_path,
            *("-m", "hydra/launcher=slurm", f"hydra/sweeper={sweeper}", *options),
            # Where Hydra's sweeper leaves its own notes.
            f"hydra.sweep.dir={tmp_path}",
            *("seed=0,1" if sweeper == "plan" else "seed=1,2", "optimizer.epochs=1"),
        )
        assert status == 0, output
    assert "submitted 1 experiment" in output
    wait_until_done(tmp_path)
    assert len(list(Store(tmp_path).runs())) == 3


def test_two_ranks_in_one_job(environment, tmp_path) -> None:
    """Two tasks share a run, and are requeued together: rounding apart, it comes to what one process comes to."""
    length = [SLOW, "optimizer.epochs=6"]
    submit(environment, tmp_path, "compute.ranks=2", *SMALL_STEPS, *length)
    run = only_run(tmp_path)
    at_step(run, 8)
    slurm("scancel", "--signal=USR2", job_of(run))
    wait_until_done(tmp_path)
    assert run.log_path.read_text().count("pretraining from step") == 2
    status, output = run_process(environment, tmp_path / "one", *SMALL_STEPS, *length)
    assert status == 0, output
    assert_close(run, only_run(tmp_path / "one"))


def test_a_rank_that_dies_ends_its_job(environment, tmp_path) -> None:
    submit(environment, tmp_path, "compute.ranks=2", "optimizer.epochs=20")
    run = only_run(tmp_path)
    at_step(run, 5)
    first, second = sorted(tasks_of(job_of(run)), key=lambda pid: pid != run.holder()["pid"])
    assert first == run.holder()["pid"]
    os.kill(second, signal.SIGKILL)
    eventually(lambda: ended(tmp_path), "the job to end", 60)
    assert run.state() == "failed"
