"""Measuring beside training: the numbers of the definitions, and not one bit of the run is another."""

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simclr_ablate.config import ConfigError
from simclr_ablate.ranks import Ranks
from simclr_ablate.schema import Experiment
from simclr_ablate.store.metrics import MetricsFile
from simclr_ablate.training.loop import Loop, NonFiniteLossError
from simclr_ablate.training.online import LEARNING_RATE, OnlineEvaluation, effective_rank
from simclr_ablate.training.step_metrics import StepMetrics
from tests.small_runs import SMALL, loop_of

CPU = torch.device("cpu")
IMAGES, WIDTH, CLASSES = 64, 12, 5
KEYS = (*SMALL, "optimizer.epochs=3", "evaluation.online=true")


def views(step: int, count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """h that tells something of the class, z, and labels."""
    draw = torch.Generator().manual_seed(step)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    h = torch.randn(count, WIDTH, generator=draw) + 2 * F.one_hot(labels, WIDTH)
    return h.relu(), torch.randn(count, 6, generator=draw) * torch.arange(6.0), labels


@pytest.mark.parametrize("shape", [(50, 8), (8, 8), (5, 9)])
def test_the_effective_rank_is_that_of_the_singular_values(shape: tuple[int, int]) -> None:
    z = np.random.default_rng().normal(size=shape) * np.linspace(0.1, 3, shape[1])
    singular = np.linalg.svd(z, compute_uv=False)
    shares = singular / singular.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    made = torch.from_numpy(z)
    assert float(effective_rank(made.T @ made)) == pytest.approx(expected, rel=1e-6)


def test_it_is_one_for_a_line_and_all_for_a_sphere() -> None:
    line = torch.outer(torch.randn(30), torch.randn(7)).double()
    assert float(effective_rank(line.T @ line)) == pytest.approx(1, abs=1e-5)
    assert float(effective_rank(3 * torch.eye(7).double())) == pytest.approx(7)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_z_without_a_rank_has_none(value: float) -> None:
    gram = torch.eye(3).double()
    gram[1] = value
    assert math.isnan(effective_rank(gram if value else 0 * gram))


def test_a_run_that_diverges_says_so(make_experiment, tmp_path) -> None:
    experiment = make_experiment(*KEYS)
    wild = dataclasses.replace(experiment.optimizer, name="sgd", lr=1e30, warmup_epochs=0.0)
    with pytest.raises(NonFiniteLossError, match="the loss became"):
        trained(dataclasses.replace(experiment, optimizer=wild), tmp_path)


def test_the_classifier_is_what_plain_pytorch_trains() -> None:
    """Layer norm, cross entropy and Adam written out; its accuracy is that before each step."""
    online = OnlineEvaluation(WIDTH, CLASSES, seed=3, device=CPU)
    layer = nn.Linear(WIDTH, CLASSES)
    layer.load_state_dict(online.classifier.state_dict())
    first, second = ([torch.zeros_like(p) for p in layer.parameters()] for _ in range(2))
    found = []
    for step in range(1, 60):
        h, z, labels = views(step)
        online.take(h, z, labels)
        found.append(float(online.finish(step)[0]))
        logits = layer((h - h.mean(1, True)) / (h.var(1, False, keepdim=True) + 1e-5).sqrt())
        assert found[-1] == pytest.approx(100 * float((logits.argmax(1) == labels).float().mean()))
        loss = -logits.log_softmax(1)[range(len(h)), labels].mean()
        gradients = torch.autograd.grad(loss, list(layer.parameters()))
        with torch.no_grad():
            for p, g, m, v in zip(layer.parameters(), gradients, first, second, strict=True):
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g**2)
                step_size = LEARNING_RATE / (1 - 0.9**step)
                p -= step_size * m / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    for ours, theirs in zip(online.classifier.parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert np.mean(found[-10:]) > np.mean(found[:3]) + 20


def test_parts_are_the_whole() -> None:
    whole, parts = (OnlineEvaluation(WIDTH, CLASSES, 0, CPU) for _ in range(2))
    for step in range(1, 4):
        batch = views(step)
        whole.take(*batch)
        for part in zip(*(each.split(7) for each in batch), strict=True):
            parts.take(*part)
        torch.testing.assert_close(whole.finish(step), parts.finish(step))


def share(ranks: Ranks) -> list[Tensor]:
    online = OnlineEvaluation(WIDTH, CLASSES, 0, CPU, 1, ranks)
    found = []
    for step in range(1, 4):
        online.take(*(each[ranks.share(slice(0, len(each)))] for each in views(step, 41)))
        found.append(online.finish(step))
    return [*found, *online.classifier.state_dict().values()]


def test_ranks_are_one(on_ranks) -> None:
    alone = share(Ranks())
    for found in on_ranks(2, share):
        for one, other in zip(found, alone, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def trained(experiment: Experiment, path: Path, stops: tuple[int, ...] = ()) -> tuple[Loop, list]:
    """The loop at its end, and its lines; it is given up and resumed after the steps `stops`."""

    class Stopped(Exception):  # noqa: N818
        pass

    def perhaps_stop(loop: Loop) -> None:
        if loop.step in stops and loop.step > begun:
            raise Stopped

    path.mkdir(exist_ok=True)
    state, begun = None, 0
    while True:
        loop = loop_of(experiment, IMAGES, CPU)
        if state is not None:
            loop.load_state_dict(state)
        begun = loop.step
        loop.recorder = StepMetrics(MetricsFile(path / "metrics.jsonl"), 1, loop)
        try:
            loop.run(perhaps_stop)
        except Stopped:
            state = loop.state_dict()
            loop.recorder.write()
            continue
        loop.recorder.write()
        return loop, loop.recorder.file.read()


@functools.cache
def bits(loop: Loop) -> list[bytes]:
    networks = (loop.training.encoder, loop.training.head)
    return [v.numpy().tobytes() for net in networks for v in net.state_dict().values()]


@pytest.mark.parametrize("more", [(), ("optimizer.micro_batch=8",)])
def test_no_bit_of_the_run_is_another(make_experiment, tmp_path, more) -> None:
    experiment = make_experiment(*KEYS, *more)
    evaluation = dataclasses.replace(experiment.evaluation, online=False)
    with_it, lines = trained(experiment, tmp_path / "with")
    without, plain = trained(dataclasses.replace(experiment, evaluation=evaluation), tmp_path)
    assert bits(with_it) == bits(without)
    assert with_it.history == without.history
    for line, other in zip(lines, plain, strict=True):
        assert 0 <= line.pop("online_top1") <= 100
        assert 1 <= line.pop("effective_rank") <= 32
        assert {name: line[name] for name in ("loss", "accuracy", "entropy")} == {
            name: other[name] for name in ("loss", "accuracy", "entropy")
        }
        assert line.keys() == other.keys()


def test_a_resumed_run_measures_the_same(make_experiment, tmp_path) -> None:
    experiment = make_experiment(*KEYS)
    whole, lines = trained(experiment, tmp_path / "whole")
    again, resumed = trained(experiment, tmp_path / "again", stops=(2, 5, 9))
    assert bits(whole) == bits(again)
    for name in ("step", "online_top1", "effective_rank"):
        assert [line[name] for line in lines] == [line[name] for line in resumed]


def test_it_can_begin_in_the_middle_of_a_run(make_experiment) -> None:
    experiment = make_experiment(*KEYS)
    evaluation = dataclasses.replace(experiment.evaluation, online=False)
    before = loop_of(dataclasses.replace(experiment, evaluation=evaluation), IMAGES, CPU)
    after = loop_of(experiment, IMAGES, CPU)
    after.load_state_dict(before.state_dict())
    before.load_state_dict(after.state_dict())


@pytest.mark.parametrize(
    ("keys", "lacking"),
    [
        (("data=voc2007", "data.root=x"), "have several labels"),
        (("data=stl10", "data.root=x"), "have no labels"),
    ],
)
def test_images_without_a_class_each_are_refused(make_experiment, keys, lacking) -> None:
    with pytest.raises(
        ConfigError, match=f"evaluation.online must be false .* {lacking}, got true"
    ):
        make_experiment(*keys, "evaluation.online=true")
    # The random encoder is not trained: there the key does not count.
    make_experiment(*keys, "evaluation.online=true", "objective=none")
