"""The supervised loop: plain PyTorch by hand gives the same weights, and no step depends on what came between."""

import contextlib
import copy
import math

import pytest
import torch
from torch import Tensor, nn

from simclr_ablate.augment.build import build_policy
from simclr_ablate.config import ConfigError
from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.splits import Splits
from simclr_ablate.randomness import generator
from simclr_ablate.schema import Experiment
from simclr_ablate.tasks.networks import build_models
from simclr_ablate.tasks.pretrain import build_loop
from simclr_ablate.training.loop import Loop, NonFiniteLossError
from simclr_ablate.training.supervised import SupervisedTraining

IMAGES, BATCH, CLASSES = 70, 16, 5
PER_EPOCH = IMAGES // BATCH
TINY = (
    "objective=supervised",
    f"optimizer.batch_size={BATCH}",
    "optimizer.epochs=3",
    "encoder.stem=strided",
)
PLAIN = (
    "optimizer=sgd",
    "optimizer.lr=0.1",
    "optimizer.lr_rule=constant",
)
CPU = torch.device("cpu")
POLICIES = {
    "simclr": (),
    "crop": ("views=crop",),
    "autoaugment": ("views=autoaugment",),
    "pair": ("views=pair", "views.first=color", "views.second=noise"),
}


class Enough(Exception):  # noqa: N818
    pass


@pytest.fixture(scope="module")
def images() -> ImageSet:
    draw = torch.Generator().manual_seed(5)
    stored = torch.randint(0, 256, (IMAGES + 9, 3, 32, 32), dtype=torch.uint8, generator=draw)
    labels = torch.randint(CLASSES, (IMAGES + 9,), generator=draw)
    # A subset, whose rows are not the order in which its images lie.
    whole = ImageSet(stored, labels, [f"class{k}" for k in range(CLASSES)])
    return whole.subset(torch.randperm(IMAGES + 9, generator=draw)[:IMAGES])


def make_loop(experiment: Experiment, images: ImageSet) -> Loop:
    encoder, classifier = build_models(experiment, CPU, CLASSES)
    unlabelled = ImageSet(images.images.flip(0), torch.full((IMAGES,), -1), images.classes)
    return build_loop(
        experiment, Splits(images, images, images, unlabelled), encoder, classifier, CPU
    )


def run_to(loop: Loop, step: int) -> None:
    def stop(loop: Loop) -> None:
        if loop.step == step:
            raise Enough

    with contextlib.suppress(Enough):
        loop.run(stop)
    assert loop.step == step


def weights(modules: tuple[nn.Module, nn.Module]) -> list[Tensor]:
    return [value.clone() for module in modules for value in module.state_dict().values()]


def networks(loop: Loop) -> tuple[nn.Module, nn.Module]:
    return loop.training.encoder, loop.training.head


def nesterov(experiment: Experiment, parameters: list[nn.Parameter]) -> torch.optim.SGD:
    decayed = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim <= 1]
    return torch.optim.SGD(
        [
            {"params": decayed, "weight_decay": experiment.optimizer.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=1.0,
        momentum=experiment.optimizer.momentum,
        nesterov=True,
    )


def six_steps_by_hand(
    experiment: Experiment, images: ImageSet
) -> tuple[tuple[nn.Module, nn.Module], list[float], list[float]]:
    """Encoder and classifier, and each step's loss and share of right answers."""
    encoder, classifier = build_models(experiment, CPU, CLASSES)
    sgd = nesterov(experiment, [*encoder.parameters(), *classifier.parameters()])
    views = build_policy(experiment.views, experiment.data)
    warmup, total = PER_EPOCH, 3 * PER_EPOCH
    losses, right = [], []
    for step in range(6):
        epoch, place = divmod(step, PER_EPOCH)
        order = torch.randperm(IMAGES, generator=generator(experiment.seed, "order", epoch))
        chosen = order[place * BATCH : (place + 1) * BATCH]
        draw = generator(experiment.seed, "views", epoch, place)
        made = views.draw_one(images.images[chosen], draw).make()
        labels = images.labels[chosen]
        progress = (step - warmup) / (total - warmup)
        lr = 0.1 * (step / warmup if step < warmup else (1 + math.cos(math.pi * progress)) / 2)
        for group in sgd.param_groups:
            group["lr"] = lr
        sgd.zero_grad()
        # In the order of the loop, for batch norm's sums to round alike.
        logits = classifier(encoder(made.images))[made.positions]
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        sgd.step()
        losses.append(loss.item())
        right.append(float((logits.argmax(1) == labels).double().mean()))
    return (encoder, classifier), losses, right


@pytest.mark.parametrize("policy", POLICIES)
def test_the_loop_is_supervised_training(make_experiment, images: ImageSet, policy: str) -> None:
    """Six steps with SGD, the views, order and learning rate as documented, by hand."""
    experiment = make_experiment(*TINY, *PLAIN, *POLICIES[policy])
    loop = make_loop(experiment, images)
    assert isinstance(loop, SupervisedTraining)
    run_to(loop, 6)

    trained, losses, right = six_steps_by_hand(experiment, images)
    for ours, theirs in zip(weights(networks(loop)), weights(trained), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-4)
    (row,) = loop.history
    assert list(row) == ["epoch", "loss", "accuracy"]
    assert row["loss"] == pytest.approx(sum(losses[:PER_EPOCH]) / PER_EPOCH, rel=1e-4)
    assert row["accuracy"] == pytest.approx(sum(right[:PER_EPOCH]) / PER_EPOCH)
    (encoder, classifier), start = trained, build_models(experiment, CPU, CLASSES)
    assert (encoder.conv1.weight - start[0].conv1.weight).abs().max() > 0.005
    assert (classifier.weight - start[1].weight).abs().max() > 0.005


def test_micro_batches_are_one_graph_over_all_parts(make_experiment, images: ImageSet) -> None:
    """Batch norm apart for each part; the step is the gradient of the mean over all of them."""
    still = ("optimizer.warmup_epochs=0", "optimizer.weight_decay=0", "optimizer.momentum=0")
    experiment = make_experiment(*TINY, *PLAIN, *still, "optimizer.lr=1", "optimizer.micro_batch=4")
    loop = make_loop(experiment, images)
    run_to(loop, 1)
    loop.look()

    encoder, classifier = build_models(experiment, CPU, CLASSES)
    order = torch.randperm(IMAGES, generator=generator(experiment.seed, "order", 0))[:BATCH]
    views = build_policy(experiment.views, experiment.data).one_view(
        images.images[order], generator(experiment.seed, "views", 0, 0)
    )
    logits = torch.cat([classifier(encoder(part)) for part in views.split(4)])
    loss = nn.functional.cross_entropy(logits, images.labels[order])
    loss.backward()
    with torch.no_grad():
        for module in (encoder, classifier):
            for p in module.parameters():
                p -= p.grad
    for ours, theirs in zip(weights(networks(loop)), weights((encoder, classifier)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert loop.last_loss == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("overrides", [("optimizer=lars",), ("optimizer.micro_batch=8",)])
def test_a_state_restored_at_any_step_goes_on_bit_for_bit(
    make_experiment, images: ImageSet, overrides: tuple[str, ...]
) -> None:
    experiment = make_experiment(*TINY, *overrides)
    whole = make_loop(experiment, images)
    whole.run(lambda loop: None)
    for step in (1, 4, 7):
        first = make_loop(experiment, images)
        run_to(first, step)
        second = make_loop(experiment, images)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        second.run(lambda loop: loop.look())
        assert all(map(torch.equal, weights(networks(second)), weights(networks(whole))))
        assert second.history == whole.history


def test_bfloat16_trains_float32_weights(make_experiment, images: ImageSet) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        loop = make_loop(make_experiment(*TINY, f"precision={precision}"), images)
        loop.run(lambda loop: None)
        losses[precision] = loop.history[-1]["loss"]
        assert all(value.dtype != torch.bfloat16 for value in weights(networks(loop)))
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)


def test_a_loss_that_is_not_finite_stops_it(make_experiment, images: ImageSet) -> None:
    loop = make_loop(make_experiment(*TINY), images)
    loop.training.head.weight.data.fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match="the loss became nan at step 1 of 12"):
        loop.run(lambda loop: loop.look())


def test_the_encoder_starts_as_the_contrastive_one(make_experiment) -> None:
    supervised, classifier = build_models(make_experiment(*TINY), CPU, CLASSES)
    contrastive, _ = build_models(make_experiment(*TINY, "objective=contrastive"), CPU)
    assert torch.equal(supervised.conv1.weight, contrastive.conv1.weight)
    assert classifier.weight.shape == (CLASSES, supervised.dim)


def test_images_without_labels_are_refused(make_experiment, images: ImageSet) -> None:
    labels = images.labels.clone()
    labels[3] = -1
    unlabelled = ImageSet(images.images, labels, images.classes)
    with pytest.raises(ConfigError, match=r"objective=supervised needs a label .* data=shapes"):
        make_loop(make_experiment(*TINY), unlabelled)
