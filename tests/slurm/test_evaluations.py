"""Evaluations as jobs of their own on a real SLURM: they wait for pretraining, run side by side, and survive kills."""

import os
import signal

import numpy as np
import pytest

from simclr_ablate.status import main as status_main
from simclr_ablate.store import EvaluationFolder, Store, TaskFolder
from tests.commands import logs, only_run, run_process
from tests.launch.test_evaluations import at_once
from tests.slowly import PROTOCOL, SLOW
from tests.slurm.conftest import ON_SLURM, eventually, slurm
from tests.slurm.test_slurm import ended, wait_until_done

SHORT = "optimizer.epochs=1"
EVALUATIONS = (PROTOCOL, "evaluation.knn=1,2", "evaluation.lr=4")
TRAINED = (
    *("evaluation=few_labels", "evaluation.labels=0.5", "evaluation.batch_size=16"),
    *("evaluation.epochs=60", SHORT),
)
"""500 steps or so, with a checkpoint after each."""


def job_of(task: TaskFolder) -> str:
    submission = task.last_submission()
    assert submission is not None
    return str(submission["job"])


def test_evaluations_wait_for_their_encoder_and_run_side_by_side(environment, tmp_path) -> None:
    """One array pretrains, and each job of two more waits for the one with its number."""
    arguments = ("-m", *ON_SLURM, SHORT, *EVALUATIONS, "seed=0,1", "launcher.follow=true")
    status, output = run_process(environment, tmp_path, *arguments)
    assert status == 0, output
    assert "submitted 4 experiments as jobs " in output
    assert "all 4 experiments are in" in output
    for run in Store(tmp_path).runs():
        pretraining, *evaluations = map(job_of, run.tasks())
        arrays = {job.partition("_")[0] for job in (pretraining, *evaluations)}
        numbers = {job.partition("_")[2] for job in (pretraining, *evaluations)}
        assert (len(arrays), len(numbers)) == (3, 1)
        assert logs(run).count("pretraining from step") == 1
        assert len(run.evaluations()) == 2
    # An encoder that is there is waited for by none.
    arguments = ("-m", *ON_SLURM, SHORT, *EVALUATIONS[:1], "evaluation.knn=3,4", "evaluation.lr=4")
    status, output = run_process(environment, tmp_path, *arguments, "launcher.follow=true")
    assert status == 0, output
    run = next(run for run in Store(tmp_path).runs() if len(run.evaluations()) == 4)
    assert at_once(run) == 2
    assert logs(run).count("pretraining from step") == 1


def test_what_cannot_be_pretrained_is_not_evaluated(environment, tmp_path) -> None:
    """SLURM calls the evaluations off, and the reason that is told is pretraining's."""
    diverging = ("optimizer=sgd", "optimizer.lr=1.0e30", SHORT)
    arguments = ("-m", *ON_SLURM, *diverging, *EVALUATIONS, "launcher.follow=true")
    status, output = run_process(environment, tmp_path, *arguments)
    assert status == 1, output
    assert output.count("NonFiniteLossError") == 4, "each is told as it fails, and in the end"
    run = only_run(tmp_path)
    assert run.state() == "failed"
    assert not any(t.log_path.exists() for t in run.tasks() if isinstance(t, EvaluationFolder))


def test_another_command_evaluates_what_is_being_pretrained(environment, tmp_path) -> None:
    """Its job waits for the first command's."""
    common = (*ON_SLURM, SLOW, "optimizer.epochs=2", PROTOCOL, "evaluation.lr=0.1")
    for knn in (1, 2):
        status, output = run_process(environment, tmp_path, "-m", *common, f"evaluation.knn={knn}")
        assert status == 0, output
        assert "submitted 1 experiment as job" in output
    wait_until_done(tmp_path)
    run = only_run(tmp_path)
    assert run.state() == "complete"
    assert len(run.evaluations()) == 2
    assert logs(run).count("pretraining from step") == 1


@pytest.mark.slow
def test_an_evaluation_that_trains_goes_on_where_it_was(environment, tmp_path) -> None:
    """SIGKILL and retry, then a time limit's warning: the same bits as undisturbed."""
    status, output = run_process(environment, tmp_path / "whole", *TRAINED)
    assert status == 0, output
    store = tmp_path / "store"
    status, output = run_process(environment, store, "-m", *ON_SLURM, *TRAINED)
    assert status == 0, output

    def at_step(step: int) -> EvaluationFolder:
        def come_so_far() -> bool:
            tasks = [t for f in Store(store).runs() for t in f.tasks() if t is not f]
            there = [t for t in tasks if isinstance(t, EvaluationFolder)]
            return bool(there) and there[0].progress().get("step", 0) >= step

        eventually(come_so_far, f"step {step}")
        (task,) = [t for t in only_run(store).tasks() if isinstance(t, EvaluationFolder)]
        return task

    os.kill(at_step(40).holder()["pid"], signal.SIGKILL)
    eventually(lambda: ended(store), "the job to end")
    assert only_run(store).state() == "failed"
    assert status_main(["retry", f"store={store}", "state=failed"]) == 0
    task = at_step(150)
    slurm("scancel", "--signal=USR2", job_of(task))
    wait_until_done(store)
    run, whole = only_run(store), only_run(tmp_path / "whole")
    assert run.state() == "complete"
    assert logs(run).count("training from step 0 of") == 2, "of pretraining and of the evaluation"
    assert task.log_path.read_text().count("training from step") == 3
    ((key, one),) = run.evaluations().items()
    assert one["metrics"] == whole.evaluation(key)["metrics"]
    expected = whole.evaluating(key).examples()
    for name, rows in task.examples().items():
        assert np.array_equal(rows, expected[name])
