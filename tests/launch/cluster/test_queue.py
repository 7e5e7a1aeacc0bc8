"""What follows for runs from what SLURM says, with programs that print what SLURM's would."""

import json
import os
import time
from pathlib import Path

import pytest

from simclr_ablate.launch.cluster import queue
from simclr_ablate.launch.cluster.queue import describe_choice, look_up, settle
from simclr_ablate.store import Run, Store


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`slurm(squeue="...", sacct=None)`: what the two programs print; None for one that is not installed."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    def build(squeue: str | None = None, sacct: str | None = None, status: int = 0) -> None:
        for name, output in (("squeue", squeue), ("sacct", sacct)):
            path = programs / name
            path.unlink(missing_ok=True)
            if output is not None:
                path.write_text(f"#!/bin/sh\ncat <<'END'\n{output}END\nexit {status}\n")
                path.chmod(0o755)

    if any(Path(folder, "squeue").exists() for folder in ("/usr/bin", "/bin")):
        monkeypatch.setenv("PATH", f"{programs}:{_without_slurm(tmp_path)}")
    return build


def _without_slurm(tmp_path: Path) -> Path:
    """A folder of the shell's programs alone, on a machine that has a real SLURM among them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cat"):
        os.symlink(f"/bin/{name}", folder / name)
    return folder


def submitted(store: Store, name: str, job: str, ago: float = 0.0) -> Run:
    run = store.run(name)
    run.create({})
    output = store.root / f"{job}.err"
    record = {"job": job, "cluster": "slurm", "evaluations": ["h-1"], "output": str(output)}
    run.write_submission(record)
    os.utime(run.path / "submission.json", (time.time() - ago,) * 2)
    return run


SQUEUE = """\
7_0|RUNNING|None|node3|1:05
7_1|PENDING|Priority||0:00
7_2|COMPLETING|None|node3|9:99
7_3|FAILED|NonZeroExitCode|node4|0:12
"""
SACCT = """\
7_0|RUNNING|0:0|node3|00:01:05
7_3|FAILED|1:0|node4|00:00:12
7_4|OUT_OF_MEMORY|0:125|node5|00:10:00
7_5|CANCELLED by 0|0:0|None assigned|00:00:00
"""


def test_the_queue_first_then_the_accounts(slurm) -> None:
    slurm(SQUEUE, SACCT)
    found = look_up({f"7_{k}" for k in range(7)})
    assert {job: info.state for job, info in found.items()} == {
        "7_0": "RUNNING",
        "7_1": "PENDING",
        "7_2": "COMPLETING",
        "7_3": "FAILED",
        "7_4": "OUT_OF_MEMORY",
        "7_5": "CANCELLED",
    }
    assert [job for job, info in sorted(found.items()) if info.has_ended] == ["7_3", "7_4", "7_5"]
    assert queue.describe(found["7_1"]) == "job 7_1 PENDING (Priority)"
    assert queue.describe(found["7_0"]) == "job 7_0 RUNNING on node3 for 1:05"
    assert found["7_3"].ending() == (
        "SLURM job 7_3 ended as FAILED on node4 after 00:00:12, exit code 1:0"
    )


def test_runs_whose_jobs_have_ended_have_failed(slurm, tmp_path) -> None:
    slurm(SQUEUE, SACCT)
    store = Store(tmp_path / "store")
    runs = [submitted(store, f"r{k}", f"7_{k}", 120 if k == 6 else 0) for k in range(8)]
    (store.root / "7_4.err").write_text("hello\nslurmstepd: error: Exceeded job memory limit\n")
    infos = settle(runs)
    assert [run.state() for run in runs] == [
        *("queued", "queued", "queued", "failed", "failed", "failed", "failed", "queued"),
    ]
    assert runs[4].failure()["reason"] == (
        "SLURM job 7_4 ended as OUT_OF_MEMORY on node5 after 00:10:00, exit code 0:125: "
        "Exceeded job memory limit"
    )
    assert "CANCELLED after" in runs[5].failure()["reason"]
    assert "no longer knows job 7_6" in runs[6].failure()["reason"]
    assert set(infos) == {f"r{k}" for k in range(6)}


def test_a_killed_process_whose_job_has_not_ended_leaves_its_run_queued(slurm, tmp_path) -> None:
    slurm(SQUEUE, SACCT)
    store = Store(tmp_path / "store")
    runs = [submitted(store, f"r{k}", f"7_{k}") for k in range(4)]
    for run in runs:
        job = run.submission()["job"]
        # As a process that was killed leaves it.
        run.lease(job)
        path = run.path / "lease.1"
        path.write_text(json.dumps({**json.loads(path.read_text()), "pid": 2**22 + 1}))
        run.write_progress({"phase": "pretraining", "step": 3})
        assert run.state() == "interrupted"
    runs[2].write_failure({"reason": "its own words"})
    settle(runs)
    assert [run.state() for run in runs] == ["queued", "queued", "failed", "failed"]


def test_without_an_answer_nothing_changes(slurm, tmp_path, monkeypatch) -> None:
    store = Store(tmp_path / "store")
    runs = [submitted(store, "a", "7_0", ago=1000)]
    slurm(None, None)
    assert settle(runs) == {}
    slurm("slurm_load_jobs error: Unable to contact slurm controller\n", "", status=1)
    assert settle(runs) == {}
    slurm("x", "")
    (tmp_path / "programs/squeue").write_text("#!/bin/sh\nwhile :; do :; done\n")
    monkeypatch.setattr(queue, "QUEUE_SECONDS", 0.3)
    begin = time.monotonic()
    assert settle(runs) == {}
    assert time.monotonic() - begin < 10
    assert runs[0].state() == "queued"


def test_without_accounting_the_queue_has_to_do(slurm, tmp_path) -> None:
    slurm(SQUEUE, None)
    runs = [submitted(Store(tmp_path / "store"), f"r{k}", f"7_{k}") for k in range(5)]
    settle(runs)
    assert [run.state() for run in runs] == ["queued", "queued", "queued", "failed", "queued"]


def test_a_choice_waits_as_long_as_its_job_lives(slurm, tmp_path) -> None:
    slurm(SQUEUE, SACCT)
    store = Store(tmp_path)
    choices = {job: store.choice(job) for job in (f"7_{k}" for k in range(8))}
    for job, choice in choices.items():
        choice.create({})
        record = {"job": job, "cluster": "slurm", "output": "log"}
        choice.write_submission(record | {"sweep": "pick", "sweeps": {"pick": "pick-1"}})
    old = time.time() - 120
    os.utime(choices["7_6"].path / "submission.json", (old, old))
    infos = settle(choices.values())
    waiting = [job for job, choice in choices.items() if choice.is_queued()]
    assert waiting == ["7_0", "7_1", "7_2", "7_7"]  # 7_7: SLURM may not have noticed it yet
    assert describe_choice(choices["7_1"], infos["choice 7_1"]) == (
        "second stage of pick: job 7_1 PENDING (Priority) submits it once the first has ended"
    )
    ended = describe_choice(choices["7_3"])
    assert ended.startswith("second stage of pick: SLURM job 7_3 ended as ")
    assert ended.endswith(" (log: log)")
    choices["7_0"].write_choice(["a-run"])
    slurm(None, None)
    settle(choices.values())
    assert choices["7_0"].is_done()
    left = [job for job, choice in choices.items() if choice.is_queued()]
    assert left == waiting, "without an answer nothing changes"


def test_a_job_that_beats_has_not_ended_whatever_the_queue_says(slurm, tmp_path) -> None:
    slurm(SQUEUE, SACCT)
    store = Store(tmp_path / "store")
    forgotten, failed = submitted(store, "a", "7_6", ago=120), submitted(store, "b", "7_3")
    leases = [run.lease(run.submission()["job"]) for run in (forgotten, failed)]
    settle([forgotten, failed])
    for run in (forgotten, failed):
        assert (run.state(), run.failure()) == ("running", None)
        assert run.submission() is not None
    for lease in leases:
        lease.release()
    settle([forgotten, failed])
    assert [run.state() for run in (forgotten, failed)] == ["failed", "failed"]


@pytest.mark.parametrize("wrong", [-1000.0, 1000.0])
def test_a_wrong_clock_ends_no_job_and_keeps_none(slurm, tmp_path, monkeypatch, wrong) -> None:
    """The file system's clock counts for what is written: for leases, and for jobs that SLURM does not know yet."""
    slurm(SQUEUE, SACCT)
    store = Store(tmp_path / "store")
    jobs = {"running": "7_0", "failed": "7_3", "new": "7_6", "lost": "7_6"}
    runs = {name: submitted(store, name, job) for name, job in jobs.items()}
    for name in (
        "running",
        "failed",
    ):  # by a process on another host, whose lease has just been touched
        runs[name].lease(jobs[name])
        path = runs[name].path / "lease.1"
        path.write_text(json.dumps({**json.loads(path.read_text()), "place": "another"}))
    os.utime(runs["lost"].path / "submission.json", (time.time() - 120,) * 2)
    right = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: right() + wrong)
        settle(runs.values())
    states = {name: run.state() for name, run in runs.items()}
    assert states == {"running": "running", "failed": "running", "new": "queued", "lost": "failed"}
    assert runs["failed"].submission() is not None


def test_what_is_called_off_has_failed_once_its_process_has_ended(tmp_path) -> None:
    run = submitted(Store(tmp_path / "store"), "a", "7")
    lease = run.lease("7")
    run.cancel_job("7", "cancelled by somebody")
    assert (run.state(), run.submission()) == ("running", None)
    lease.check()
    lease.release()
    assert (run.state(), run.failure()["reason"]) == ("failed", "cancelled by somebody")


def test_a_job_that_begins_as_it_is_called_off_keeps_the_reason(tmp_path) -> None:
    """`retry` takes up what has failed; without a reason, the run would look as if nobody had ever asked for it."""
    run = submitted(Store(tmp_path / "store"), "a", "7")
    run.cancel_job("7", "cancelled by somebody")
    lease = run.lease("7")
    run.clear_failure("7")
    lease.release()  # it was killed
    assert (run.state(), run.failure()["reason"]) == ("failed", "cancelled by somebody")
    submitted(Store(tmp_path / "store"), "a", "8")
    run.lease("8").release()
    run.clear_failure("8")
    assert run.failure() is None


@pytest.mark.parametrize("end", ["cancel_job", "end_job"])
def test_whoever_sees_that_no_job_is_left_sees_why(tmp_path, monkeypatch, end) -> None:
    run = submitted(Store(tmp_path / "store"), "a", "7")
    withdraw, seen = run.withdraw_submission, []

    def withdraw_and_look(*arguments) -> None:
        seen.append(run.failure())
        withdraw(*arguments)

    monkeypatch.setattr(run, "withdraw_submission", withdraw_and_look)
    getattr(run, end)("7", "the reason")
    assert [failure["reason"] for failure in seen] == ["the reason"]


def test_what_somebody_has_submitted_again_is_not_called_off_with_the_first(tmp_path) -> None:
    store = Store(tmp_path / "store")
    run = submitted(store, "a", "7")
    submitted(store, "a", "8")
    for end in (run.cancel_job, run.end_job):
        end("7", "the first")
        assert (run.state(), run.failure()) == ("queued", None)


def test_a_suspended_job_keeps_its_run(slurm, tmp_path) -> None:
    """Its process beats no more, and goes on all the same once SLURM lets it."""
    slurm("7|SUSPENDED|None|node3|9:99\n")
    run = submitted(Store(tmp_path / "store"), "a", "7")
    lease = run.lease("7")
    record = json.loads(lease.path.read_text())
    lease._stop.set()
    lease.path.write_text(json.dumps({**record, "place": "another"}))
    os.utime(lease.path, (time.time() - 1000,) * 2)
    assert run.state() != "running"
    settle([run])
    assert lease.is_held()
    slurm("7|REQUEUED|None|node3|9:99\n")
    settle([run])
    assert run.state() == "queued"


def test_only_the_last_attempt_is_quoted(slurm, tmp_path) -> None:
    slurm(SQUEUE, SACCT)
    store = Store(tmp_path / "store")
    runs = [submitted(store, "a", "7_4"), submitted(store, "b", "7_5")]
    over = "slurmstepd: error: Exceeded job memory limit\n"
    (store.root / "7_4.err").write_text(f"{queue.ATTEMPT}0\n{over}{queue.ATTEMPT}1\n")
    (store.root / "7_5.err").write_text(f"{queue.ATTEMPT}0\n{queue.ATTEMPT}1\n{over}")
    settle(runs)
    quoted = ["memory limit" in run.failure()["reason"] for run in runs]
    assert quoted == [False, True]


def test_a_users_own_filters_hide_no_jobs(slurm, tmp_path, monkeypatch) -> None:
    slurm("", "")
    (tmp_path / "programs/squeue").write_text(
        "#!/bin/sh\n[ $SQUEUE_USERS ] || echo '7|PENDING|x||0'\n"
    )
    monkeypatch.setenv("SQUEUE_USERS", "me")
    assert set(look_up(["7"])) == {"7"}


def test_a_store_that_cannot_be_written_keeps_nobody_from_looking(slurm, tmp_path, caplog) -> None:
    slurm(SQUEUE, SACCT)
    runs = [submitted(Store(tmp_path / "store"), name, "7_3") for name in "ab"]
    (runs[0].path / "failure.json").mkdir()  # so that nothing can take its place
    assert set(settle(runs)) == {"a", "b"}
    assert runs[1].state() == "failed"
    assert "failure.json" in caplog.text
