"""The pretraining loop on several ranks against one process: the same steps up to rounding."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.splits import Splits
from simclr_ablate.data.streamed import StreamedSet, open_streamed
from simclr_ablate.evaluation.features import Features, extract, reset_batchnorm
from simclr_ablate.models.batch_norm import share_statistics
from simclr_ablate.ranks import SOLO, Ranks
from simclr_ablate.schema import Experiment
from simclr_ablate.tasks.networks import build_models
from simclr_ablate.tasks.pretrain import build_loop
from simclr_ablate.training.loop import Loop

pytestmark = pytest.mark.slow

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
    "libraries, micro-batches": (
        (
            *(*PLAIN, "optimizer.micro_batch=8", "views=pair", "views.second=torchvision:AugMix"),
            "views.first='torchvision:RandomRotation(degrees=30)'",
        ),
        1,
    ),
    "timm": ((*PLAIN, "encoder.architecture=timm:test_efficientnet"), 1),
    "timm, micro-batches": (
        (*PLAIN, "encoder.architecture=timm:test_efficientnet", "optimizer.micro_batch=8"),
        1,
    ),
    "dot products, negatives of one view": (
        (*PLAIN, "loss.normalize=false", "loss.negatives=one", "optimizer.lr=0.1"),
        1,
    ),
    "no head, contiguous": ((*PLAIN, "head=none", "compute.channels_last=false"), 1),
    "lars": (("optimizer=lars",), STEPS),
    "supervised": ((*PLAIN, "objective=supervised"), 1),
    "supervised, micro-batches": (
        (*PLAIN, "objective=supervised", "optimizer.micro_batch=8", "views=crop"),
        1,
    ),
    "supervised, unevenly": ((*PLAIN, "objective=supervised", "optimizer.batch_size=15"), 1),
    "supervised, lars": (("optimizer=lars", "objective=supervised"), STEPS),
    "adamw, micro-batches": (("optimizer.lr=0.0001", "optimizer.micro_batch=4"), STEPS),
}


STREAMED = (
    *(
        "sgd",
        "pair",
        "micro-batches",
        "libraries, micro-batches",
        "supervised",
        "supervised, micro-batches",
    ),
    "supervised, unevenly",
)


class Enough(Exception):  # noqa: N818
    pass


class Trained(NamedTuple):
    losses: list[Tensor]
    state: dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As every rank has here: sums come out in another order with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    stored = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
    return ImageSet(stored, torch.arange(IMAGES), [str(k) for k in range(IMAGES)])


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
) -> Loop:
    device = torch.device("cpu")
    models = build_models(experiment, device, IMAGES)
    encoder, head = (network.to(dtype) for network in models)
    encoder.register_forward_pre_hook(lambda _, inputs: inputs[0].to(dtype))
    remove_edges(encoder)
    remove_edges(head)
    for network in (encoder, head):
        share_statistics(network, ranks, device)
    return build_loop(experiment, Splits(images, images, images), encoder, head, device, ranks)


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
        # An optimiser keeps the tensors that it is given, and processes share the memory of what they are sent.
        loop.load_state_dict(copy.deepcopy(state))
    last = loop.step + steps
    losses = []

    def watch(loop: Loop) -> None:
        loop.look()
        losses.append(torch.tensor(loop.last_loss))
        if loop.step == last:
            raise Enough

    with contextlib.suppress(Enough):
        loop.run(watch)
    return Trained(losses, loop.state_dict())


def train_all(ranks: Ranks, work: list[tuple]) -> list[Trained]:
    return [train(ranks, *arguments) for arguments in work]


class Deviation(NamedTuple):
    """The largest differences, relative to the largest entry or to 1."""

    seen: float
    """Of losses and of batch norm's buffers."""
    weights: float

    @classmethod
    def between(cls, ours: Trained, theirs: Trained) -> Self:
        seen = [largest_difference(ours.losses, theirs.losses)]
        weights = []
        for network in ("encoder", "head"):
            one, other = ours.state[network], theirs.state[network]
            assert list(one) == list(other)
            buffers = [name for name in one if "running" in name or "tracked" in name]
            seen += [largest_difference([one[name]], [other[name]]) for name in buffers]
            names = [name for name in one if name not in buffers]
            weights.append(largest_difference([one[n] for n in names], [other[n] for n in names]))
        return cls(max(seen), max(weights))


def largest_difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Relative to the largest entry of all, or to 1."""
    if not theirs:
        return 0.0
    one, other = (torch.cat([tensor.double().flatten() for tensor in t]) for t in (ours, theirs))
    return float((one - other).abs().max() / other.abs().max().clamp(min=1))


class Alone(NamedTuple):
    """What one process comes to in every case, in either precision."""

    float32: list[tuple]
    float64: list[tuple]
    rounded: list[Trained]
    exact: list[Trained]


@pytest.fixture(scope="module")
def alone(make_experiment: Callable, images: ImageSet, streamed: StreamedSet) -> Alone:
    float32, float64 = (
        [
            (experiment, source, steps, dtype)
            for name, (overrides, steps) in CASES.items()
            for experiment in [make_experiment(*TINY, *overrides)]
            for source in ([images, streamed] if name in STREAMED else [images])
        ]
        for dtype in (torch.float32, torch.float64)
    )
    return Alone(float32, float64, train_all(SOLO, float32), train_all(SOLO, float64))


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_do_the_steps_of_one_process(on_ranks: Callable, alone: Alone, count: int) -> None:
    float32, float64, rounded, exact = alone
    everyones = on_ranks(count, train_all, float32 + float64)
    each = zip(float64, exact, *(one[len(float32) :] for one in everyones), strict=True)
    for case, expected, *shared in each:
        for one in shared:
            assert max(Deviation.between(one, expected)) < 1e-11, case
    each = zip(float32, rounded, exact, *(one[: len(float32)] for one in everyones), strict=True)
    for case, expected, truth, *shared in each:
        for one in shared:
            assert Deviation.between(one, shared[0]) == (0, 0), f"ranks drift apart: {case}"
        ours, theirs = (Deviation.between(one, truth) for one in (shared[0], expected))
        between = Deviation.between(shared[0], expected)
        if case[2] == 1:  # further steps take AdamW's small gradients to either sign
            assert between.seen < 1e-5, case
            # A gradient of float32 has such an error in one process too.
            assert ours.weights < max(1e-5, 5 * theirs.weights), case


def test_a_state_goes_on_with_another_number_of_ranks(
    on_ranks: Callable, make_experiment: Callable, images: ImageSet
) -> None:
    experiment = make_experiment(*TINY, "optimizer=lars", "optimizer.micro_batch=8")
    whole = train(SOLO, experiment, images, 6)
    first = train(SOLO, experiment, images, 2).state
    second = on_ranks(2, train, experiment, images, 2, torch.float64, first)[0].state
    third = on_ranks(4, train, experiment, images, 1, torch.float64, second)[3].state
    last = train(SOLO, experiment, images, 1, torch.float64, third)
    assert last.state["step"] == 6
    assert float(last.losses[-1]) == pytest.approx(float(whole.losses[-1]), rel=1e-6)
    assert max(Deviation.between(last._replace(losses=[]), whole._replace(losses=[]))) < 1e-11
    assert last.state["history"][0] == pytest.approx(whole.state["history"][0])


def test_bfloat16_gives_about_the_same_loss(
    on_ranks: Callable, make_experiment: Callable, images: ImageSet
) -> None:
    experiment = make_experiment(*TINY, "precision=bfloat16", "optimizer.micro_batch=8")
    alone = train(SOLO, experiment, images, 2, torch.float32)
    for shared in on_ranks(2, train, experiment, images, 2, torch.float32):
        torch.testing.assert_close(shared.losses, alone.losses, rtol=2e-2, atol=0)


def look_at(
    ranks: Ranks, experiment: Experiment, sets: list[ImageSet | StreamedSet]
) -> list[tuple[Features, dict[str, Tensor]]]:
    """Of each set: its features, by an encoder whose statistics come from it."""
    results = []
    for images in sets:
        encoder, head = build_models(experiment, torch.device("cpu"))
        reset_batchnorm(encoder, batches_of(images, ranks), "cpu", ranks)
        for network in (encoder, head):
            share_statistics(network, ranks, torch.device("cpu"))
        features = extract(encoder, batches_of(images, ranks), "cpu", head, ranks)
        results.append((features, {n: b.clone() for n, b in encoder.named_buffers()}))
    return results


def batches_of(images: ImageSet | StreamedSet, ranks: Ranks) -> Iterator[tuple[Tensor, Tensor]]:
    if isinstance(images, StreamedSet):
        return images.batches(16, ranks)
    return images.batches(16, ranks)


@pytest.mark.parametrize("count", [2, 4])
def test_features_are_those_of_one_process_in_its_order(
    on_ranks: Callable,
    make_experiment: Callable,
    images: ImageSet,
    streamed: StreamedSet,
    count: int,
) -> None:
    """Of 70 images in batches of 16, which ranks share unevenly, and of fewer batches than ranks."""
    experiment = make_experiment(*TINY)
    sets = [images, streamed, images.subset(range(10))]
    alone, shared = look_at(SOLO, experiment, sets), on_ranks(count, look_at, experiment, sets)
    for place, (features, buffers) in enumerate(alone):
        first, *others = [one[place] for one in shared]
        assert torch.equal(first[0].labels, features.labels)
        torch.testing.assert_close(first[0].features, features.features, rtol=1e-4, atol=1e-5)
        for one in (first, *others):
            torch.testing.assert_close(one[1], buffers, rtol=1e-5, atol=1e-6)
        assert all(len(one[0].features) == 0 for one in others)
