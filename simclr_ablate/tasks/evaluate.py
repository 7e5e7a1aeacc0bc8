"""Evaluation, one task from top to bottom: a pretrained encoder is measured by a protocol."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from simclr_ablate import __version__
from simclr_ablate.calls import is_of_library, with_version
from simclr_ablate.data.splits import Splits
from simclr_ablate.device import enter, is_accelerator, name_of, set_arithmetic
from simclr_ablate.evaluation.feature_cache import cached_features, digest_of
from simclr_ablate.evaluation.features import FEATURE_BATCH, extract
from simclr_ablate.evaluation.probe import transformed
from simclr_ablate.evaluation.protocol import Evaluator, Frozen, Result, Subject, find_protocol
from simclr_ablate.files import StorageError
from simclr_ablate.identity import evaluated_beside, evaluation_key
from simclr_ablate.lease import Lease
from simclr_ablate.models.encoder import Encoder
from simclr_ablate.ranks import SOLO, Ranks
from simclr_ablate.schema import Encoder as EncoderSpec
from simclr_ablate.schema import Experiment
from simclr_ablate.stopping import Stop
from simclr_ablate.store import EvaluationFolder, Run
from simclr_ablate.store.tensors import DamagedError
from simclr_ablate.tasks.networks import load_networks
from simclr_ablate.tasks.share import Share, read_data
from simclr_ablate.training.checkpoint import remove_checkpoints
from simclr_ablate.training.trainer import Trainer

log = logging.getLogger(__name__)


_WHAT_WEIGHTS_LACK = ("architecture", "width", "stem", "mean", "std")
"""Keys of the encoder that change features, whatever its weights."""


def evaluate(
    experiment: Experiment,
    run: Run,
    folder: EvaluationFolder,
    lease: Lease | None,
    share: Share,
    stop: Stop,
    ranks: Ranks = SOLO,
) -> None:
    """Measures the encoder in `run`, and writes the result into `folder`.

    ranks: see `pretrain`. If the protocol needs only features, all ranks but the first return once these are computed.

    Raises DamagedError on all ranks if the encoder is damaged or gone, and whatever `pretrain` raises.
    """
    torch.set_num_threads(share.threads)
    set_arithmetic(experiment.compute.deterministic, experiment.compute.tf32)
    device = torch.device(share.device)
    enter(device)
    protocol = find_protocol(experiment.evaluation.protocol)
    data = read_data(experiment.evaluated_data, experiment, folder, share, ranks)
    encoder, head = load_on_all(experiment, run, device, ranks)
    between = experiment.compute.checkpoint_minutes * 60
    trainer = Trainer(folder, lease, stop, between, ranks)
    subject = Subject(experiment, data, encoder, head, device, trainer.train, ranks)
    if ranks.is_first:
        folder.write_progress({"phase": "evaluating"})
        log.info("evaluating as %s", evaluation_key(experiment))
    begin = time.monotonic()
    result = measure(subject, protocol, Path(share.cache))
    seconds = time.monotonic() - begin
    if lease is None:
        return
    assert result is not None
    lease.check()
    config = experiment.to_config()["evaluation"]
    folder.write_examples({name: rows.cpu().numpy() for name, rows in result.examples.items()})
    folder.write_result(config, result.metrics, seconds, evaluated_beside(experiment))
    remove_checkpoints(folder.path)
    with suppress(StorageError):  # it is complete even if this cannot be written
        folder.write_progress({"phase": "complete", "fraction": 1.0})


def load_on_all(
    experiment: Experiment, run: Run, device: torch.device, ranks: Ranks = SOLO
) -> tuple[Encoder, nn.Module]:
    """`load_networks` on all ranks. Raises DamagedError on all ranks or on none."""
    problem = loaded = None
    if ranks.is_first:
        try:
            loaded = load_networks(experiment, run, device)
        except DamagedError as error:
            problem = error.problem
    problem = ranks.from_first(problem)
    if problem is not None:
        raise DamagedError(run.encoder_path, problem)
    return loaded or load_networks(experiment, run, device)


def measure(subject: Subject, protocol: Evaluator, cache: Path) -> Result | None:
    """The result of the protocol on the first rank, None on all others.

    cache: the folder of frozen features.
    """
    ranks = subject.ranks
    if protocol.on_network is not None:
        result = protocol.on_network(subject)
    else:
        assert protocol.on_features is not None
        frozen = freeze(subject, cache)
        # No other rank should wait for what the first does alone.
        ranks.leave()
        if not ranks.is_first:
            return None
        result = protocol.on_features(subject, frozen)
    return result._replace(metrics={**result.metrics, "test_images": len(subject.data.test)})


def freeze(subject: Subject, cache: Path) -> Frozen:
    """The features of all images, from the cache if it has them."""
    experiment, device, ranks = subject.experiment, subject.device, subject.ranks
    spec = experiment.evaluation
    head = subject.head if spec.features == "z" else None

    def compute() -> Frozen:
        if ranks.is_first:
            log.info("computing features of %d images", sum(map(len, subject.data[:3])))
        splits = (
            extract(subject.encoder, batches, device, head, ranks)
            for batches in batches_of(experiment, subject.data, ranks)
        )
        return Frozen(*splits)

    data = dataclasses.asdict(experiment.evaluated_data)
    made_of = {
        "networks": [digest_of(network) for network in (subject.encoder, head) if network],
        # Weights say nothing of strides, nor of a normalisation before them.
        "encoder": _named(experiment.encoder),
        "data": {name: value for name, value in data.items() if name not in ("root", "metric")},
        "sizes": [len(split) for split in subject.data[:3]],
        "done to images": [spec.probe, experiment.seed] if spec.probe else None,
        "layout": experiment.compute.channels_last,
        "device": _arithmetic_of(device) if is_accelerator(device) else device.type,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        "ranks": ranks.count,
        "versions": [__version__, torch.__version__],
    }
    return cached_features(cache, made_of, spec.feature_cache_gb * 1e9, compute, ranks)


def _arithmetic_of(device: torch.device) -> list[Any]:
    """What decides how an accelerator rounds: its kind and model, and how convolutions are computed."""
    cudnn = torch.backends.cudnn
    how = [cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled(), cudnn.version()]
    return [device.type, name_of(device), *how]


def _named(encoder: EncoderSpec) -> dict[str, Any]:
    """What the encoder's features depend on beside its weights."""
    named = {name: getattr(encoder, name) for name in _WHAT_WEIGHTS_LACK}
    if is_of_library(encoder.architecture):
        named["architecture"] = with_version(encoder.architecture)
    return named


def batches_of(
    experiment: Experiment, data: Splits, ranks: Ranks
) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """Batches of images and labels for each split; for a probe, of transformed images, with labels that say how."""
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
