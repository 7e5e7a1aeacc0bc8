"""Pretraining, one task from top to bottom: the networks are made from the seed, trained and kept; or weights that
others have trained are."""

import logging
from collections.abc import Mapping

import torch
from torch import nn

from simclr_ablate.augment.build import build_policy
from simclr_ablate.augment.libraries import origins
from simclr_ablate.calls import is_of_library, with_version
from simclr_ablate.data.images import Images
from simclr_ablate.data.splits import Splits
from simclr_ablate.device import enter, set_arithmetic
from simclr_ablate.evaluation.features import FEATURE_BATCH, reset_batchnorm
from simclr_ablate.lease import Lease
from simclr_ablate.losses.cross_entropy import cross_entropy
from simclr_ablate.losses.registry import build_loss
from simclr_ablate.models.batch_norm import share_statistics
from simclr_ablate.models.encoder import Encoder, memory_format
from simclr_ablate.ranks import SOLO, Ranks
from simclr_ablate.schema import Experiment
from simclr_ablate.stopping import Stop
from simclr_ablate.store import Run
from simclr_ablate.store.tensors import DamagedError
from simclr_ablate.tasks.networks import build_models, load_models, products
from simclr_ablate.tasks.share import Share, read_data
from simclr_ablate.training.checkpoint import remove_checkpoints
from simclr_ablate.training.contrastive import ContrastivePretraining
from simclr_ablate.training.loop import Loop, Training
from simclr_ablate.training.online import OnlineEvaluation
from simclr_ablate.training.supervised import SupervisedTraining, require_labels
from simclr_ablate.training.trainer import Trainer
from simclr_ablate.weights.importing import import_weights

log = logging.getLogger(__name__)


def pretrain(
    experiment: Experiment,
    run: Run,
    lease: Lease | None,
    share: Share,
    stop: Stop,
    ranks: Ranks = SOLO,
) -> None:
    """Trains the experiment's networks, from the last checkpoint if there is one, and keeps them in `run`.

    A whole encoder that exists already is left as it is; a damaged one is renamed and made again.

    ranks: processes that train together. Each calls this function with its own share. The first has the lease and
        writes.

    Raises Interrupted once `stop` is true on any rank, NonFiniteLossError, LeaseLostError, RankLostError, and whatever
    reading the data raises.
    """
    torch.set_num_threads(share.threads)
    set_arithmetic(experiment.compute.deterministic, experiment.compute.tf32)
    device = torch.device(share.device)
    enter(device)
    if experiment.objective == "imported":
        import_encoder(experiment, run, lease, ranks)
        return
    data = read_data(experiment.data, experiment, run, share, ranks)
    encoder, head = build_models(experiment, device, len(data.train.classes))
    networks = products(experiment, encoder, head)
    if is_there(run, networks, ranks):
        return
    if experiment.objective == "none":
        calibrate(data, encoder, ranks)
        keep(run, lease, networks, {})
        return
    for network in (encoder, head):
        share_statistics(network, ranks, device)

    def finish(loop: Loop) -> dict[str, float]:
        metrics = {**loop.history[-1], "seconds": loop.seconds}
        keep(run, lease, networks, metrics)
        return metrics

    seconds = experiment.compute.checkpoint_minutes * 60
    every = experiment.tracker.every
    trainer = Trainer(run, lease, stop, seconds, ranks, "pretraining", every)
    trainer.train(lambda: build_loop(experiment, data, encoder, head, device, ranks), finish)


def import_encoder(
    experiment: Experiment, run: Run, lease: Lease | None, ranks: Ranks = SOLO
) -> None:
    """Keeps weights that were trained elsewhere as the run's encoder. Only the first rank has anything to do."""
    encoder, _ = build_models(experiment, torch.device("cpu"))
    networks = {"encoder": encoder}
    if is_there(run, networks, ranks) or not ranks.is_first:
        return
    run.write_progress({"phase": "importing weights"})
    log.info("importing %s", experiment.encoder.weights)
    encoder.load_state_dict(import_weights(experiment.encoder, experiment.evaluated_data.size))
    keep(run, lease, networks, {})


def is_there(run: Run, networks: Mapping[str, nn.Module], ranks: Ranks = SOLO) -> bool:
    """Whether the run has its final weights, whole.

    A damaged encoder is renamed. It is then made again, from the last checkpoint if there still is one.
    """
    whole = False
    if ranks.is_first and run.is_pretrained():
        try:
            load_models(run, networks)
            whole = True
        except DamagedError as error:
            log.warning("%s; it is kept as %s and made again", error, run.set_encoder_aside().name)
    return ranks.from_first(whole)


def build_loop(
    experiment: Experiment,
    data: Splits,
    encoder: Encoder,
    head: nn.Module,
    device: torch.device,
    ranks: Ranks = SOLO,
) -> Loop:
    """The experiment's loop at its first step. Raises ConfigError if it needs labels and there are none."""
    is_supervised = experiment.objective == "supervised"
    images = data.train if is_supervised or data.unlabelled is None else data.unlabelled
    if is_supervised:
        require_labels(images, "objective=supervised", experiment.data.name)
    policy = build_policy(experiment.views, experiment.data)
    if ranks.is_first:
        for origin in origins(policy.operations):
            log.info("%s", origin)
        if is_of_library(experiment.encoder.architecture):
            log.info("encoder.architecture=%s", with_version(experiment.encoder.architecture))
    training = Training(
        images=images.to(device),
        policy=policy,
        encoder=encoder,
        head=head,
        loss=cross_entropy if is_supervised else build_loss(experiment.loss, ranks),
        optimizer=experiment.optimizer,
        seed=experiment.seed,
        precision=experiment.precision,
        layout=memory_format(experiment.compute),
        device=device,
        ranks=ranks,
        compile=experiment.compute.compile,
        online=online_evaluation(experiment, images, encoder, device, ranks),
    )
    return SupervisedTraining(training) if is_supervised else ContrastivePretraining(training)


def online_evaluation(
    experiment: Experiment, images: Images, encoder: Encoder, device: torch.device, ranks: Ranks
) -> OnlineEvaluation | None:
    """What `evaluation.online` asks for, if it counts. Raises ConfigError if images have no labels."""
    if not experiment.evaluation.online or experiment.objective != "contrastive":
        return None
    require_labels(images, "evaluation.online=true", experiment.data.name)
    classes, every = len(images.classes), experiment.tracker.every
    return OnlineEvaluation(encoder.dim, classes, experiment.seed, device, every, ranks)


def calibrate(data: Splits, encoder: nn.Module, ranks: Ranks = SOLO) -> None:
    """Makes the random encoder: untrained, with batch norm's statistics from one pass over the training images."""
    device = next(encoder.parameters()).device
    reset_batchnorm(encoder, data.train.batches(FEATURE_BATCH, ranks), device, ranks)


def keep(
    run: Run,
    lease: Lease | None,
    networks: Mapping[str, nn.Module],
    metrics: dict[str, float],
) -> None:
    """Writes the products of pretraining, and removes its checkpoints."""
    if lease is None:
        return
    lease.check()
    run.write_pretraining(metrics)
    # This makes pretraining complete, so it comes last.
    run.write_encoder({name: network.state_dict() for name, network in networks.items()}, metrics)
    remove_checkpoints(run.path)
