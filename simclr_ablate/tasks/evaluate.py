"""Evaluation, one task from top to bottom: an encoder that was kept is measured, as its protocol says."""

import logging
import time
from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor, nn

from simclr_ablate.data.splits import Splits
from simclr_ablate.evaluation.classifier import evaluate_classifier
from simclr_ablate.evaluation.features import FEATURE_BATCH, extract
from simclr_ablate.evaluation.knn import knn_top1
from simclr_ablate.evaluation.linear import evaluate_linear, log_spaced
from simclr_ablate.evaluation.probe import evaluate_probe, transformed
from simclr_ablate.files import StorageError
from simclr_ablate.identity import evaluated_beside, evaluation_key
from simclr_ablate.lease import Lease
from simclr_ablate.ranks import SOLO, Ranks
from simclr_ablate.schema import Experiment
from simclr_ablate.stopping import Stop
from simclr_ablate.store import EvaluationFolder, Run
from simclr_ablate.store.tensors import DamagedError
from simclr_ablate.tasks.networks import build_models, load_models, products
from simclr_ablate.tasks.share import Share, read_data

log = logging.getLogger(__name__)


def evaluate(
    experiment: Experiment,
    run: Run,
    folder: EvaluationFolder,
    lease: Lease | None,
    share: Share,
    stop: Stop,
    ranks: Ranks = SOLO,
) -> None:
    """Measures the encoder that `run` has kept, and keeps the result in `folder`.

    ranks: see `pretrain`; all but the first are done once the features are extracted.

    Raises DamagedError on all ranks where the encoder is damaged or gone, and what `pretrain` raises.
    """
    torch.set_num_threads(share.threads)
    device = torch.device(share.device)
    data = read_data(experiment.data, experiment, folder, share, ranks)
    encoder, head = build_models(experiment, device, len(data.train.classes))
    load_on_all(run, products(experiment, encoder, head), ranks)
    if ranks.is_first:
        folder.write_progress({"phase": "evaluating"})
        log.info("evaluating as %s", evaluation_key(experiment))
    begin = time.monotonic()
    metrics = measure(experiment, data, encoder, head, device, ranks)
    seconds = time.monotonic() - begin
    if lease is None:
        return
    lease.check()
    config = experiment.to_config()["evaluation"]
    folder.write_result(config, metrics, seconds, evaluated_beside(experiment))
    with suppress(StorageError):  # it is complete, whether it can still say so or not
        folder.write_progress({"phase": "complete", "fraction": 1.0})


def load_on_all(run: Run, networks: dict[str, nn.Module], ranks: Ranks = SOLO) -> None:
    """`load_models` on all ranks, or DamagedError on all of them."""
    problem = None
    if ranks.is_first:
        try:
            load_models(run, networks)
        except DamagedError as error:
            problem = error.problem
    problem = ranks.from_first(problem)
    if problem is not None:
        raise DamagedError(run.encoder_path, problem)
    if not ranks.is_first:
        load_models(run, networks)


def measure(
    experiment: Experiment,
    data: Splits,
    encoder: nn.Module,
    head: nn.Module,
    device: torch.device,
    ranks: Ranks = SOLO,
) -> dict[str, float]:
    """What the frozen encoder is worth to a linear classifier and to kNN, or tells a probe; accuracies in percent.

    The linear classifier is fitted here, or for objective=supervised the one that was trained with the encoder.
    Ranks share the features, and then part: the first does the rest, for which no other should wait.
    """
    evaluation = experiment.evaluation
    head_used = head if evaluation.features == "z" else None
    train, validation, test = (
        extract(encoder, batches, device, head_used, ranks)
        for batches in evaluation_batches(experiment, data, ranks)
    )
    ranks.leave()
    if not ranks.is_first:
        return {}
    if evaluation.probe is not None:
        probe = evaluate_probe(train, validation, test, experiment.seed, device)
        return {**probe._asdict(), "test_images": len(data.test)}
    if experiment.objective == "supervised":
        metrics = evaluate_classifier(head, validation, test)
    else:
        strengths = log_spaced(evaluation.l2_count, evaluation.l2_min, evaluation.l2_max)
        linear = evaluate_linear(train, validation, test, strengths)
        metrics = {
            "top1": linear.top1,
            "top5": linear.top5,
            "validation_top1": linear.validation_top1,
            "l2": linear.strength,
        }
    return {
        **metrics,
        "knn_top1": knn_top1(train, test, evaluation.knn),
        "test_images": len(data.test),
    }


def evaluation_batches(
    experiment: Experiment, data: Splits, ranks: Ranks
) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """The images of each split as they are, or, for a probe, as something was done to them, and what."""
    probe = experiment.evaluation.probe
    for split, images in (
        ("train", data.train),
        ("validation", data.validation),
        ("test", data.test),
    ):
        batches = images.batches(FEATURE_BATCH, ranks)
        if probe is not None:
            batches = transformed(batches, probe, experiment.seed, split, ranks)
        yield batches
