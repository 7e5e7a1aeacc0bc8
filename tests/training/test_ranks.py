"""The pretraining loop on several ranks against one process: the same steps up to rounding."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.streamed import StreamedSet, open_streamed
from simclr_ablate.experiment import build_models, build_policy, memory_format
from simclr_ablate.losses.nt_xent import nt_xent
from simclr_ablate.models.batch_norm import share_statistics
from simclr_ablate.schema import Experiment
from simclr_ablate.training.contrastive import ContrastivePretraining, Training
from simclr_ablate.training.distributed import SOLO, Ranks

IMAGES, BATCH, STEPS = 70, 16, 3
TINY = (
    f"optimizer.batch_size={BATCH}",
    "optimizer.epochs=3",
    "optimizer.warmup_epochs=0",
    "encoder.stem=strided",
)
# Rate 1 and nothing else: the step is the gradient.
PLAIN = (
    "optimizer=sgd",
    "optimizer.lr=1",
    "optimizer.lr_rule=constant",
    "optimizer.momentum=0",
    "optimizer.weight_decay=0",
)
CASES = {
    "sgd": (PLAIN, 1),
    "pair": ((*PLAIN, "views=pair", "views.first=color", "views.second=noise"), 1),
    "micro-batches": ((*PLAIN, "optimizer.micro_batch=8"), 1),
    "dot products, negatives of one view": (
        (*PLAIN, "loss.normalize=false", "loss.negatives=one", "optimizer.lr=0.1"),
        1,
    ),
    "no head, contiguous": ((*PLAIN, "head=none", "compute.channels_last=false"), 1),
    "lars": (("optimizer=lars",), STEPS),
    "adamw, micro-batches": (("optimizer.lr=0.0001", "optimizer.micro_batch=4"), STEPS),
}


class Enough(Exception):  # noqa: N818
    pass


class Trained(NamedTuple):
    losses: list[Tensor]
    state: dict[str, Any]


@pytest.fixture(scope="module")
def images() -> ImageSet:
    stored = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
    return ImageSet(stored, torch.zeros(IMAGES, dtype=torch.long), ["one"])


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> StreamedSet:
    root = tmp_path_factory.mktemp("images")
    for number in range(IMAGES):
        folder = root / ("val" if number < 2 else "train") / "one"
        folder.mkdir(parents=True, exist_ok=True)
        array = torch.randint(0, 256, (48, 40, 3), dtype=torch.uint8).numpy()
        Image.fromarray(array).save(folder / f"{number}.png")
    (root / "train" / "one" / "5.png").write_bytes(b"no image")
    return open_streamed(root, 32, "skip", workers=0)[0]


def make_loop(
    ranks: Ranks, experiment: Experiment, images: ImageSet | StreamedSet, dtype: torch.dtype
) -> ContrastivePretraining:
    device = torch.device("cpu")
    encoder, head = (network.to(dtype) for network in build_models(experiment, device))
    encoder.register_forward_pre_hook(lambda _, inputs: inputs[0].to(dtype))
    if dtype == torch.float32:
        remove_edges(encoder)
        remove_edges(head)
    for network in (encoder, head):
        share_statistics(network, ranks, device)
    settings = experiment.loss
    loss = functools.partial(
        nt_xent,
        temperature=settings.temperature,
        normalize=settings.normalize,
        negatives=settings.negatives,
        ranks=ranks,
    )
    policy, layout = build_policy(experiment.views, experiment.data), memory_format(experiment)
    return ContrastivePretraining(
        Training(experiment, images, policy, encoder, head, loss, layout, device, ranks)
    )


def remove_edges(network: nn.Module) -> None:
    """ReLU becomes SiLU: rounding takes a ReLU at its edge to either side, which tells nothing of ranks."""
    for name, child in network.named_children():
        if isinstance(child, nn.ReLU):
            setattr(network, name, nn.SiLU())
        else:
            remove_edges(child)


def train(
    ranks: Ranks,
    experiment: Experiment,
    images: ImageSet | StreamedSet,
    steps: int,
    dtype: torch.dtype = torch.float64,
    state: dict[str, Any] | None = None,
) -> Trained:
    """`steps` more steps from `state`, or from the start."""
    loop = make_loop(ranks, experiment, images, dtype)
    if state is not None:
        loop.load_state_dict(state)
    last = loop.step + steps
    losses = []

    def watch(loop: ContrastivePretraining) -> None:
        loop.look()
        losses.append(torch.tensor(loop.last_loss))
        if loop.step == last:
            raise Enough

    with contextlib.suppress(Enough):
        loop.run(watch)
    return Trained(losses, loop.state_dict())


def train_all(ranks: Ranks, work: list[tuple]) -> list[Trained]:
    return [train(ranks, *arguments) for arguments in work]


def deviation(ours: Trained, theirs: Trained) -> float:
    """The largest of the losses, weights and buffers, of each relative to its largest entry or to 1."""
    pairs = list(zip(ours.losses, theirs.losses, strict=True))
    for part in ("encoder", "head"):
        names = theirs.state[part]
        assert list(ours.state[part]) == list(names)
        pairs += [(ours.state[part][name], names[name]) for name in names]
    return max(
        float((one - other).abs().max() / other.abs().max().clamp(min=1)) for one, other in pairs
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [2, 4])
def test_ranks_do_the_steps_of_one_process(
    on_ranks: Callable,
    make_experiment: Callable,
    images: ImageSet,
    streamed: StreamedSet,
    count: int,
    dtype: torch.dtype,
) -> None:
    work = {
        (name, type(source).__name__): (make_experiment(*TINY, *overrides), source, steps, dtype)
        for name, (overrides, steps) in CASES.items()
        for source in (images, streamed)
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = train_all(SOLO, list(work.values()))
    torch.set_num_threads(threads)
    everyones = on_ranks(count, train_all, list(work.values()))
    for name, alone, *shared in zip(work, expected, *everyones, strict=True):
        print(name, [deviation(one, alone) for one in shared], float(alone.losses[0]))
        for one in shared:
            assert deviation(one, alone) < 1e-2, name
        for one in shared[1:]:  # ranks must not drift apart
            assert deviation(one, shared[0]) == 0, name
