"""Supervised runs through the command: as resumable as others, and known by their own classifier's accuracy."""

import shutil
import signal
from pathlib import Path

import pytest
import torch

from simclr_ablate.config import ConfigError
from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.shapes import open_shapes
from simclr_ablate.plan.plan import make_plan
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Run, Store
from simclr_ablate.tasks.networks import build_models, load_models
from tests.commands import (
    assert_same,
    only_run,
    results,
    run,
    start,
    wait_for_step,
)

pytestmark = pytest.mark.slow

SUPERVISED = ("objective=supervised", "views=crop", "views.crop_area=0.5", "optimizer.epochs=12")


@pytest.fixture(scope="module")
def trained(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    store = tmp_path_factory.mktemp("trained")
    status, output = run(environment, store, *SUPERVISED)
    assert status == 0, output
    return only_run(store)


def metrics_of(found: Run) -> dict[str, float]:
    (evaluation,) = found.evaluations().values()
    return evaluation["metrics"]


def test_it_learns_the_classes(trained: Run) -> None:
    assert trained.run_id.startswith("shapes-resnet8-supervised-crop-s0-")
    metrics = metrics_of(trained)
    assert set(metrics) == {"top1", "top5", "validation_top1", "knn_top1", "test_images"}
    assert metrics["top1"] > 20  # of ten classes
    assert metrics["knn_top1"] > 20
    assert metrics["top5"] > metrics["top1"]
    pretraining = trained.pretraining()
    assert pretraining["accuracy"] > 0.2
    assert "entropy" not in pretraining
    assert trained.history_path.read_text().startswith("epoch,loss,accuracy\n1,")


def test_the_accuracy_is_that_of_the_weights_that_were_kept(trained: Run, cache: Path) -> None:
    encoder, classifier = build_models(
        Experiment.from_config(trained.config()), torch.device("cpu"), 10
    )
    load_models(trained, {"encoder": encoder, "head": classifier})
    network = torch.nn.Sequential(encoder, classifier).eval()
    test: ImageSet = open_shapes(cache, 0)[1]
    with torch.no_grad():
        logits = network(test.images.float() / 255)
    top1 = 100 * (logits.argmax(1) == test.labels).double().mean().item()
    assert metrics_of(trained)["top1"] == pytest.approx(top1, abs=0.1)


def test_an_evaluation_can_be_repeated(
    environment: dict[str, str], trained: Run, tmp_path: Path
) -> None:
    shutil.copytree(trained.path.parent, tmp_path, dirs_exist_ok=True)
    found = only_run(tmp_path)
    shutil.rmtree(found.path / "evaluations")
    status, output = run(environment, tmp_path, *SUPERVISED)
    assert status == 0, output
    assert_same(found, results(trained))
    assert found.log_path.read_text().count("pretraining from step") == 1


def test_an_interrupted_run_goes_on_bit_for_bit(
    environment: dict[str, str], trained: Run, tmp_path: Path
) -> None:
    process = start(environment, tmp_path, *SUPERVISED)
    wait_for_step(tmp_path, 25)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    status, output = run(environment, tmp_path, *SUPERVISED)
    assert status == 0, output
    assert_same(only_run(tmp_path), results(trained))


def test_head_and_loss_make_no_other_run(
    environment: dict[str, str], trained: Run, tmp_path: Path
) -> None:
    shutil.copytree(trained.path.parent, tmp_path, dirs_exist_ok=True)
    arguments = (*SUPERVISED, "head=none,linear", "loss.temperature=0.1,1")
    status, output = run(environment, tmp_path, "-m", *arguments)
    assert status == 0, output
    assert "1 experiment, 1 already finished, 0 to run" in output


def test_ranks_share_it(environment: dict[str, str], trained: Run, tmp_path: Path) -> None:
    status, output = run(environment, tmp_path, *SUPERVISED, "compute.ranks=2")
    assert status == 0, output
    shared = only_run(tmp_path)
    assert shared.run_id == trained.run_id
    ours, theirs = (found.pretraining()["loss"] for found in (shared, trained))
    assert ours == pytest.approx(theirs, rel=0.05)
    assert metrics_of(shared)["top1"] > 20


def test_only_images_with_labels_count(make_experiment, tmp_path: Path) -> None:
    """STL-10 has 100,000 without: enough for a batch of contrastive pretraining."""
    large = ("data=stl10", "optimizer.batch_size=4096")
    make_plan([make_experiment(*large)], Store(tmp_path), None)
    message = "batch_size must be <= 4000, the training images with labels of data=stl10, got 4096"
    with pytest.raises(ConfigError, match=message):
        make_plan([make_experiment(*large, "objective=supervised")], Store(tmp_path), None)
