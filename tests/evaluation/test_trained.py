"""Protocols that train: what they come to is what plain PyTorch comes to, with their recipes written out by hand."""

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simclr_ablate.augment.policies import crop_policy
from simclr_ablate.config import ConfigError
from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.splits import Splits
from simclr_ablate.evaluation.few_labels import labelled_part
from simclr_ablate.evaluation.finetune import set_batchnorm_momentum
from simclr_ablate.evaluation.protocol import Result, Subject, find_protocol
from simclr_ablate.models.classifier import build_classifier
from simclr_ablate.randomness import derive_seed, generator, seeded_init
from simclr_ablate.ranks import Ranks
from simclr_ablate.schema import Experiment
from simclr_ablate.stopping import StopSignal
from simclr_ablate.store import Store
from simclr_ablate.tasks.networks import build_models
from simclr_ablate.training.loop import NonFiniteLossError
from simclr_ablate.training.trainer import Trainer

CLASSES, BATCH, SIDE, CROP = 4, 16, 32, 0.3
CPU = torch.device("cpu")
TINY = ("encoder.stem=strided", f"evaluation.crop_area={CROP}", f"evaluation.batch_size={BATCH}")


@pytest.fixture(scope="module")
def splits() -> Splits:
    """Noise in as many shades as there are classes, unequal in number, in no order."""
    draw = torch.Generator().manual_seed(3)
    labels = (torch.rand(150, generator=draw) ** 1.5 * CLASSES).long()
    noise = torch.randint(150, (150, 3, SIDE, SIDE), generator=draw)
    images = (noise + 25 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    whole = ImageSet(images, labels, [f"class{k}" for k in range(CLASSES)])
    order = torch.randperm(150, generator=draw)
    return Splits(*(whole.subset(order[a:b]) for a, b in ((0, 90), (90, 120), (120, 150))))


@pytest.fixture
def subject_of(splits: Splits, tmp_path: Path) -> Callable[[Experiment], Subject]:
    def build(experiment: Experiment) -> Subject:
        encoder, head = build_models(experiment, CPU, CLASSES)
        folder = Store(tmp_path).run("a-run").evaluating("h-1")
        trainer = Trainer(folder, None, StopSignal(), 60.0)
        return Subject(experiment, splits, encoder, head, CPU, trainer.train)

    return build


def evaluated(subject: Subject) -> Result:
    evaluate = find_protocol(subject.experiment.evaluation.protocol).on_network
    assert evaluate is not None
    return evaluate(subject)


def by_hand(
    subject: Subject,
    encoder: nn.Module,
    width: int,
    images: ImageSet,
    lr: float,
    decay: float,
    total: int,
    frozen: bool = False,
) -> nn.Module:
    """The encoder and its classifier, trained for `total` steps, in eval mode. Each step is written out."""
    protocol, seed = subject.experiment.evaluation.protocol, subject.experiment.seed
    with seeded_init(seed, f"{protocol} classifier"):
        classifier = build_classifier(width, CLASSES)
    trained = nn.Sequential(encoder, classifier)
    parameters = [*classifier.parameters(), *([] if frozen else encoder.parameters())]
    momenta = [torch.zeros_like(p) for p in parameters]
    encoder.train(not frozen)
    size = min(BATCH, len(images))
    per_epoch, seed = len(images) // size, derive_seed(seed, protocol)
    views = crop_policy(SIDE, crop_area=CROP)
    for step in range(total):
        epoch, place = divmod(step, per_epoch)
        order = torch.randperm(len(images), generator=generator(seed, "order", epoch))
        chosen = order[place * size : (place + 1) * size]
        made = views.draw_one(images.images[chosen], generator(seed, "views", epoch, place)).make()
        with torch.set_grad_enabled(not frozen):
            h = encoder(made.images)
        loss = nn.functional.cross_entropy(classifier(h)[made.positions], images.labels[chosen])
        gradients = torch.autograd.grad(loss, parameters)
        rate = lr * (1 + math.cos(math.pi * step / total)) / 2
        with torch.no_grad():
            for p, gradient, momentum in zip(parameters, gradients, momenta, strict=True):
                with_decay = gradient + (decay * p if p.ndim > 1 else 0)
                momentum.mul_(0.9).add_(with_decay)
                p -= rate * (with_decay + 0.9 * momentum)  # Nesterov's
    return trained.eval()


@torch.no_grad()
def probabilities(network: nn.Module, images: ImageSet) -> Tensor:
    """(N, classes)."""
    return network(images.images.float() / 255).softmax(1)


def assert_is(result: Result, network: nn.Module, test: ImageSet) -> None:
    """The result is what the network says of the test images."""
    expected = probabilities(network, test)
    own = expected.gather(1, test.labels[:, None])[:, 0]
    torch.testing.assert_close(result.examples["score"], own, rtol=2e-3, atol=1e-4)
    assert torch.equal(result.examples["label"], test.labels)
    assert (result.examples["prediction"] == expected.argmax(1)).float().mean() > 0.95
    right = (result.examples["prediction"] == test.labels).double().mean().item()
    assert result.metrics["top1"] == pytest.approx(100 * right)


@pytest.mark.parametrize("features", ["h", "z"])
def test_linear_evaluation_by_sgd(
    make_experiment: Any, subject_of: Any, splits: Splits, features: str
) -> None:
    more = (f"evaluation.features={features}", "evaluation.epochs=3", "evaluation.lr=2")
    subject = subject_of(make_experiment("evaluation=linear_sgd", *TINY, *more))
    before = copy.deepcopy(subject.encoder.state_dict())
    head = subject.head.eval() if features == "z" else nn.Identity()
    frozen = copy.deepcopy(nn.Sequential(subject.encoder, head))
    subject.encoder.train()
    result = evaluated(subject)
    for name, tensor in subject.encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} of a frozen encoder has changed"
    width = subject.head.dim if features == "z" else subject.encoder.dim
    steps = 3 * (len(splits.train) // BATCH)
    trained = by_hand(subject, frozen, width, splits.train, 2 * BATCH / 256, 0.0, steps, True)
    assert_is(result, trained, splits.test)
    guessed = probabilities(trained, splits.validation).argmax(1)
    right = (guessed == splits.validation.labels).double().mean().item()
    assert result.metrics["validation_top1"] == pytest.approx(100 * right, abs=4)


@pytest.mark.parametrize(("labels", "each"), [(0.25, None), (3, 3), (0.1, None)])
def test_few_labels(
    make_experiment: Any, subject_of: Any, splits: Splits, labels: float, each: int | None
) -> None:
    more = (f"evaluation.labels={labels}", "evaluation.epochs=4", "evaluation.lr=0.5")
    subject = subject_of(make_experiment("evaluation=few_labels", *TINY, *more))
    few = labelled_part(subject)
    counts = few.labels.bincount(minlength=CLASSES)
    if each is None:
        assert len(few) == round(labels * len(splits.train))
        most = splits.train.labels.bincount(minlength=CLASSES)
        short = counts < counts.max() - 1
        assert torch.equal(counts[short], most[short]), "classes are as even as they can be"
    else:
        assert counts.tolist() == [each] * CLASSES
    assert set(few.rows.tolist()) <= set(splits.train.rows.tolist())
    encoder = copy.deepcopy(subject.encoder)
    result = evaluated(subject)
    size = min(BATCH, len(few))
    steps = 4 * (len(few) // size)
    trained = by_hand(subject, encoder, subject.encoder.dim, few, 0.5 * size / 256, 0.0, steps)
    assert_is(result, trained, splits.test)
    assert result.metrics["train_images"] == len(few)


def test_few_labels_are_the_same_for_all_encoders(make_experiment: Any, subject_of: Any) -> None:
    """So that the baseline has those of what it is compared with; other labels are another data seed."""
    common = ("evaluation=few_labels", "evaluation.labels=0.2", *TINY)
    parts = [
        labelled_part(subject_of(make_experiment(*common, *more))).rows.tolist()
        for more in ((), ("objective=none",), ("seed=5", "head=linear"), ("data.seed=1",))
    ]
    assert parts[0] == parts[1] == parts[2]
    assert parts[0] != parts[3]


GRID = (
    "evaluation=finetune",
    "evaluation.steps=7",
    "evaluation.lr_count=2",
    "evaluation.lr_min=0.001",
    "evaluation.lr_max=0.1",
    "evaluation.decay_count=1",
    "evaluation.decay_min=0.01",
    "evaluation.decay_max=0.01",
)


def test_fine_tuning(make_experiment: Any, subject_of: Any, splits: Splits) -> None:
    """Every learning rate with every decay, by hand, and what is best on validation again on both splits."""
    subject = subject_of(make_experiment(*GRID, *TINY))
    start, before = copy.deepcopy(subject.encoder), copy.deepcopy(subject.encoder.state_dict())
    result = evaluated(subject)
    for name, tensor in subject.encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), "each setting begins with pretraining's weights"

    def tune(images: ImageSet, lr: float, decay: float) -> nn.Module:
        encoder = copy.deepcopy(start)
        for module in encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1 - max(1 - 10 / (len(images) // BATCH), 0.9)
        return by_hand(subject, encoder, encoder.dim, images, lr, decay / lr, 7)

    tried = {}
    for setting in ((0.001, 0.0), (0.001, 0.01), (0.1, 0.0), (0.1, 0.01)):
        guessed = probabilities(tune(splits.train, *setting), splits.validation).argmax(1)
        tried[setting] = 100 * (guessed == splits.validation.labels).double().mean().item()
    chosen = (pytest.approx(result.metrics["lr"]), pytest.approx(result.metrics["decay"]))
    setting = next(each for each in tried if each == chosen)
    # One image at the border of two classes may fall to either side.
    assert result.metrics["validation_top1"] == pytest.approx(tried[setting], abs=3.5)
    assert tried[setting] >= max(tried.values()) - 3.5
    both = splits.train.joined(splits.validation)
    assert sorted(both.rows.tolist()) == sorted(
        [*splits.train.rows.tolist(), *splits.validation.rows.tolist()]
    )
    assert_is(result, tune(both, *setting), splits.test)


def test_the_momentum_of_batch_norm() -> None:
    """max(1 - 10 / s, .9) of the old statistics stay."""
    network = nn.Sequential(nn.BatchNorm2d(3))
    for steps, kept in ((5, 0.9), (100, 0.9), (400, 0.975)):
        set_batchnorm_momentum(network, steps)
        assert 1 - network[0].momentum == pytest.approx(kept)


@pytest.mark.parametrize("steps", [4, 7])
def test_a_setting_that_diverges_is_not_chosen(
    make_experiment: Any, subject_of: Any, steps: int
) -> None:
    """Within the first epoch, of five steps, or with one that has ended since."""
    rates = ("evaluation.lr_min=0.01", "evaluation.lr_max=1.0e30", f"evaluation.steps={steps}")
    result = evaluated(subject_of(make_experiment(*GRID, *TINY, *rates)))
    assert result.metrics["lr"] == pytest.approx(0.01)
    with pytest.raises(NonFiniteLossError, match="each of 4 learning rates and weight decays"):
        evaluated(subject_of(make_experiment(*GRID, *TINY, *rates[1:], "evaluation.lr_min=1.0e29")))


def test_fewer_images_than_ranks_are_refused(make_experiment: Any, subject_of: Any) -> None:
    ranks = Ranks.__new__(Ranks)
    ranks.index, ranks.count = 0, 9
    subject = subject_of(make_experiment("evaluation=few_labels", *TINY, "evaluation.labels=2"))
    message = "compute.ranks must be <= 8, the images in a batch of evaluation.protocol=few_labels"
    with pytest.raises(ConfigError, match=f"{message}, got 9"):
        evaluated(dataclasses.replace(subject, ranks=ranks))


@pytest.mark.parametrize("protocol", ["linear_sgd", "few_labels", "finetune"])
def test_images_without_labels_are_refused(
    make_experiment: Any, subject_of: Any, splits: Splits, protocol: str
) -> None:
    subject = subject_of(make_experiment(f"evaluation={protocol}", *TINY))
    train = splits.train
    unknown = ImageSet(train.stored, torch.full_like(train.labels, -1), train.classes, train.rows)
    with pytest.raises(ConfigError, match="needs a label for every"):
        evaluated(
            Subject(
                subject.experiment,
                splits._replace(train=unknown),
                subject.encoder,
                subject.head,
                CPU,
                subject.train,
            )
        )
