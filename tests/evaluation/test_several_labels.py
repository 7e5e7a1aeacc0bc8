"""Images with several labels, as VOC2007 has them: each piece against an oracle, and the protocols from end to end."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from simclr_ablate import status
from simclr_ablate.config import ConfigError
from simclr_ablate.data import sources
from simclr_ablate.evaluation import knn
from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.linear import evaluate_linear, fit_path
from simclr_ablate.evaluation.metrics import accuracies, map11
from simclr_ablate.evaluation.protocol import classified
from simclr_ablate.launch import worker
from simclr_ablate.launch.progress import headline
from simclr_ablate.launch.task import check_objective, objective_of
from simclr_ablate.losses.cross_entropy import binary_cross_entropy
from simclr_ablate.plan.plan import make_plan
from simclr_ablate.plan.trial import try_own
from simclr_ablate.ranks import SOLO, Ranks
from simclr_ablate.stopping import StopSignal
from simclr_ablate.store import Store
from tests.data import fake_sets

N, CLASSES, WIDTH = 400, 5, 8


@pytest.fixture
def labels() -> Tensor:
    """Several classes an image, some left open; no image is of the last class."""
    drawn = (torch.rand(N, CLASSES) < torch.linspace(0.5, 0.1, CLASSES)).long()
    drawn[:, -1] = 0
    return torch.where(torch.rand(N, CLASSES) < 0.15, -1, drawn)


def features_of(labels: Tensor) -> Features:
    directions = torch.randn(CLASSES, WIDTH)
    return Features(labels.clamp(min=0).float() @ directions + torch.randn(N, WIDTH) + 1, labels)


def test_images_that_are_left_open_do_not_count_for_the_class(labels: Tensor) -> None:
    """Without them, it is the metric as it was, which test_metrics.py tests."""
    scores = torch.randn(N, CLASSES) + labels.clamp(min=0)
    each = []
    for k in range(CLASSES - 1):
        known = labels[:, k] >= 0
        each.append(map11(scores[known, k : k + 1], (labels[known, k : k + 1] == 1)))
    assert map11(scores, labels) == pytest.approx(sum(each) / len(each))
    assert map11(scores, labels) != pytest.approx(map11(scores, labels == 1), abs=1e-3)
    assert accuracies(scores, labels, "map11") == {"map11": map11(scores, labels)}


def test_the_loss_is_a_logistic_regression_for_each_class(labels: Tensor) -> None:
    logits = torch.randn(N, CLASSES, dtype=torch.float64, requires_grad=True)
    result = binary_cross_entropy(logits, labels, N)
    total, right = 0.0, 0
    for row, wanted in zip(logits.tolist(), labels.tolist(), strict=True):
        for score, label in zip(row, wanted, strict=True):
            if label >= 0:
                p = 1 / (1 + math.exp(-score))
                total -= math.log(p if label else 1 - p)
        right += wanted[row.index(max(row))] == 1
    assert result.loss.item() == pytest.approx(total / N)
    assert result.accuracy.item() == pytest.approx(right / N)
    assert torch.autograd.gradcheck(lambda z: binary_cross_entropy(z, labels, N).loss, logits)
    parts = [binary_cross_entropy(logits[k::4], labels[k::4], N) for k in range(4)]
    torch.testing.assert_close(sum(part.loss for part in parts), result.loss)
    torch.testing.assert_close(sum(part.accuracy for part in parts), result.accuracy)


@pytest.mark.parametrize("strength", [1.0, 1e-2, 1e-4])
def test_the_linear_classifier_is_scikit_learns_for_each_class(
    strength: float, labels: Tensor
) -> None:
    data = features_of(labels)
    (ours,) = fit_path(data, CLASSES, [strength])
    logits = ours.logits(data.features)
    for k in range(CLASSES - 1):
        known = labels[:, k] >= 0
        # Their objective sums over the images that count, ours is a mean over all.
        theirs = LogisticRegression(
            C=1 / (strength * N), solver="newton-cholesky", tol=1e-10, max_iter=1000
        ).fit(data.features[known].double().numpy(), labels[known, k].numpy())
        expected = theirs.decision_function(data.features.double().numpy())
        np.testing.assert_allclose(logits[:, k], expected, atol=0.03 * np.abs(expected).max())


def test_the_strength_is_chosen_on_validation(labels: Tensor) -> None:
    data = features_of(labels)
    parts = [Features(data.features[a:b], labels[a:b]) for a, b in ((0, 60), (60, 230), (230, N))]
    result = evaluate_linear(*parts, [1e2, 1.0, 1e-2, 1e-6], "map11")
    assert result.logits.shape == (N - 230, CLASSES)
    assert result.validation == max(result.validations)
    assert len(set(result.validations)) > 1


def test_neighbours_vote_for_each_of_their_classes(labels: Tensor, monkeypatch) -> None:
    train, queries = features_of(labels), torch.randn(30, WIDTH)
    similarity = torch.nn.functional.cosine_similarity(
        queries[:, None].double(), train.features.double(), dim=2
    )
    expected = torch.zeros(30, CLASSES, dtype=torch.float64)
    for query in range(30):
        near = similarity[query].argsort(descending=True)[:7].tolist()
        weights = [math.exp(similarity[query, one] / 0.07) for one in near]
        for one, weight in zip(near, weights, strict=True):
            for k in range(CLASSES):
                expected[query, k] += (labels[one, k] == 1) * weight / sum(weights)
    for elements in (1, 10**6):
        monkeypatch.setattr(knn, "_BLOCK_ELEMENTS", elements)
        votes = knn.knn_votes(train, queries, 7, CLASSES)
        torch.testing.assert_close(votes.double(), expected, atol=1e-5, rtol=1e-4)


def test_all_accuracies_follow_from_the_examples(labels: Tensor) -> None:
    scores = torch.randn(N, CLASSES)
    metrics, examples = classified(scores, labels, "map11")
    assert set(examples) == {"prediction", "labels", "scores"}
    assert all(len(rows) == N for rows in examples.values())
    assert examples["labels"].dtype == torch.int8
    assert map11(examples["scores"], examples["labels"]) == metrics["map11"]


PROTOCOLS = {
    "linear": ["evaluation.l2_count=2", "evaluation.knn=5"],
    "knn": ["evaluation.knn=5"],
    "linear_sgd": ["evaluation.epochs=2", "evaluation.batch_size=16"],
    "finetune": [
        *("evaluation.steps=3", "evaluation.batch_size=16", "evaluation.lr_count=1"),
        *("evaluation.lr_min=0.01", "evaluation.lr_max=0.01", "evaluation.decay_count=0"),
    ],
    "probe": ["evaluation.probe=rotation"],
}


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True])
def test_protocols_measure_mean_average_precision(
    own: bool, make_experiment: Any, tmp_path: Path, monkeypatch
) -> None:
    fake_sets.write("voc2007", tmp_path, monkeypatch, each=12)
    where = "data" if own else "evaluation.data"
    chosen = "data=voc2007" if own else "data@evaluation.data=voc2007"
    experiments = [
        make_experiment(
            *("objective=none", "compute.threads=1", f"evaluation={protocol}", *keys),
            *(chosen, f"{where}.root={tmp_path}"),
        )
        for protocol, keys in PROTOCOLS.items()
    ]
    plan = make_plan(experiments, Store(tmp_path / "runs"), None, str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    for planned, protocol in zip(plan.runs, PROTOCOLS, strict=True):
        job = worker.Job.of(plan, planned, str(tmp_path / "cache"), 1, device="cpu")
        job = dataclasses.replace(job, keeps_log=False)
        with StopSignal() as stop:
            assert worker.carry_out_job(job, stop, SOLO).status == worker.Status.COMPLETE
        result = planned.evaluating.result()
        examples = planned.evaluating.examples()
        assert result is not None
        assert examples is not None
        if protocol == "probe":
            assert "probe_accuracy" in result["metrics"]
            continue
        metrics = result["metrics"]
        assert not {"top1", "top5", "knn_top1"} & metrics.keys()
        assert ("knn_map11" in metrics) == (protocol == "linear")
        scores, labels = (torch.from_numpy(examples[k]) for k in ("scores", "labels"))
        assert map11(scores, labels) == pytest.approx(metrics["map11"], abs=1e-9)
        assert labels.shape == (metrics["test_images"], 20)
        assert headline(planned).endswith(f"mAP {metrics['map11']:.1f} %")
        assert objective_of(planned, "validation_map11") == metrics["validation_map11"]
    torch.set_num_threads(threads)
    (row,) = status.describe_all([plan.runs[0].run])
    assert row["state"] == "complete"


def carry_out(ranks: Ranks, expected: dict[str, int], jobs: list[worker.Job]) -> list[int]:
    """In a process that has not heard that the set is tiny. Rounding takes a ReLU at its edge to either side."""
    tiny = dataclasses.replace(sources.TRANSFER["voc2007"], images=expected)
    with (
        mock.patch.dict(sources.TRANSFER, voc2007=tiny),
        mock.patch.object(nn, "ReLU", nn.SiLU),
        StopSignal() as stop,
    ):
        return [worker.carry_out_job(job, stop, ranks).status for job in jobs]


@pytest.mark.slow
def test_two_ranks_come_to_what_one_does(
    on_ranks: Any, make_experiment: Any, tmp_path: Path, monkeypatch
) -> None:
    written = fake_sets.write("voc2007", tmp_path, monkeypatch, each=13)
    found = []
    for count in (1, 2):
        experiments = [
            make_experiment(
                *("objective=none", "encoder.stem=strided", f"compute.ranks={count}"),
                *(f"evaluation={protocol}", *PROTOCOLS[protocol], "evaluation.batch_size=15"),
                *("data@evaluation.data=voc2007", f"evaluation.data.root={tmp_path}"),
            )
            for protocol in ("linear_sgd", "finetune")
        ]
        store = Store(tmp_path / f"runs{count}")
        plan = make_plan(experiments, store, None, str(tmp_path / "cache"))
        jobs = [
            worker.Job.of(plan, planned, str(tmp_path / f"cache{count}"), 1, device="cpu")
            for planned in plan.runs
        ]
        ended = on_ranks(count, carry_out, written.images, jobs)
        assert ended == [[worker.Status.COMPLETE] * len(jobs)] * count
        found.append([planned.evaluating.examples() for planned in plan.runs])
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one["labels"], other["labels"])
        np.testing.assert_allclose(one["scores"], other["scores"], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=voc2007", "objective=supervised"], "objective must be contrastive or none with"),
        (["data@evaluation.data=voc2007", "evaluation=few_labels"], "evaluation.protocol must be"),
        (["data=voc2007", "data.metric=top1"], "data.metric must be map11 for data=voc2007"),
        (
            ["data@evaluation.data=voc2007", "evaluation.data.metric=mean_per_class"],
            "evaluation.data.metric must be map11 for evaluation.data=voc2007",
        ),
        (["data=voc2007", "data.validation=100"], "data.validation must be null for data=voc2007"),
        (["data=food101", "data.validation=null"], "data.validation must be >= 1 for data=food101"),
    ],
)
def test_what_makes_no_sense_is_refused(overrides, message, make_experiment) -> None:
    with pytest.raises(ConfigError, match=message):
        make_experiment(*overrides)


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("voc2007", "validation_map11, map11, knn_map11"),
        ("flowers102", "validation_mean_per_class, mean_per_class, top1, top5, knn_top1"),
    ],
)
def test_a_sweeper_is_told_what_can_be_returned(name, metrics, make_experiment) -> None:
    experiment = make_experiment(f"data@evaluation.data={name}", "data.root=x")
    command: Any = SimpleNamespace(objective_metric="validation_top1")
    message = f"objective_metric must be one of {metrics} with evaluation.protocol=linear on {name}"
    with pytest.raises(ConfigError, match=message):
        check_objective(command, experiment, None)


OWN = """
from simclr_ablate.evaluation.protocol import Result


def by_hand(subject, frozen):
    images, classes = frozen.test.labels.shape
    return Result({"share": 100 * (frozen.test.labels == 1).double().mean().item()}, {})
"""


def test_a_protocol_of_a_users_own_is_tried_with_several_labels(
    own_module: Any, make_experiment: Any
) -> None:
    protocol = f"evaluation.protocol={own_module(OWN)}:by_hand"
    try_own(make_experiment(protocol, "data@evaluation.data=voc2007"))
    with pytest.raises(ConfigError, match="not enough values to unpack"):
        try_own(make_experiment(protocol))
