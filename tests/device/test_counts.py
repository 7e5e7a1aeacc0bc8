"""What a step asks of an accelerator: it waits for nothing, copies little, and makes views in few launches."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import simclr_ablate
from simclr_ablate.augment.policies import Policy, simclr_policy
from simclr_ablate.schema import Experiment
from simclr_ablate.training.loop import Loop
from tests.augment.test_policies import rng
from tests.device import sim
from tests.small_runs import loop_of

PACKAGE = str(Path(simclr_ablate.__file__).parent)
STEPS = 3


def count_steps(loop: Loop) -> sim.Counts:
    """What STEPS steps ask for, after a first one, which makes what is kept."""
    loop.training.encoder.train()
    loop.training.head.train()
    batches = itertools.islice(loop._batches(0, 0), 1 + STEPS)
    loop._train_step(next(batches))
    with sim.count(PACKAGE) as counts:
        for batch in batches:
            loop._unseen.append(loop._train_step(batch))
            loop.step += 1
    return counts


def launches_of_views(counts: sim.Counts) -> float:
    """In a step."""
    kinds = ("launch", "sync")
    return sum(n for (kind, at), n in counts.items() if kind in kinds and "augment/" in at) / STEPS


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        (),
        ("views.blur=true", "views.color=tensorflow"),
        ("views=pair", "views.first=noise", "views.second=color"),
        ("views=pair", "views.first=cutout", "views.second=rotate"),
        ("views=pair", "views.first=blur", "views.second=sobel"),
        ("objective=supervised",),
        ("optimizer=lars", "precision=bfloat16"),
        ("loss=nt_logistic", "loss.semi_hard=true"),
        ("loss=margin_triplet",),
    ],
    ids=" ".join,
)
def test_a_step_waits_for_nothing(
    make_experiment: Callable[..., Experiment],
    keys: tuple[str, ...],
    jitter: str,
) -> None:
    """At laptop scale."""
    counts = count_steps(loop_of(make_experiment(*keys), 1100, torch.device("sim")))
    assert counts.kind("sync") == 0, counts.table(STEPS, kinds=("sync",))
    assert counts.kind("h2d") == 0, counts.table(STEPS, kinds=("h2d",))
    assert counts.kind("h2d~") / STEPS <= 3, counts.table(STEPS, kinds=("h2d~",))
    if jitter == "fused":
        assert launches_of_views(counts) <= 50, counts.table(STEPS, kinds=("launch",))


@pytest.mark.slow
def test_a_step_of_micro_batches_copies_as_little_for_each(
    make_experiment: Callable[..., Experiment],
) -> None:
    parts = 16
    keys = ("optimizer.batch_size=64", f"optimizer.micro_batch={64 // parts}")
    counts = count_steps(loop_of(make_experiment(*keys), 300, torch.device("sim")))
    assert counts.kind("sync", "h2d") == 0, counts.table(STEPS, kinds=("sync", "h2d"))
    assert counts.kind("h2d~") / STEPS / parts <= 3, counts.table(STEPS, kinds=("h2d~",))


@pytest.mark.slow
@pytest.mark.usefixtures("fused_jitter")
@pytest.mark.parametrize("color", ["pytorch", "tensorflow"])
def test_a_large_batch_takes_no_more(
    make_experiment: Callable[..., Experiment], color: str
) -> None:
    """Steps of ResNet-50, of few small images for the CPU's sake; and the views of 1,024."""
    keys = ("encoder=resnet50", "optimizer.batch_size=16", f"views.color={color}")
    own = ("data.name=tests.small_runs:images", "data.size=16", "views.blur=true")
    counts = count_steps(loop_of(make_experiment(*keys, *own), 70, torch.device("sim")))
    assert counts.kind("sync", "h2d") == 0, counts.table(STEPS, kinds=("sync", "h2d"))
    assert counts.kind("h2d~") / STEPS <= 3
    assert launches_of_views(counts) <= 50
    images = torch.randint(0, 256, (1024, 3, 32, 32), dtype=torch.uint8).to("sim")
    policy = simclr_policy(32, color=color)
    policy.draw_two(images, rng(0)).make()
    with sim.count(PACKAGE) as counts:
        policy.draw_two(images, rng(1)).make()
    assert counts.kind("sync", "h2d") == 0
    assert counts.kind("h2d~") == 1
    assert counts.kind("launch") <= 50, counts.table()


@pytest.mark.usefixtures("fused_jitter")
@pytest.mark.parametrize("color", ["pytorch", "tensorflow"])
@pytest.mark.parametrize("crops", [True, False])  # False: of streamed images, which come cropped
def test_large_views_take_few_launches_too(color: str, crops: bool) -> None:
    """1,024 pairs of 224 x 224 pixels are made in as many launches, a chunk, as these few."""
    operations = simclr_policy(224, color=color).first
    chain = operations if crops else operations[1:]
    policy = Policy(first=chain, second=chain)
    images = torch.randint(0, 256, (8, 3, 224, 224), dtype=torch.uint8).to("sim")
    policy.draw_two(images, rng(0)).make()
    with sim.count(PACKAGE) as counts:
        policy.draw_two(images, rng(1)).make()
    assert counts.kind("sync", "h2d") == 0
    assert counts.kind("h2d~") == 1
    assert counts.kind("launch") <= (50 if crops else 25), counts.table()
