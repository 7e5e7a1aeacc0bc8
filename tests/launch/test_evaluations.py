"""Several evaluations of one encoder: side by side, on features computed once, by one command or by two."""

import re
from datetime import datetime
from pathlib import Path

import pytest

from simclr_ablate.store import EvaluationFolder, Run
from tests.commands import logs, only_run, run, start
from tests.slowly import PROTOCOL

pytestmark = pytest.mark.slow

SHORT = ("optimizer.epochs=1", PROTOCOL)
SECONDS = 1.5


def times(task: EvaluationFolder) -> tuple[float, float]:
    """When the evaluation began, and when its result was there."""
    begun = re.match(r"[\d-]+ [\d:]+,\d+", task.log_path.read_text())
    assert begun is not None
    return (
        datetime.strptime(begun[0], "%Y-%m-%d %H:%M:%S,%f").timestamp(),
        task.result_path.stat().st_mtime,
    )


def at_once(found: Run) -> int:
    """How many evaluations went on at the same time, at most."""
    spans = [times(task) for task in found.tasks() if isinstance(task, EvaluationFolder)]
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)


def test_five_evaluations_two_at_a_time(environment: dict[str, str], tmp_path: Path) -> None:
    """Pretraining is done once, and so are the features."""
    arguments = ("-m", *SHORT, "seed=3", "evaluation.lr=0.7", "evaluation.knn=1,2,3,4,5")
    status, output = run(environment, tmp_path, *arguments, "launcher.parallel=2")
    assert status == 0, output
    assert "5 experiments, 0 already finished" in output
    assert output.count("started ") == output.count("done ") == 5
    found = only_run(tmp_path)
    assert found.state() == "complete"
    assert len(found.evaluations()) == 5
    lines = logs(found)
    assert lines.count("pretraining from step") == 1
    assert lines.count("computing features") == 1
    assert at_once(found) == 2


def test_two_commands_evaluate_one_encoder_at_once(
    environment: dict[str, str], tmp_path: Path
) -> None:
    status, output = run(environment, tmp_path, *SHORT, "evaluation.lr=0.1", "evaluation.knn=1")
    assert status == 0, output
    commands = [
        start(environment, tmp_path, *SHORT, f"evaluation.lr={SECONDS}", f"evaluation.knn={knn}")
        for knn in (1, 2)
    ]
    outputs = [command.communicate(timeout=120)[0] for command in commands]
    assert [command.returncode for command in commands] == [0, 0], outputs
    found = only_run(tmp_path)
    assert len(found.evaluations()) == 3
    assert logs(found).count("pretraining from step") == 1
    assert at_once(found) == 2


def test_an_evaluation_that_fails_is_told_and_costs_no_other(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Its reason and its log are its own, and the same command tries it again."""
    arguments = ("-m", *SHORT, "evaluation.lr=0.1", "evaluation.knn=1,13")
    for _ in range(2):
        status, output = run(environment, tmp_path, *arguments)
        assert status == 1, output
        assert "1 done, 1 not" in output
        found = only_run(tmp_path)
        assert found.state() == "failed"
        (failed,) = [task for task in found.tasks() if task.failure() is not None]
        assert f"log: {failed.log_path}" in output
        assert "ValueError: 13 brings bad luck" in output
        assert "Traceback" in failed.log_path.read_text()
    assert logs(found).count("pretraining from step") == 1
