"""The pretraining loop: Algorithm 1 by hand gives the same weights, and no step depends on where it was interrupted."""

import functools
import math

import pytest
import torch
from torch import Tensor, nn

from simclr_ablate.augment.build import build_policy
from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.losses.nt_xent import nt_xent
from simclr_ablate.models.encoder import memory_format
from simclr_ablate.randomness import generator
from simclr_ablate.schema import Experiment
from simclr_ablate.tasks.networks import build_models
from simclr_ablate.training.contrastive import ContrastivePretraining
from simclr_ablate.training.loop import NonFiniteLossError, Training

TAU, IMAGES, BATCH = 0.3, 70, 16
TINY = (
    f"optimizer.batch_size={BATCH}",
    "optimizer.epochs=3",
    f"loss.temperature={TAU}",
    "encoder.stem=strided",
)


class Enough(Exception):  # noqa: N818
    pass


@pytest.fixture(scope="module")
def images() -> ImageSet:
    draw = torch.Generator().manual_seed(5)
    stored = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=draw)
    return ImageSet(stored, torch.zeros(IMAGES, dtype=torch.long), ["one"])


def make_loop(experiment: Experiment, images: ImageSet) -> ContrastivePretraining:
    device = torch.device("cpu")
    encoder, head = build_models(experiment, device)
    policy = build_policy(experiment.views, experiment.data)
    loss = functools.partial(nt_xent, temperature=experiment.loss.temperature)
    layout = memory_format(experiment.compute)
    return ContrastivePretraining(
        Training(
            images=images,
            policy=policy,
            encoder=encoder,
            head=head,
            loss=loss,
            optimizer=experiment.optimizer,
            seed=experiment.seed,
            precision=experiment.precision,
            layout=layout,
            device=device,
        )
    )


def run_to(loop: ContrastivePretraining, step: int) -> None:
    def stop(loop: ContrastivePretraining) -> None:
        if loop.step == step:
            raise Enough

    with pytest.raises(Enough):
        loop.run(stop)


def weights(loop: ContrastivePretraining) -> list[Tensor]:
    modules = (loop.training.encoder, loop.training.head)
    return [value.clone() for module in modules for value in module.state_dict().values()]


def algorithm_1(z: Tensor) -> Tensor:
    """The loss of all anchors through the 2N x 2N matrix."""
    n = len(z) // 2
    z = nn.functional.normalize(z)
    similarities = (z @ z.T / TAU).fill_diagonal_(-math.inf)
    return nn.functional.cross_entropy(similarities, torch.arange(2 * n).roll(n))


def test_the_loop_is_algorithm_1(make_experiment, images: ImageSet) -> None:
    """Six steps with SGD, the views, order and learning rate as documented, by hand."""
    # With some seeds, such as 0, rounding takes a ReLU over its edge within six steps.
    experiment = make_experiment(
        *TINY, "seed=1", "optimizer=sgd", "optimizer.lr=0.1", "optimizer.lr_rule=constant"
    )
    loop = make_loop(experiment, images)
    run_to(loop, 6)

    encoder, head = build_models(experiment, torch.device("cpu"))
    policy = build_policy(experiment.views, experiment.data)
    matrices = [p for m in (encoder, head) for p in m.parameters() if p.ndim > 1]
    others = [p for m in (encoder, head) for p in m.parameters() if p.ndim <= 1]
    settings = experiment.optimizer
    sgd = torch.optim.SGD(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=1.0,
        momentum=settings.momentum,
        nesterov=True,
    )
    per_epoch = IMAGES // BATCH
    warmup, total = per_epoch, 3 * per_epoch
    for step in range(6):
        epoch, place = divmod(step, per_epoch)
        order = torch.randperm(IMAGES, generator=generator(experiment.seed, "order", epoch))
        chosen = images.images[order[place * BATCH : (place + 1) * BATCH]]
        views = policy.two_views(chosen, generator(experiment.seed, "views", epoch, place))
        # In the order of the loop: batch norm's sums round otherwise in another, which in six steps
        # takes a ReLU over its edge.
        made = policy.draw_two(chosen, generator(experiment.seed, "views", epoch, place)).make()
        assert torch.equal(made.in_order(), views)
        progress = (step - warmup) / (total - warmup)
        lr = 0.1 * (step / warmup if step < warmup else (1 + math.cos(math.pi * progress)) / 2)
        for group in sgd.param_groups:
            group["lr"] = lr
        sgd.zero_grad()
        algorithm_1(head(encoder(made.images))[made.positions]).backward()
        sgd.step()
    expected = [value for module in (encoder, head) for value in module.state_dict().values()]
    for ours, theirs in zip(weights(loop), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-4)
    start = build_models(experiment, torch.device("cpu"))[0].conv1.weight
    assert (encoder.conv1.weight - start).abs().max() > 0.005


@pytest.mark.parametrize("policy", ["simclr", "pair"])
def test_micro_batches_are_one_graph_over_all_parts(
    make_experiment, images: ImageSet, policy: str
) -> None:
    """A step in micro-batches against a graph that holds them all, batch norm apart for each."""
    views = ["views=pair", "views.first=color", "views.second=noise"] if policy == "pair" else []
    # Rate 1 and no momentum: the step is the gradient.
    plain = (
        "optimizer=sgd",
        "optimizer.lr=1",
        "optimizer.lr_rule=constant",
        "optimizer.momentum=0",
    )
    still = ("optimizer.warmup_epochs=0", "optimizer.weight_decay=0", "optimizer.micro_batch=4")
    experiment = make_experiment(*TINY, *plain, *still, *views)
    loop = make_loop(experiment, images)
    run_to(loop, 1)

    encoder, head = build_models(experiment, torch.device("cpu"))
    order = torch.randperm(IMAGES, generator=generator(experiment.seed, "order", 0))[:BATCH]
    made = build_policy(experiment.views, experiment.data).two_views(
        images.images[order], generator(experiment.seed, "views", 0, 0)
    )
    halves = [
        head(encoder(part.flatten(0, 1))).unflatten(0, (2, -1))
        for part in made.unflatten(0, (2, BATCH)).split(4, dim=1)
    ]
    algorithm_1(torch.cat(halves, dim=1).flatten(0, 1)).backward()
    for ours, theirs in zip(weights(loop), weights_after_step([encoder, head]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def weights_after_step(modules: list[nn.Module]) -> list[Tensor]:
    """What `weights` gives after one plain gradient step of rate 1."""
    with torch.no_grad():
        for module in modules:
            for p in module.parameters():
                p -= p.grad
    return [value for module in modules for value in module.state_dict().values()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=adamw"],
        ["optimizer=lars"],
        ["optimizer=sgd"],
        ["views=pair", "views.first=torchvision:RandAugment", "views.second=kornia:RandomHue"],
        ["views=none", "views.policy=lightly:SimCLRTransform"],
        ["encoder.architecture=timm:test_efficientnet"],
    ],
    ids=" ".join,
)
def test_a_state_restored_at_any_step_goes_on_bit_for_bit(
    make_experiment, images: ImageSet, overrides: list[str]
) -> None:
    if any("kornia" in override for override in overrides):
        pytest.importorskip("kornia")
    experiment = make_experiment(*TINY, *overrides)
    whole = make_loop(experiment, images)
    whole.run(lambda loop: None)
    for step in (1, 4, 7):
        first = make_loop(experiment, images)
        run_to(first, step)
        state = first.state_dict()
        second = make_loop(experiment, images)
        second.load_state_dict(state)
        second.run(lambda loop: None)
        assert all(map(torch.equal, weights(second), weights(whole)))
        assert second.history == whole.history


def test_looking_more_often_changes_nothing(make_experiment, images: ImageSet) -> None:
    experiment = make_experiment(*TINY)
    seldom, often = make_loop(experiment, images), make_loop(experiment, images)
    seldom.run(lambda loop: None)
    often.run(lambda loop: loop.look())
    assert often.history == seldom.history
    assert [row["epoch"] for row in often.history] == [1, 2, 3]
    assert all(math.isfinite(row["loss"]) for row in often.history)


def test_a_loss_that_is_not_finite_names_the_step_and_the_last_finite_one(
    make_experiment, images: ImageSet
) -> None:
    loop = make_loop(make_experiment(*TINY), images)
    seen = []

    def spoil(loop: ContrastivePretraining) -> None:
        loop.look()
        seen.append(loop.last_loss)
        if loop.step == 5:
            loop.training.head.output.weight.data.fill_(math.nan)

    with pytest.raises(NonFiniteLossError, match="the loss became nan at step 6 of 12") as error:
        loop.run(spoil)
    assert f"the last finite one was {seen[4]:.6g}" in str(error.value)


def test_bfloat16_trains_float32_weights_to_about_the_same_loss(
    make_experiment, images: ImageSet
) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        loop = make_loop(make_experiment(*TINY, f"precision={precision}"), images)
        loop.run(lambda loop: None)
        losses[precision] = loop.history[-1]["loss"]
        assert all(value.dtype != torch.bfloat16 for value in weights(loop))
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.1)
