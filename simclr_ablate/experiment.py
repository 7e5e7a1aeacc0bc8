"""One run from top to bottom: pretrain the encoder, keep it, evaluate it."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from simclr_ablate.augment.policies import (
    Policy,
    autoaugment_policy,
    crop_policy,
    no_policy,
    own_policy,
    pair_policy,
    simclr_policy,
)
from simclr_ablate.augment.registry import Magnitudes
from simclr_ablate.claim import Claim
from simclr_ablate.cores import available_cores
from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.progress import reporting
from simclr_ablate.data.splits import Splits, StreamedSplits, open_data, stream_data
from simclr_ablate.data.streamed import StreamedSet
from simclr_ablate.evaluation.classifier import evaluate_classifier
from simclr_ablate.evaluation.features import extract, in_batches, reset_batchnorm
from simclr_ablate.evaluation.knn import knn_top1
from simclr_ablate.evaluation.linear import evaluate_linear, log_spaced
from simclr_ablate.evaluation.probe import evaluate_probe, transformed
from simclr_ablate.files import StorageError
from simclr_ablate.identity import evaluated_beside, evaluation_key
from simclr_ablate.losses.cross_entropy import cross_entropy
from simclr_ablate.losses.registry import build_loss
from simclr_ablate.models.batch_norm import share_statistics
from simclr_ablate.models.classifier import build_classifier
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.models.head import build_head
from simclr_ablate.randomness import seeded_init
from simclr_ablate.ranks import SOLO, Ranks
from simclr_ablate.schema import Data, Experiment, Views
from simclr_ablate.stopping import Stop
from simclr_ablate.store import Run
from simclr_ablate.tensors import DamagedError
from simclr_ablate.training.checkpoint import (
    load_checkpoint,
    remove_checkpoints,
)
from simclr_ablate.training.contrastive import ContrastivePretraining
from simclr_ablate.training.loop import Loop, Training
from simclr_ablate.training.supervised import SupervisedTraining
from simclr_ablate.training.watch import Watch, write_history

log = logging.getLogger(__name__)

FEATURE_BATCH = 512


class Share(Protocol):
    """What a launcher gives a run of the machine."""

    @property
    def cache(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def device(self) -> str: ...


def carry_out(
    experiment: Experiment,
    run: Run,
    claim: Claim | None,
    share: Share,
    stop: Stop,
    ranks: Ranks = SOLO,
) -> None:
    """Does what of the run is not done yet: pretraining, then its evaluation.

    ranks: processes that carry it out together, each by this function with its own share. The first has the claim
        and writes; the others are done once the features are extracted.

    Raises Interrupted once `stop` says so on any rank, NonFiniteLossError, ClaimLostError, RankLostError, and what
    the data may raise.
    """
    torch.set_num_threads(share.threads)
    device = torch.device(share.device)
    with ranks.first_alone():  # others find in the cache what it has decoded
        data = read_data(experiment, run, share, ranks)
    encoder, head = build_models(experiment, device, len(data.train.classes))
    # The random encoder has no head: its z is that of the head that it is evaluated with, as untrained.
    products = {"encoder": encoder}
    if experiment.objective != "none":
        products["head"] = head
    if load_whole(run, products, ranks):
        if claim is not None:
            run.restore_pretraining()
            remove_checkpoints(run.path)  # of a holder that was killed before it could
    elif experiment.objective == "none":
        calibrate(data, encoder, ranks)
        finish_pretraining(run, claim, products, {})
    else:
        pretrain(experiment, data, encoder, head, run, claim, stop, ranks)
    if ranks.is_first:
        run.write_progress({"phase": "evaluating"})
        log.info("evaluating as %s", evaluation_key(experiment))
    begin = time.monotonic()
    metrics = evaluate(experiment, data, encoder, head, device, ranks)
    seconds = time.monotonic() - begin
    if claim is None:
        return
    claim.check()
    config = experiment.to_config()["evaluation"]
    beside = evaluated_beside(experiment)
    run.write_evaluation(evaluation_key(experiment), config, metrics, seconds, beside)
    with suppress(StorageError):  # the run is complete, whether it can still say so or not
        run.write_progress({"phase": "complete", "fraction": 1.0})


def read_data(
    experiment: Experiment, run: Run, share: Share, ranks: Ranks = SOLO
) -> Splits | StreamedSplits:
    """The experiment's images; what takes long of it (decoding, once) shows as the run's progress."""

    def write(progress: dict[str, object]) -> None:
        if ranks.is_first:
            run.write_progress(progress)

    write({"phase": "reading the data"})
    workers = loader_workers(experiment, share, ranks)
    if experiment.data.name == "imagenet":
        return stream_data(experiment.data, workers)

    def report(what: str, done: int, total: int) -> None:
        write({"phase": f"{what}: {done:,} of {total:,}", "fraction": done / max(total, 1)})

    with reporting(report):
        return open_data(experiment.data, Path(share.cache), workers)


def build_models(
    experiment: Experiment, device: torch.device, classes: int = 0
) -> tuple[nn.Module, nn.Module]:
    """The encoder f and the projection head g, initialised from the experiment's seed.

    For objective=supervised a linear classifier of `classes` stands in g's place.
    """
    head: nn.Module
    with seeded_init(experiment.seed, "weights"):
        spec = experiment.encoder
        encoder = build_encoder(spec.architecture, spec.width, spec.stem)
        if experiment.objective == "supervised":
            head = build_classifier(encoder.dim, classes)
        else:
            head = build_head(experiment.head.kind, encoder.dim, experiment.head.dim)
    layout = memory_format(experiment)
    return encoder.to(device).to(memory_format=layout), head.to(device)


def memory_format(experiment: Experiment) -> torch.memory_format:
    """How images and convolutions lie in memory."""
    return torch.channels_last if experiment.compute.channels_last else torch.contiguous_format


def build_policy(views: Views, data: Data) -> Policy:
    """The policy that makes the views of `data`'s images."""
    crop: dict[str, Any] = {"crop_area": views.crop_area, "interpolation": views.interpolation}
    settings = {"strength": views.strength, "color": views.color, **crop}
    if views.policy == "crop":
        return crop_policy(data.size, **crop)
    if views.policy == "autoaugment":
        return autoaugment_policy(data.size, **crop)
    if views.policy == "simclr":
        return simclr_policy(data.size, blur=views.blur, extra=views.extra, **settings)
    if views.policy == "pair":
        assert views.first is not None  # the schema has seen to both
        return pair_policy(data.size, views.first, views.second, **settings)
    if views.policy == "none":
        return no_policy(data.size, interpolation=views.interpolation)
    return own_policy(views.policy, Magnitudes(data.size, **settings))


def pretrain(
    experiment: Experiment,
    data: Splits | StreamedSplits,
    encoder: nn.Module,
    head: nn.Module,
    run: Run,
    claim: Claim | None,
    stop: Stop,
    ranks: Ranks = SOLO,
) -> None:
    """Pretraining from the last checkpoint, if there is one, to the final weights."""
    device = next(encoder.parameters()).device
    for network in (encoder, head):
        share_statistics(network, ranks, device)
    loop = build_loop(experiment, data, encoder, head, device, ranks)
    resume(loop, run, ranks)
    if ranks.is_first:
        log.info("pretraining from step %d of %d", loop.step, loop.total_steps)
    with stop.deferred():
        loop.run(Watch(run, claim, stop, experiment.compute.checkpoint_minutes * 60, ranks))
        if claim is not None:
            write_history(run, loop)
        metrics = {**loop.history[-1], "seconds": loop.seconds}
        finish_pretraining(run, claim, {"encoder": encoder, "head": head}, metrics)


def build_loop(
    experiment: Experiment,
    data: Splits | StreamedSplits,
    encoder: nn.Module,
    head: nn.Module,
    device: torch.device,
    ranks: Ranks = SOLO,
) -> Loop:
    """The experiment's loop at its first step. Raises ConfigError where it needs labels and there are none."""
    images = training_images(data, experiment, device)
    policy = build_policy(experiment.views, experiment.data)
    layout = memory_format(experiment)
    if experiment.objective == "supervised":
        return SupervisedTraining(
            Training(
                experiment, images, policy, encoder, head, cross_entropy, layout, device, ranks
            )
        )
    loss = build_loss(experiment.loss, ranks)
    return ContrastivePretraining(
        Training(experiment, images, policy, encoder, head, loss, layout, device, ranks)
    )


def resume(loop: Loop, run: Run, ranks: Ranks) -> None:
    """Goes on from the run's last checkpoint, whatever the number of ranks that wrote it."""
    state = load_checkpoint(run.path)
    if state is not None:
        # Sums come out in another order with another number of threads.
        if state.get("ranks", 1) == ranks.count:
            torch.set_num_threads(state["threads"])
        loop.load_state_dict(state["loop"])
    steps = [
        int(step) for step in ranks.gather(torch.tensor(loop.step, device=loop.training.device))
    ]
    if len(set(steps)) > 1:
        raise RuntimeError(
            f"ranks read checkpoints of different steps in {run.path}: {steps}; "
            "does each see the same files?"
        )


def calibrate(data: Splits | StreamedSplits, encoder: nn.Module, ranks: Ranks = SOLO) -> None:
    """The random encoder: untrained weights, batch norm's statistics from one pass over the training images."""
    device = next(encoder.parameters()).device
    reset_batchnorm(encoder, plain_batches(data.train, ranks), device, ranks)


def finish_pretraining(
    run: Run,
    claim: Claim | None,
    products: Mapping[str, nn.Module],
    metrics: dict[str, float],
) -> None:
    """Writes the product of pretraining. After this, checkpoints are of no more use."""
    if claim is None:
        return
    claim.check()
    run.write_pretraining(metrics)
    # This says that pretraining is complete, so it comes last.
    run.write_encoder({name: product.state_dict() for name, product in products.items()}, metrics)
    remove_checkpoints(run.path)


def load_whole(run: Run, products: Mapping[str, nn.Module], ranks: Ranks = SOLO) -> bool:
    """Loads the run's final weights on all ranks; False, with nothing loaded, where there are none that are whole.

    A damaged encoder is renamed, for it is made again: from the last checkpoint, where there still is one.
    """
    whole = False
    if ranks.is_first and run.is_pretrained():
        try:
            load_models(run, products)
            whole = True
        except DamagedError as error:
            log.warning("%s; it is kept as %s, and made again", error, run.set_encoder_aside().name)
    whole = ranks.from_first(whole)
    if whole and not ranks.is_first:
        load_models(run, products)
    return whole


def load_models(run: Run, products: Mapping[str, nn.Module]) -> None:
    """Loads the run's final weights by name, all of `products` or none. Raises DamagedError, StorageError."""
    weights = run.weights()
    for name, network in products.items():
        if _shapes(weights.get(name)) != _shapes(network.state_dict()):
            raise DamagedError(run.encoder_path, f"its {name} is not that of this experiment")
    for name, network in products.items():
        network.load_state_dict(weights[name])


def _shapes(state: Any) -> dict[str, object]:
    if not isinstance(state, dict):
        return {}
    return {name: getattr(tensor, "shape", None) for name, tensor in state.items()}


def evaluate(
    experiment: Experiment,
    data: Splits | StreamedSplits,
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
    experiment: Experiment, data: Splits | StreamedSplits, ranks: Ranks
) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """The images of each split as they are, or, for a probe, as something was done to them, and what."""
    probe = experiment.evaluation.probe
    for split, images in (
        ("train", data.train),
        ("validation", data.validation),
        ("test", data.test),
    ):
        batches = plain_batches(images, ranks)
        if probe is not None:
            batches = transformed(batches, probe, experiment.seed, split, ranks)
        yield batches


def training_images(
    data: Splits | StreamedSplits, experiment: Experiment, device: torch.device
) -> ImageSet | StreamedSet:
    """What pretraining sees: on the device where it lies in memory."""
    if isinstance(data, StreamedSplits):
        return data.train
    unlabelled = None if experiment.objective == "supervised" else data.unlabelled
    return (unlabelled or data.train).to(device)


def plain_batches(
    images: ImageSet | StreamedSet, ranks: Ranks = SOLO
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images as they are, for evaluation; of several ranks, this one's batches."""
    if isinstance(images, StreamedSet):
        return images.batches(FEATURE_BATCH, ranks)
    return in_batches(images, FEATURE_BATCH, ranks)


def loader_workers(experiment: Experiment, share: Share, ranks: Ranks) -> int:
    """Processes that decode images."""
    if experiment.compute.workers is not None:
        return experiment.compute.workers
    # Other ranks have workers too: this one's are for its own share of the cores.
    cores = available_cores() if ranks.count == 1 else share.threads
    return min(cores, 16)
