"""What reaches sbatch, and what follows from what it says, with programs that stand for SLURM's."""

import errno
import io
import os
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console
from submitit.core.utils import DelayedSubmission, JobPaths

from simclr_ablate.config import ConfigError
from simclr_ablate.files import StorageError
from simclr_ablate.launch.cluster import intent, sbatch
from simclr_ablate.launch.cluster.allocation import outside_of_an_allocation
from simclr_ablate.launch.cluster.intent import Intent
from simclr_ablate.launch.cluster.slurm import SlurmLauncher
from simclr_ablate.launch.progress import ProgressView
from simclr_ablate.plan.launchers import read_launcher
from simclr_ablate.plan.plan import make_plan
from simclr_ablate.store import Run, Store
from tests import commands

SBATCH = """\
echo x >> "$0".calls
env > "$0".env
cp "$1" "$0".script
sed -n 's/^#SBATCH --job-name=//p' "$1" >> "$0".names
{then}
"""
SQUEUE = """\
case $* in *--name=*) ;; *) exit;; esac
name=$(echo "$*" | sed 's/.*--name=\\([^ ]*\\).*/\\1/')
grep -qx "$name" "$(dirname "$0")"/sbatch.names && echo 4711
exit 0
"""
TAKEN = "echo Submitted batch job 4711"
TIMED_OUT = "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2\nexit 1"


class Programs:
    """sbatch, which does as told with each job, and squeue, which finds the jobs that sbatch was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("srun", "sacct", "scancel", "scontrol"):
            self.write(name, "exit 0")
        self.write("squeue", SQUEUE)
        self.then(TAKEN)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.folder / name).chmod(0o755)

    def then(self, what: str) -> None:
        self.write("sbatch", SBATCH.format(then=what))

    @property
    def calls(self) -> int:
        path = self.folder / "sbatch.calls"
        return len(path.read_text().splitlines()) if path.exists() else 0

    @property
    def script(self) -> list[str]:
        """The lines of the last script that sbatch was given."""
        return (self.folder / "sbatch.script").read_text().splitlines()


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Programs:
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:{os.environ['PATH']}")
    monkeypatch.setattr(intent, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(sbatch, "ANSWER_SECONDS", 0.2)
    return Programs(tmp_path / "programs")


@pytest.fixture
def launcher(programs, compose_config, tmp_path):
    """`launcher("launcher.partition=x", ...)`."""

    def build(*overrides: str) -> SlurmLauncher:
        config = compose_config(["launcher=slurm", *overrides])
        options = read_launcher(OmegaConf.to_container(config)["launcher"])
        return SlurmLauncher(options, str(tmp_path / "cache"))

    return build


def jobs_of(plan) -> list[str | None]:
    return [(planned.run.submission() or {}).get("job") for planned in plan.runs]


def pickles(store: Store) -> list[str]:
    return sorted(path.name for path in store.root.glob(".jobs/*/*_submitted.pkl"))


IDS = [f"4711_{k}" for k in range(3)]


def test_a_surrounding_allocation_does_not_reach_sbatch(
    programs, launcher, make_runs, monkeypatch
) -> None:
    of_a_job = {
        "SLURM_JOB_ID": "77",
        "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",
        "SLURM_MEM_PER_CPU": "2048",
        "SLURM_TRES_PER_TASK": "cpu:2",
        "SBATCH_MEM_BIND": "local",
        "WORLD_SIZE": "4",
    }
    kept = {"SLURM_CONF": "/etc/ours.conf", "SBATCH_ACCOUNT": "ours", "MINE": "1"}
    for name, value in {**of_a_job, **kept}.items():
        monkeypatch.setenv(name, value)
    launcher().submit(make_runs(2))
    seen = dict(
        line.split("=", 1)
        for line in (programs.folder / "sbatch.env").read_text().splitlines()
        if "=" in line
    )
    assert not seen.keys() & of_a_job.keys()
    assert {name: seen[name] for name in kept} == kept
    assert os.environ["SLURM_JOB_ID"] == "77", "it is as it was afterwards"


def test_the_environment_is_put_back(monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SBATCH_ACCOUNT", "ours")
    before = dict(os.environ)
    with outside_of_an_allocation({"SBATCH_QOS": "low"}):
        assert before.keys() - os.environ.keys() >= {"SLURM_JOB_ID", "SBATCH_ACCOUNT"}
        assert os.environ["SBATCH_QOS"] == "low"
    assert dict(os.environ) == before


def test_an_answer_that_was_lost_is_looked_for(programs, launcher, make_runs) -> None:
    """The controller has the jobs, and sbatch does not know."""
    programs.then(TIMED_OUT)
    plan = make_runs(3)
    submission = launcher().submit(plan)
    assert sorted(submission.jobs.values()) == [[job] for job in IDS]
    assert jobs_of(plan) == IDS
    assert pickles(plan.store) == [f"{job}_submitted.pkl" for job in IDS]
    assert programs.calls == 1


def lose_the_answer(programs, launcher, make_runs):
    """A plan of three runs whose submission timed out, and of which squeue does not know yet."""
    programs.then(TIMED_OUT)
    programs.write("squeue", "exit 0")
    plan = make_runs(3)
    with pytest.raises(ConfigError, match="run the same command again, and it will find"):
        launcher().submit(plan)
    return plan


def test_jobs_that_turn_up_late_are_found_by_the_next_command(
    programs, launcher, make_runs, caplog
) -> None:
    plan = lose_the_answer(programs, launcher, make_runs)
    assert jobs_of(plan) == [None] * 3
    programs.write("squeue", SQUEUE)
    submission = launcher().submit(plan)
    assert not submission.jobs
    assert len(submission.elsewhere) == 3
    assert jobs_of(plan) == IDS
    assert pickles(plan.store) == [f"{job}_submitted.pkl" for job in IDS]
    assert programs.calls == 1
    assert "4711" in caplog.text


def test_a_pickle_that_a_power_cut_emptied_costs_its_job_alone(
    programs, launcher, make_runs, caplog
) -> None:
    plan = lose_the_answer(programs, launcher, make_runs)
    (damaged, *_) = sorted(plan.store.root.glob(".jobs/*/*.pkl"))
    damaged.write_bytes(b"")
    programs.write("squeue", SQUEUE)
    assert not launcher().submit(plan).jobs
    assert jobs_of(plan) == IDS
    assert len(pickles(plan.store)) == 2
    assert str(damaged) in caplog.text


def test_what_never_reached_slurm_is_submitted(programs, launcher, make_runs, monkeypatch) -> None:
    monkeypatch.setattr(intent, "UNSEEN_SECONDS", 0.3)
    programs.then(TIMED_OUT)
    programs.write("squeue", "exit 0")
    plan = make_runs(2)
    with pytest.raises(ConfigError, match="timed out"):
        launcher().submit(plan)
    programs.then(TAKEN)
    assert len(launcher().submit(plan).jobs) == 2
    assert programs.calls == 2
    assert not Intent.read_all(plan.store)


@pytest.mark.parametrize("squeue", ["exit 0", "exit 1"])
def test_what_fails_before_sbatch_is_called_leaves_nothing_to_look_for(
    programs, launcher, make_runs, monkeypatch, squeue
) -> None:
    """A job that cannot be pickled, as where the disk is full; the next command waits for nobody."""
    plan = make_runs(2)
    programs.write("squeue", squeue)
    with monkeypatch.context() as patch:
        patch.setattr(DelayedSubmission, "dump", full)
        with pytest.raises(ConfigError, match="the disk is full"):
            launcher().submit(plan)
    assert programs.calls == 0
    assert not Intent.read_all(plan.store)
    programs.write("squeue", SQUEUE)
    begin = time.monotonic()
    assert len(launcher().submit(plan).jobs) == 2
    assert time.monotonic() - begin < 30


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_fails_after_sbatch_has_answered_loses_no_job(
    programs, launcher, make_runs, monkeypatch
) -> None:
    plan = make_runs(3)
    move, failing = JobPaths.move_temporary_file, [OSError(errno.EIO, os.strerror(errno.EIO))]

    def moved(*arguments: object, **more: object) -> None:
        if "submitted_pickle" in arguments and failing:
            raise failing.pop()
        move(*arguments, **more)

    monkeypatch.setattr(JobPaths, "move_temporary_file", moved)
    launcher().submit(plan)
    assert jobs_of(plan) == IDS
    assert pickles(plan.store) == [f"{job}_submitted.pkl" for job in IDS]
    assert programs.calls == 1


def test_nothing_is_submitted_while_slurm_cannot_say_what_it_has(
    programs, launcher, make_runs
) -> None:
    programs.then(TIMED_OUT)
    programs.write("squeue", "exit 1")
    plan = make_runs(2)
    for _ in range(2):
        with pytest.raises(ConfigError, match="SLURM"):
            launcher().submit(plan)
    assert programs.calls == 1


def test_a_refusal_leaves_nothing(programs, launcher, make_runs) -> None:
    programs.then("echo 'sbatch: error: invalid partition specified: nowhere' >&2; exit 1")
    programs.write("squeue", "exit 0")
    plan = make_runs(2)
    with pytest.raises(ConfigError, match=r"^sbatch: error: invalid partition specified: nowhere$"):
        launcher().submit(plan)
    assert jobs_of(plan) == [None] * 2
    assert not list((plan.store.root / ".jobs").iterdir())


def test_a_damaged_intent_is_named_and_passed_over(programs, launcher, make_runs, caplog) -> None:
    plan = make_runs(1)
    for name, content in {
        "a": "{",
        "b": "[]",
        "c": '{"time": 1, "records": [{"run": "r"}]}',
    }.items():
        (plan.store.root / ".jobs" / name).mkdir(parents=True)
        (plan.store.root / ".jobs" / name / "intent.json").write_text(content)
    assert len(launcher().submit(plan).jobs) == 1
    assert caplog.text.count("intent.json") == 3


def test_a_run_that_cannot_be_recorded_keeps_no_other_from_being(
    programs, launcher, make_runs, monkeypatch, caplog
) -> None:
    plan = make_runs(3)
    shut = plan.runs[0]
    write = Run.write_submission

    def refusing(run: Run, submission: Mapping[str, Any]) -> None:
        if run.run_id == shut.run_id:
            raise StorageError("no permission")
        write(run, submission)

    monkeypatch.setattr(Run, "write_submission", refusing)
    launcher().submit(plan)
    assert [planned.run.submission() is not None for planned in plan.runs] == [False, True, True]
    assert "could not be recorded: no permission" in caplog.text
    assert not Intent.read_all(plan.store)


def test_a_run_whose_folder_cannot_be_read_keeps_no_other_from_being_submitted(
    programs, launcher, make_runs
) -> None:
    plan = make_runs(3)
    closed, *others = plan.runs
    closed.run.path.rename(closed.run.path.with_name(".away"))
    closed.run.path.symlink_to(closed.run.path)  # a loop, which even root cannot read
    slurm = launcher()
    submission = slurm.submit(plan)
    assert submission.closed == [closed]
    assert set(submission.jobs) == set(others)
    assert f"{closed.run_id} was not submitted: its folder cannot be read" in submission.summary()
    for planned in others:
        planned.run.write_evaluation(planned.evaluation_key, {}, {"top1": 1.0})
    view = ProgressView(Console(file=io.StringIO()), total=3, done=0)
    outcome = slurm.follow(plan, submission, view)
    assert (outcome.failed, len(outcome.complete)) == ([closed], 2)
    assert str(closed.run.path) in outcome.reason_of(closed)


def test_a_folder_that_slurm_would_read_otherwise_is_refused(launcher, make_experiment, tmp_path):
    plan = make_plan([make_experiment()], Store(tmp_path / "50%j"), None)
    with pytest.raises(ConfigError, match="store must not contain %j with launcher=slurm"):
        launcher().submit(plan)
    assert not (tmp_path / "50%j").exists()


def test_arrays_are_as_large_as_the_cluster_takes_which_is_asked_once(
    programs, launcher, make_experiment, tmp_path
) -> None:
    """Three runs that are evaluated in two ways, and one in one way, by a cluster whose arrays hold two jobs."""
    programs.write("scontrol", 'echo x >> "$0".calls\necho "MaxArraySize            = 3"')
    programs.then('echo Submitted batch job "$(wc -l < "$0".calls)"')
    wanted = [(0, "h"), (0, "z"), (1, "h"), (1, "z"), (2, "h"), (2, "z"), (3, "h")]
    experiments = [make_experiment(f"seed={s}", f"evaluation.features={f}") for s, f in wanted]
    plan = make_plan(experiments, Store(tmp_path / "runs"), None)
    submission = launcher().submit(plan)
    of_each = [["2_0", "3_0"], ["4_0"], ["2_1", "3_1"], ["4_1"], ["5", "6"], ["7"], ["1"]]
    assert [submission.jobs[planned] for planned in plan.runs] == of_each
    assert (programs.folder / "scontrol.calls").read_text() == "x\n"


def test_a_job_name_of_the_users_own_begins_it(programs, launcher, make_runs) -> None:
    launcher("+launcher.sbatch.job-name=ours").submit(make_runs(1))
    (name,) = (programs.folder / "sbatch.names").read_text().split()
    assert name.startswith("ours-")


CONTAINER = "apptainer exec --nv --bind '/a b:/data' image.sif python"
MOUNTS = "--container-mounts=/a:/a,/b:/b"


def command_of(script: list[str], store: Store) -> list[str]:
    """The command of a job, as the shell splits it, up to submitit's own arguments."""
    *_, line = [line for line in script if "submitit.core._submit" in line]
    command, arguments = line.split(" -u -m submitit.core._submit ")
    assert shlex.split(arguments)[0].startswith(str(store.root / ".jobs"))
    return shlex.split(command)


@pytest.mark.parametrize("runs", [1, 2])
def test_a_job_starts_python_as_it_is_told(programs, launcher, make_runs, runs) -> None:
    plan = make_runs(runs)
    launcher(
        f'launcher.python="{CONTAINER}"',
        f"launcher.srun_args=['--container-image=image.sqsh','{MOUNTS}']",
    ).submit(plan)
    command = command_of(programs.script, plan.store)
    assert command[0] == "srun"
    of_srun, python = command[: -len(shlex.split(CONTAINER))], shlex.split(CONTAINER)
    ours = ["--kill-on-bad-exit=1", "--cpus-per-task=2"]
    assert of_srun[-4:] == [*ours, "--container-image=image.sqsh", MOUNTS]
    assert command[len(of_srun) :] == python
    assert "#SBATCH --signal=USR2@120" in programs.script


def test_a_job_starts_this_interpreter_with_srun_unless_told_otherwise(
    programs, launcher, make_runs
) -> None:
    plan = make_runs(1)
    launcher().submit(plan)
    command = command_of(programs.script, plan.store)
    of_srun = ["--kill-on-bad-exit=1", "--cpus-per-task=2"]
    assert (command[0], command[-3:]) == ("srun", [*of_srun, sys.executable])


@pytest.mark.parametrize(
    ("given", "command"),
    [([], ["/a folder/python"]), (["launcher.python=run python"], ["run", "python"])],
)
def test_without_srun_the_batch_scripts_process_is_python_and_is_signalled(
    programs, launcher, make_runs, monkeypatch, given, command
) -> None:
    monkeypatch.setattr(sys, "executable", "/a folder/python")
    plan = make_runs(2)
    launcher("launcher.use_srun=false", *given).submit(plan)
    assert command_of(programs.script, plan.store) == ["exec", *command]
    assert "#SBATCH --signal=B:USR2@120" in programs.script
    assert "#SBATCH --signal=USR2@120" not in programs.script


def test_without_slurm_nothing_is_written(environment, tmp_path) -> None:
    store = tmp_path / "runs"
    status, output = commands.run(
        {**environment, "PATH": str(tmp_path)}, store, "-m", "launcher=slurm", "seed=0,1"
    )
    assert status == 2
    (line,) = [line for line in output.splitlines() if line.startswith("error:")]
    for text in ("launcher=slurm", "sbatch", "launcher=local", "launcher.cluster=local"):
        assert text in line
    assert not store.exists()


def test_a_command_that_is_killed_between_sbatch_and_its_record_leaves_its_jobs(
    programs, environment, launcher, make_runs, tmp_path
) -> None:
    """The real thing: sbatch takes the jobs, and its caller is gone."""
    programs.then(f"kill -9 $PPID\n{TAKEN}")
    path = {"PATH": os.environ["PATH"]}
    store = tmp_path / "runs"
    arguments = ("-m", "launcher=slurm", "seed=0,1,2")
    status, _ = commands.run_process({**environment, **path}, store, *arguments)
    assert status == -9
    assert all(found.submission() is None for found in Store(store).runs())
    programs.then(TAKEN)
    status, output = commands.run_process({**environment, **path}, store, *arguments)
    assert status == 0, output
    assert "3 are queued or running already" in output
    assert programs.calls == 1
    jobs = {found.config()["seed"]: found.submission()["job"] for found in Store(store).runs()}
    assert jobs == dict(enumerate(IDS))
    for seed, job in jobs.items():  # each job gets the run that its place in the array is for
        (pickle,) = store.glob(f".jobs/*/{job}_submitted.pkl")
        call = DelayedSubmission.load(pickle).function
        assert call.job.config["seed"] == seed
