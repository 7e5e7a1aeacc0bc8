"""Pretraining and evaluation on an accelerator: every objective, loss, policy, network, optimiser and protocol comes to
what it comes to on the CPU, bit for bit on the simulated one.

With SIMCLR_ABLATE_TEST_DEVICE, such as cuda:0, they run on that device, and may differ by rounding.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from simclr_ablate.augment.batching import per_image
from simclr_ablate.augment.operations import Operation, Params
from simclr_ablate.augment.policies import Policy
from simclr_ablate.augment.registry import Magnitudes
from simclr_ablate.device import set_arithmetic
from simclr_ablate.evaluation.protocol import Frozen, Result, Subject, classified
from simclr_ablate.launch import worker
from simclr_ablate.losses.exact import ContrastiveLoss
from simclr_ablate.plan.plan import make_plan
from simclr_ablate.ranks import Ranks
from simclr_ablate.schema import Experiment, Loss
from simclr_ablate.stopping import StopSignal
from simclr_ablate.store import Run, Store
from tests.commands import only_run
from tests.device import sim
from tests.small_runs import SMALL, SignalledAfter

SIM = os.environ.get("SIMCLR_ABLATE_TEST_DEVICE", "sim:0")
IS_EXACT = SIM == "sim:0"
# Without a pool, whose backward pass on a CPU has no order that can be relied on.
COMMON = (*SMALL, "encoder.stem=strided", "evaluation=knn", "evaluation.knn=5")
PARTS = "optimizer.micro_batch=4"
LOSSES = {
    "nt_xent": (),
    "nt_xent of one view": ("loss.negatives=one",),
    "nt_xent without norm": ("loss.normalize=false", "loss.temperature=10"),
    "nt_logistic": ("loss=nt_logistic",),
    "nt_logistic semi-hard": ("loss=nt_logistic", "loss.semi_hard=true"),
    "nt_logistic within a margin": (
        "loss=nt_logistic",
        "loss.semi_hard=true",
        "loss.margin=0.4",
    ),
    "mean nt_logistic": ("loss=nt_logistic", "loss.reduction=mean"),
    "margin_triplet": ("loss=margin_triplet",),
    "margin_triplet semi-hard": ("loss=margin_triplet", "loss.semi_hard=true"),
    "nt_logistic of one view": ("loss=nt_logistic", "loss.negatives=one"),
    "margin_triplet of one view": ("loss=margin_triplet", "loss.negatives=one"),
}
# test_views has more cases that concern views alone.
POLICIES = {
    "none": ("views=none",),
    "autoaugment": ("views=autoaugment",),
    "tensorflow's colours": ("views.color=tensorflow",),
    "extra broader": ("views.extra=broader",),
    "pair of noise and color": ("views=pair", "views.first=noise", "views.second=color"),
    "pair of rotate and sobel": ("views=pair", "views.first=rotate", "views.second=sobel"),
    "pair of blur alone": ("views=pair", "views.first=blur", "views.second=blur"),
}
NETWORKS = {
    "nonlinear head": ("head=nonlinear", "head.dim=24"),
    "linear head": ("head=linear",),
    "no head": ("head=none",),
    "bottlenecks": ("encoder=resnet50", "objective=none"),
    "twice the width": ("encoder.width=2",),
    "channels first": ("compute.channels_last=false",),
    "bfloat16": ("precision=bfloat16",),
}
OPTIMIZERS = {
    "adamw": ("optimizer=adamw",),
    "lars": ("optimizer=lars",),
    "sgd": ("optimizer=sgd",),
    "micro-batches": (PARTS,),
    "micro-batches of lars in bfloat16": (PARTS, "optimizer=lars", "precision=bfloat16"),
    "micro-batches of pairs": (PARTS, "views=pair", "views.first=noise", "views.second=color"),
    "warm-up": ("optimizer.warmup_epochs=1",),
}
OBJECTIVES = {
    "supervised": ("objective=supervised",),
    "supervised in micro-batches": ("objective=supervised", PARTS),
    "supervised by crops": ("objective=supervised", "views=crop"),
    "own pieces": (
        *(f"views.policy={__name__}:own_policy", f"loss.name={__name__}:own_loss"),
        *(f"head.kind={__name__}:own_head", f"evaluation.protocol={__name__}:own_protocol"),
    ),
    "random": ("objective=none",),
    "random z": ("objective=none", "evaluation.features=z"),
}
PROTOCOLS = {
    "linear": ("evaluation=linear",),
    "linear on z": ("evaluation=linear", "evaluation.features=z"),
    "linear after supervised": ("evaluation=linear", "objective=supervised"),
    "knn": (),
    "linear_sgd": ("evaluation=linear_sgd", "evaluation.epochs=2"),
    "few_labels": ("evaluation=few_labels", "evaluation.labels=0.5", "evaluation.epochs=2"),
    "finetune": (
        *("evaluation=finetune", "evaluation.steps=3", "evaluation.lr_count=2"),
        *("evaluation.decay_count=1",),
    ),
    "mean per class": ("evaluation=linear", "data.metric=mean_per_class"),
    **{
        f"probe of {name}": ("evaluation=probe", f"evaluation.probe={name}")
        for name in ("color", "rotation", "noise", "sobel")
    },
}
CASES = {
    **{f"loss: {name}": keys for name, keys in LOSSES.items()},
    **{f"views: {name}": keys for name, keys in POLICIES.items()},
    **{f"network: {name}": keys for name, keys in NETWORKS.items()},
    **{f"optimizer: {name}": keys for name, keys in OPTIMIZERS.items()},
    **{f"objective: {name}": keys for name, keys in OBJECTIVES.items()},
    **{f"protocol: {name}": keys for name, keys in PROTOCOLS.items()},
}


def own_policy(magnitudes: Magnitudes) -> Policy:
    return Policy(first=[magnitudes.crop(), Invert()], second=[magnitudes.crop()])


@dataclass(frozen=True)
class Invert(Operation):
    """A user's own operation."""

    def draw(self, n: int, height: int, width: int, generator: torch.Generator) -> Params:
        return {"share": torch.rand(n, generator=generator)}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        share = per_image(params["share"], images)
        return share * images + (1 - share) * (1 - images)


def own_loss(spec: Loss, ranks: Ranks) -> Callable[[Tensor], ContrastiveLoss]:
    def loss(z: Tensor) -> ContrastiveLoss:
        first, second = F.normalize(z).chunk(2)
        similarities = first @ second.T / spec.temperature
        own = torch.arange(len(first), device=z.device)
        hits = similarities.argmax(1) == own
        value = F.cross_entropy(similarities, own)
        return ContrastiveLoss(value, hits.float().mean(), value.detach())

    return loss


def own_head(in_dim: int, dim: int) -> nn.Module:
    return nn.Sequential(nn.Linear(in_dim, dim), nn.Tanh())


def own_protocol(subject: Subject, frozen: Frozen) -> Result:
    features = frozen.train.features.to(subject.device)
    means = torch.stack(
        [features[frozen.train.labels == k].mean(0) for k in range(subject.classes)]
    )
    scores = -torch.cdist(frozen.test.features, means.cpu())
    return Result(*classified(scores, frozen.test.labels, subject.metric))


JobIn = Callable[..., worker.Job]


@pytest.fixture(scope="module")
def job_in(
    make_experiment: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory
) -> JobIn:
    """`job_in(store, "cpu", "loss=nt_logistic", ...)`: a small run on that device."""
    cache = str(tmp_path_factory.mktemp("cache"))

    def build(store: Path, device: str, *keys: str) -> worker.Job:
        plan = make_plan([make_experiment(*COMMON, *keys)], Store(store), None, cache)
        (planned,) = plan.runs
        return worker.Job.of(plan, planned, cache, 1, device=device, keeps_log=False)

    return build


@pytest.fixture(autouse=True)
def _device() -> Iterator[None]:
    """A device without float64, as Apple's and some of Intel's are. How the process computes is restored."""
    threads = torch.get_num_threads()
    with sim.without_float64():
        yield
    torch.set_num_threads(threads)
    set_arithmetic()


def carry_out(job: worker.Job) -> Run:
    ending = worker.carry_out_job(job, StopSignal())
    assert ending == worker.Ending(worker.Status.COMPLETE)
    return only_run(Path(job.store))


def assert_equal(one: Any, other: Any, where: str) -> None:
    """Of containers of tensors and numbers."""
    if isinstance(one, Tensor):
        assert one.device.type == other.device.type == "cpu", where
        assert one.dtype == other.dtype, where
        if IS_EXACT or not one.is_floating_point():
            assert torch.equal(one, other), where
        else:  # AdamW makes a step of the learning rate's size of whatever gradient there is
            torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2, msg=where)
    elif isinstance(one, Mapping):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_equal(left, right, f"{where}[{place}]")
    else:
        assert one == other, where


def assert_same(one: Run, other: Run) -> None:
    """The same weights, histories, metrics and results on single images."""
    weights = [torch.load(run.encoder_path, weights_only=True) for run in (one, other)]
    for saved in weights:
        saved.get("pretraining", {}).pop("seconds", None)
    assert_equal(*weights, "encoder.pt")
    assert one.history_path.exists() == other.history_path.exists()
    if one.history_path.exists():
        histories = [np.loadtxt(r.history_path, delimiter=",", skiprows=1) for r in (one, other)]
        np.testing.assert_allclose(*histories, rtol=0 if IS_EXACT else 0.05)
    assert one.evaluations().keys() == other.evaluations().keys()
    for key, found in one.evaluations().items():
        theirs = other.evaluations()[key]["metrics"]
        if not IS_EXACT:  # two of the 20 test images may tie, and any strength of l2
            assert found["metrics"].keys() == theirs.keys()
            assert abs(next(iter(found["metrics"].values())) - next(iter(theirs.values()))) <= 10
            continue
        assert found["metrics"] == theirs, key
        examples = [run.evaluating(key).examples() for run in (one, other)]
        assert all(each is not None for each in examples)
        ours, theirs = examples
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_device_comes_to_what_the_cpu_does(job_in: JobIn, tmp_path: Path, name: str) -> None:
    """Without any operation that CUDA has no deterministic implementation of."""
    on_cpu = carry_out(job_in(tmp_path / "cpu", "cpu", *CASES[name]))
    keys = (*CASES[name], "compute.deterministic=true")
    on_device = carry_out(job_in(tmp_path / "device", SIM, *keys))
    assert torch.are_deterministic_algorithms_enabled()
    assert_same(on_device, on_cpu)


@pytest.fixture(scope="module")
def folder_of_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of files, as data=imagenet has them."""
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3)):
        for label in range(4):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                noise = draw.integers(50 * label, 255, (24, 30, 3), dtype=np.uint8)
                Image.fromarray(noise).save(folder / f"{number}.png")
    return root


@pytest.mark.parametrize("views", [(), ("views=pair", "views.first=noise", "views.second=color")])
def test_streamed_images(
    job_in: JobIn, folder_of_images: Path, tmp_path: Path, views: tuple[str, ...]
) -> None:
    streamed = ("data=imagenet", f"data.root={folder_of_images}", "compute.workers=0", *views)
    keys = (*streamed, "data.size=16", "data.validation=16", "optimizer.batch_size=16")
    assert_same(*(carry_out(job_in(tmp_path / d[:3], d, *keys)) for d in ("cpu", SIM)))


def test_imported_weights(job_in: JobIn, tmp_path: Path) -> None:
    encoder = carry_out(job_in(tmp_path / "random", "cpu", "encoder=resnet18", "objective=none"))
    weights = torch.load(encoder.encoder_path, weights_only=True)["encoder"]
    torch.save(weights, tmp_path / "weights.pt")
    keys = ("encoder=resnet18", "objective=imported", f"encoder.weights={tmp_path}/weights.pt")
    assert_same(*(carry_out(job_in(tmp_path / d[:3], d, *keys)) for d in ("cpu", SIM)))


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
@pytest.mark.parametrize("devices", [("cpu", SIM, "cpu"), (SIM, "cpu", SIM)])
def test_a_run_goes_on_on_another_device(
    job_in: JobIn, tmp_path: Path, optimizer: str, devices: tuple[str, ...]
) -> None:
    """It is stopped after its first step, then after its third."""
    keys = (f"optimizer={optimizer}", "optimizer.epochs=3")
    for device, step in zip(devices, (1, 2, None), strict=True):
        job = job_in(tmp_path / "changing", device, *keys)
        with SignalledAfter(step) as stop:
            status = worker.carry_out_job(job, stop).status
        assert status == (worker.Status.COMPLETE if step is None else worker.Status.INTERRUPTED)
    assert_same(
        only_run(tmp_path / "changing"), carry_out(job_in(tmp_path / "whole", "cpu", *keys))
    )


def test_an_encoder_of_a_device_is_evaluated_on_the_cpu(job_in: JobIn, tmp_path: Path) -> None:
    protocols = ("evaluation=knn", "evaluation=linear")
    for store, devices in (("there", (SIM, "cpu")), ("back", ("cpu", SIM)), ("cpu", ("cpu",) * 2)):
        for protocol, device in zip(protocols, devices, strict=True):
            carry_out(job_in(tmp_path / store, device, protocol))
    one, other, plain = (only_run(tmp_path / store) for store in ("there", "back", "cpu"))
    assert_same(one, plain)
    assert_same(other, plain)
