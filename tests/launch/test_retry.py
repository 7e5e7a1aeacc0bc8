"""`status retry` on this machine: every evaluation that was asked for, with the threads that it was begun with."""

import signal
from pathlib import Path
from unittest import mock

import pytest

from simclr_ablate.cores import available_cores
from simclr_ablate.status import main
from simclr_ablate.store import EvaluationFolder, Run, Store
from tests.commands import eventually, only_run, run, start
from tests.slowly import PROTOCOL, SLOW

pytestmark = pytest.mark.slow

SHORT = ("optimizer.epochs=1", PROTOCOL, "evaluation.lr=0.1")


def retry(environment: dict[str, str], store: Path, *words: str) -> int:
    with mock.patch.dict("os.environ", environment):
        return main(["retry", f"store={store}", *words])


def evaluations(found: Run) -> dict[str, EvaluationFolder]:
    return {task.key: task for task in found.tasks() if isinstance(task, EvaluationFolder)}


def test_an_evaluation_that_failed_beside_one_that_did_not(
    environment: dict[str, str], tmp_path: Path, capsys
) -> None:
    """It is tried again, although the run's own config may be that of the other."""
    status, output = run(environment, tmp_path, "-m", *SHORT, "evaluation.knn=1,13")
    assert status == 1, output
    found = only_run(tmp_path)
    assert len(found.evaluations()) == 1
    (failed,) = [task for task in evaluations(found).values() if not task.is_done()]
    assert len(failed.attempts()) == 1
    assert retry(environment, tmp_path) == 1, "it fails again"
    assert len(failed.attempts()) == 2
    assert failed.failure() is not None
    capsys.readouterr()
    (failed.path / "experiment.json").unlink()  # as earlier versions left it
    (found.path / "experiment.json").write_text(
        (found.path / "experiment.json").read_text().replace('"knn": 13', '"knn": 1')
    )
    assert retry(environment, tmp_path) == 1
    assert f"its evaluation {failed.key} was begun by an earlier version" in capsys.readouterr().err
    assert len(failed.attempts()) == 2


def test_all_that_was_asked_for_comes_to_the_bits_of_the_command(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Two runs side by side with two evaluations each are killed in pretraining. Each is retried alone, when the whole
    machine is free: with the threads of the first time."""
    line = ["-m", SLOW, *SHORT, "evaluation.knn=1,2", "seed=0,1", "compute.threads=null"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    status, output = run(environment, whole, *line)
    assert status == 0, output
    command = start(environment, killed, *line)

    def both() -> bool:
        return len(list(killed.glob("*/attempts.json"))) == 2

    eventually(both, "two runs that have begun")
    command.send_signal(signal.SIGKILL)
    command.communicate(timeout=60)
    runs = list(Store(killed).runs())
    for found in runs:
        eventually(lambda found=found: not found.is_held(), "its process to end")
        for checkpoint in found.path.glob("checkpoint*"):
            checkpoint.unlink()
        assert retry(environment, killed, f"run={found.run_id}") == 0
        assert found.state() == "complete"
    for found in runs:
        undisturbed = Store(whole).run(found.run_id)
        mine, theirs = found.evaluations(), undisturbed.evaluations()
        assert {key: each["metrics"] for key, each in mine.items()} == {
            key: each["metrics"] for key, each in theirs.items()
        }
        assert len(mine) == 2
        assert found.pretraining()["loss"] == undisturbed.pretraining()["loss"]
        for one, other in (
            (found, undisturbed),
            *zip(evaluations(found).values(), evaluations(undisturbed).values(), strict=True),
        ):
            assert {attempt["threads"] for attempt in one.attempts()} == {
                other.attempts()[0]["threads"]
            }
        assert found.attempts()[0]["threads"] == max(1, available_cores() // 2)
