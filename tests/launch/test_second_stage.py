"""The job that submits a second stage and its record, with programs that answer as SLURM's would."""

import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import submitit
from omegaconf import OmegaConf
from rich.console import Console

from simclr_ablate.config import ConfigError
from simclr_ablate.launch import command as commands
from simclr_ablate.launch.cluster.choose_job import arrange
from simclr_ablate.launch.cluster.slurm import SlurmLauncher
from simclr_ablate.launch.command import Command, ExitStatus, launch
from simclr_ablate.launch.tend import cancel_choices
from simclr_ablate.plan.launchers import SlurmOptions, read_launcher
from simclr_ablate.plan.plan import plan_all, planned_run
from simclr_ablate.store import ChoiceFolder, Store
from simclr_ablate.tasks.choose import Choose
from simclr_ablate.terminal import make_message_console
from tests.plan.test_selection import finish

pytestmark = pytest.mark.slow

SBATCH = """\
n=$(ls "$0".d | wc -l)
[ -e "$0".refuses ] && { echo 'sbatch: error: not now' >&2; exit 1; }
{ cat "$1"; env; } > "$0".d/$n
echo "Submitted batch job $((n + 1))"
"""


class Cluster:
    """What was handed to sbatch; it numbers jobs from 1, and all of them wait or have ended."""

    def __init__(self, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sbatch = programs / "sbatch"
        self._monkeypatch = monkeypatch
        (programs / "sbatch.d").mkdir(parents=True)
        for name, text in {"sbatch": SBATCH, "srun": "", "scancel": "", "sacct": ""}.items():
            self._write(name, text)
        self.leave()
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    def _write(self, name: str, text: str) -> None:
        path = self.sbatch.with_name(name)
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)

    @property
    def submitted(self) -> list[str]:
        """The script and environment of each job or array, in order."""
        folder = self.sbatch.with_name("sbatch.d")
        return [path.read_text() for path in sorted(folder.iterdir(), key=lambda p: int(p.name))]

    @property
    def names(self) -> list[str]:
        return [re.findall(r"--job-name=(\S+)-[0-9a-f]{12}\n", text)[0] for text in self.submitted]

    def refuse(self, whether: bool = True) -> None:
        path = self.sbatch.with_name("sbatch.refuses")
        path.touch() if whether else path.unlink()

    def leave(self, *waiting: str) -> None:
        """These jobs wait; all others have ended, long ago."""
        lines = "".join(f"echo '{job}|PENDING|Dependency||0:00'\n" for job in waiting)
        self._write("squeue", f"case $* in *--name=*) exit;; esac\n{lines}")

    def within(self, job: str) -> None:
        """From here on this process is that job."""
        for name, value in {"SLURM_JOB_ID": job, "SUBMITIT_EXECUTOR": "slurm"}.items():
            self._monkeypatch.setenv(name, value)


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Cluster:
    return Cluster(tmp_path / "programs", monkeypatch)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def options(compose_config) -> SlurmOptions:
    config = compose_config(["launcher=slurm", "launcher.follow=true"])
    options = read_launcher(OmegaConf.to_container(config)["launcher"])
    assert isinstance(options, SlurmOptions)
    return options


@pytest.fixture
def launcher(options, cluster, tmp_path) -> SlurmLauncher:
    return SlurmLauncher(options, str(tmp_path / "cache"))


@pytest.fixture
def choose(selection, sweep) -> Choose:
    return selection(sweep)


def carry_out(store: Store, job: str) -> None:
    """What submitit does in the job."""
    (pickle,) = store.root.glob(f".jobs/*-choice-*/{job}_submitted.pkl")
    submitit.core.utils.DelayedSubmission.load(pickle).function()


def finish_all(store: Store, choose: Choose) -> None:
    for score, experiment in enumerate(choose.tried):
        finish(store, experiment, 40.0 + score)


def launched(store: Store, choose: Choose) -> dict[str, str]:
    """The sweep's record, as a command leaves it before it submits."""
    tried = [planned_run(experiment, store).run_id for experiment in choose.tried]
    return {"pick": store.record_sweep("pick", tried)}


def folder_of(store: Store, choose: Choose) -> ChoiceFolder:
    return store.choice(choose.name)


def job_of(folder: ChoiceFolder) -> str:
    return folder.last_submission()["job"]


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (
            {"python": "run image python", "srun_args": ("--container-image=i",)},
            r"srun .*--container-image=i run image python",
        ),
        ({"python": "run image python", "use_srun": False}, "exec run image python"),
    ],
)
def test_both_stages_and_the_job_between_start_python_alike(
    cluster, store, options, choose, tmp_path, given, command
) -> None:
    launcher = SlurmLauncher(replace(options, **given), str(tmp_path / "cache"))
    finish_all(store, choose)
    arrange(launcher, store, launched(store, choose), choose)
    cluster.within("1")
    carry_out(store, "1")
    assert cluster.names == ["pick-choice", "pick"]
    for script in cluster.submitted:
        assert re.search(f"^{command} -u -m submitit", script, re.MULTILINE)


def test_the_job_submits_once_whatever_becomes_of_its_runs(
    cluster, store, launcher, choose
) -> None:
    finish_all(store, choose)
    assert job_of(arrange(launcher, store, launched(store, choose), choose)) == "1"
    cluster.within("1")
    carry_out(store, "1")
    assert cluster.names == ["pick-choice", "pick"]
    assert folder_of(store, choose).is_done()
    (_, sweep) = store.sweeps()
    everything = (*choose.tried, *choose.decide(store).experiments())
    assert set(sweep.run_ids) == {planned_run(one, store).run_id for one in everything}
    for one in choose.decide(store).experiments():
        run = planned_run(one, store).run
        run.end_job(run.submission()["job"], "it failed")
    carry_out(store, "1")  # as after a requeue, or where a command was quicker
    assert len(cluster.names) == 2


def test_a_command_that_closes_a_waiting_stage_does_so_for_all_launches(
    cluster, store, launcher, choose
) -> None:
    """The job of the union has still to submit it when another command finds the first stage complete."""
    tried = [planned_run(experiment, store).run_id for experiment in choose.tried]
    arrange(launcher, store, {"both": store.record_sweep("both", tried)}, choose)
    finish_all(store, choose)
    names = {experiment: ["pick"] for experiment in choose.tried}
    plan_all("pick", store, choose.tried, names, [choose]).recorded().note_choices()
    everything = {planned_run(one, store).run_id for one in choose.decide(store).experiments()}
    last = {one.name: set(one.run_ids) for one in store.sweeps()}
    assert last["both"] == last["pick"] == everything | set(tried)
    assert folder_of(store, choose).is_done()


@pytest.mark.parametrize("other", [False, True])
def test_a_job_that_is_not_to_submit_any_more_does_not(
    cluster, store, launcher, choose, other
) -> None:
    finish_all(store, choose)
    arrange(launcher, store, launched(store, choose), choose)
    cluster.leave("1")
    cancel_choices(store, None)
    assert "cancelled by" in folder_of(store, choose).failure()["reason"]
    names = ["pick-choice"]
    if other:  # the command again, which takes the cancelling back
        assert job_of(arrange(launcher, store, launched(store, choose), choose)) == "2"
        names *= 2
    before = folder_of(store, choose).last_submission()
    cluster.within("1")
    carry_out(store, "1")
    assert cluster.names == names
    assert folder_of(store, choose).last_submission() == before
    assert not folder_of(store, choose).is_done()


def test_what_is_being_submitted_is_not_cancelled(cluster, store, launcher, choose) -> None:
    finish_all(store, choose)
    arrange(launcher, store, launched(store, choose), choose)
    cancelled: list[ChoiceFolder] = []
    thread = threading.Thread(target=lambda: cancelled.extend(cancel_choices(store, None)))
    with store.submitting():
        thread.start()
        time.sleep(0.5)
        choose.decide(store).note(store, {})
    thread.join()
    assert cancelled == []
    assert folder_of(store, choose).is_done()


def test_a_refusal_is_recorded_and_made_good(cluster, store, launcher, choose) -> None:
    finish_all(store, choose)
    arrange(launcher, store, launched(store, choose), choose)
    cluster.within("1")
    cluster.refuse()
    with pytest.raises(ConfigError, match="not now"):
        carry_out(store, "1")
    assert folder_of(store, choose).failure()["reason"] == "sbatch: error: not now"
    # The command, given again where it is refused too.
    plan = plan_all("pick", store, choose.tried, {}, [choose])
    options = replace(launcher.options, follow=False)
    command = Command(store, launcher.cache, False, options, "pick", None)
    again = (command, plan, Console())
    with pytest.raises(ConfigError, match="not now"):
        launch(*again)
    assert not folder_of(store, choose).is_done()
    cluster.refuse(False)
    assert launch(*again) == ExitStatus.OK
    assert folder_of(store, choose).is_done()
    assert cluster.names == ["pick-choice", "pick"]


def test_both_stages_are_submitted_with_the_users_own_variables(
    cluster, store, launcher, choose, monkeypatch
) -> None:
    finish_all(store, choose)
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    arrange(launcher, store, launched(store, choose), choose)
    cluster.within("1")
    monkeypatch.setenv("SBATCH_MEM_BIND", "of the job")
    carry_out(store, "1")
    for submitted in cluster.submitted:
        lines = submitted.splitlines()
        assert "SBATCH_ACCOUNT=mine" in lines
        assert not any(line.startswith(("SBATCH_MEM_BIND", "SLURM_JOB_ID")) for line in lines)


@pytest.fixture
def follow(store, options, choose, tmp_path, capsys):
    """`follow()`: exit status and output of a command whose candidates were completed since it looked."""
    names = {experiment: ["pick"] for experiment in choose.tried}

    def build() -> tuple[int, str]:
        plan = plan_all("pick", store, choose.tried, names, [choose]).recorded()
        finish_all(store, choose)
        command = Command(store, str(tmp_path / "cache"), False, options, "pick", None)
        status = launch(command, plan, make_message_console())
        return status, "".join(capsys.readouterr())

    return build


def test_what_is_cancelled_while_it_is_followed_is_not_submitted(
    cluster, store, follow, monkeypatch
) -> None:
    monkeypatch.setattr(commands, "CHOICE_SECONDS", 0.1)
    monkeypatch.setattr("simclr_ablate.launch.cluster.queue.SETTLE_SECONDS", 0.1)
    cluster.leave("1")

    def cancel_it() -> None:
        while not cancel_choices(store, "pick"):
            time.sleep(0.1)

    thread = threading.Thread(target=cancel_it, daemon=True)
    thread.start()
    status, output = follow()
    assert status == ExitStatus.SOME_FAILED
    thread.join()
    assert "second stage of pick: cancelled by" in output
    assert "a second stage was cancelled\n" in output
    assert "to resume it, run the same command again" in output
    assert cluster.names == ["pick-choice"]
