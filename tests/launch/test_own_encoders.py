"""Encoders that are not ours, from a command to evaluations by every protocol."""

from pathlib import Path

import pytest

from simclr_ablate.store import Store
from tests.commands import logs, only_run, run_process

pytestmark = pytest.mark.slow

OWN = """
from torch import nn

def f(width, stem):
    stride = {"cifar": 1, "strided": 2}[stem]
    layers = [nn.Conv2d(3, 8 * width, 3, stride), nn.BatchNorm2d(8 * width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
"""
QUICK = [
    *("encoder.stem=strided", "optimizer.epochs=1", "optimizer.warmup_epochs=0"),
    *("evaluation.steps=4", "evaluation.lr_count=2", "evaluation.decay_count=0"),
    *("evaluation.batch_size=64", "evaluation.epochs=1", "evaluation.labels=5"),
]
PROTOCOLS = "evaluation.protocol=linear,linear_sgd,few_labels,finetune,knn"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(OWN)
    return tmp_path


@pytest.mark.parametrize("architecture", ["mine:f", "timm:test_resnet(stem_width=8)"])
def test_every_protocol_evaluates_it(
    architecture: str, environment: dict[str, str], study: Path
) -> None:
    arguments = ["-m", f"encoder.architecture={architecture}", *QUICK]
    objectives = "objective=contrastive,none"
    status, output = run_process(
        environment, study / "runs", *arguments, objectives, PROTOCOLS, folder=study
    )
    assert status == 0, output
    runs = list(Store(study / "runs").runs())
    assert len(runs) == 2
    for found in runs:
        assert found.state() == "complete"
        results = found.evaluations()
        assert len(results) == 5
        assert all(0 < result["metrics"]["top1"] <= 100 for result in results.values())
    trained = next(found for found in runs if "random" not in found.run_id)
    if architecture.startswith("timm"):
        assert f"encoder.architecture={architecture} of timm " in logs(trained)
    status, output = run_process(
        environment, study / "runs", *arguments, "objective=supervised", folder=study
    )
    assert status == 0, output


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_a_module_of_the_users_is_found_and_ranks_share_it(
    launcher: str, environment: dict[str, str], study: Path
) -> None:
    how = (
        ["launcher=slurm", "launcher.cluster=local"] if launcher == "slurm" else ["compute.ranks=2"]
    )
    hidden = {**environment, "PYTHONSAFEPATH": "1"}
    arguments = ["encoder.architecture=mine:f", *QUICK, *how]
    status, output = run_process(hidden, study / "runs", *arguments, folder=study, python=True)
    assert status == 0, output
    assert only_run(study / "runs").state() == "complete"
