"""What training loops share: epochs of steps, their order, views and learning rate, resumable at any step.

A subclass only says what a step does with its batch: `contrastive.py`, `supervised.py`.
"""

import itertools
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from simclr_ablate.augment.policies import DrawnViews, Policy
from simclr_ablate.data.images import Images
from simclr_ablate.device import compiled
from simclr_ablate.randomness import generator
from simclr_ablate.ranks import SOLO, Ranks
from simclr_ablate.schema import Optimizer
from simclr_ablate.training.online import OnlineEvaluation
from simclr_ablate.training.optimizers import build_optimizer, set_learning_rate
from simclr_ablate.training.schedules import lr_at, peak_lr
from simclr_ablate.training.step_metrics import StepMetrics

LOOK_SECONDS = 1.0
"""How often losses are fetched from the device, to show them and to notice one that is not finite."""


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite: the message says where."""


class Training(NamedTuple):
    """What a loop works with."""

    images: Images
    policy: Policy
    encoder: nn.Module
    head: nn.Module
    """The network on top of h: the projection head g, or a classifier."""
    loss: Callable[..., Any]
    """A function of z; or of logits, labels and the size of their batch."""
    optimizer: Optimizer
    seed: int
    """Seeds the order of images, and their views."""
    precision: str
    """The precision of the networks' arithmetic: `float32` or `bfloat16`."""
    layout: torch.memory_format
    device: torch.device
    ranks: Ranks = SOLO
    steps: int | None = None
    """The number of steps; None: as many as fill the optimiser's epochs."""
    compile: str = "off"
    """How the networks are compiled: see `device.compiled`."""
    online: OnlineEvaluation | None = None
    """What measures the representation beside training, if anything does."""
    frozen: bool = False
    """Whether only the head is trained, and the encoder stays as it is, batch norm's statistics included."""

    @property
    def trained(self) -> list[nn.Module]:
        """The networks that training changes."""
        return [self.head] if self.frozen else [self.encoder, self.head]


class Batch(NamedTuple):
    """The images of one step."""

    views: DrawnViews
    """The views, drawn but not made yet; this rank can make those of its share."""
    labels: Tensor
    """(N,) int64; with several ranks, valid only for this rank's images."""


class Loop(ABC):
    """A loop and its state. `state_dict` after any step, loaded into a fresh one, continues bit for bit."""

    VIEWS: ClassVar[int]
    """Views of each image in a step: 1 or 2."""
    SEEN: ClassVar[str]
    """What a step counts: `pairs` or `images`."""
    METRICS: ClassVar[tuple[str, ...]]
    """The metrics of a step, the loss first; a row of the history holds their means over an epoch."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self._encode, self._project = (
            compiled(network, training.compile) for network in (training.encoder, training.head)
        )
        optimizer = training.optimizer
        self.optimizer = build_optimizer(
            training.trained,
            name=optimizer.name,
            weight_decay=optimizer.weight_decay,
            momentum=optimizer.momentum,
        )
        self.peak_lr = peak_lr(optimizer.lr, optimizer.lr_rule, optimizer.batch_size)
        self.steps_per_epoch = len(training.images) // optimizer.batch_size
        self.total_steps = training.steps or self.steps_per_epoch * optimizer.epochs
        self.step = 0
        self.seconds = 0.0
        """The seconds of training so far, all waiting for the device and for images included."""
        self._since: float | None = None
        self.history: list[dict[str, float]] = []
        self._sums = torch.zeros(len(self.METRICS), dtype=torch.float64)
        self._unseen: list[Tensor] = []
        self._last_finite = math.nan
        self.recorder: StepMetrics | None = None
        """What gets the metrics of each step, if they are kept."""

    def run(self, after_step: Callable[[Self], object]) -> None:
        """Trains to the end, calling `after_step` after each step. Raises NonFiniteLossError."""
        self.training.encoder.train(not self.training.frozen)
        self.training.head.train()
        self._since = time.perf_counter()
        while self.step < self.total_steps:
            epoch, first = divmod(self.step, self.steps_per_epoch)
            for batch in itertools.islice(
                self._batches(epoch, first), self.total_steps - self.step
            ):
                self._unseen.append(self._train_step(batch))
                self.step += 1
                if self.step % self.steps_per_epoch == 0:
                    self._end_epoch(epoch)
                after_step(self)
        self.look()  # the last steps may fill no epoch
        self._count_seconds()

    def look(self) -> None:
        """Brings the losses of the steps since the last look to the CPU. Raises NonFiniteLossError."""
        if not self._unseen:
            return
        metrics = torch.stack(self._unseen).cpu().double()
        first = self.step - len(metrics)
        self._unseen.clear()
        if self.recorder is not None:
            self.recorder.add(first, metrics.tolist())
        for offset, row in enumerate(metrics):
            loss = float(row[0])
            if not math.isfinite(loss):
                raise NonFiniteLossError(
                    f"the loss became {loss} at step {first + offset + 1} of {self.total_steps}; "
                    f"the last finite one was {self._last_finite:.6g}"
                )
            self._last_finite = loss
            # Row by row: a sum must not depend on when losses were fetched.
            self._sums += row[: len(self.METRICS)]

    @property
    def epochs(self) -> int:
        """The number of epochs; the last may be cut short."""
        return math.ceil(self.total_steps / self.steps_per_epoch)

    @property
    def lr(self) -> float:
        """The learning rate of the next step; after the last step, of that one."""
        return self.lr_of(min(self.step + 1, self.total_steps))

    def lr_of(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        warmup = round(self.training.optimizer.warmup_epochs * self.steps_per_epoch)
        return lr_at(step - 1, self.total_steps, warmup, self.peak_lr)

    @property
    def step_metrics(self) -> tuple[str, ...]:
        """The metrics of a step, by name: METRICS, then those that are measured beside training."""
        return (*self.METRICS, *(OnlineEvaluation.METRICS if self.training.online else ()))

    @property
    def last_loss(self) -> float | None:
        """The last loss that was fetched."""
        return self._last_finite if math.isfinite(self._last_finite) else None

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain containers."""
        self.look()
        self._count_seconds()
        online = self.training.online
        return {
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "sums": self._sums,
            "last_finite": self._last_finite,
            # A frozen encoder never changes.
            "encoder": None if self.training.frozen else self.training.encoder.state_dict(),
            "head": self.training.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "online": None if online is None else online.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.seconds = state["step"], state["seconds"]
        self.history, self._sums = state["history"], state["sums"]
        self._last_finite = state["last_finite"]
        if not self.training.frozen:
            self.training.encoder.load_state_dict(state["encoder"])
        self.training.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        # A run may have begun without it.
        if self.training.online is not None and state.get("online") is not None:
            self.training.online.load_state_dict(state["online"])

    def _count_seconds(self) -> None:
        if self._since is not None:
            now = time.perf_counter()
            self.seconds += now - self._since
            self._since = now

    def _order(self, epoch: int) -> Tensor:
        """The indices of each batch's images, (steps, N). Images that fill no batch are left out of this epoch."""
        draw = generator(self.training.seed, "order", epoch)
        order = torch.randperm(len(self.training.images), generator=draw)
        batch_size = self.training.optimizer.batch_size
        return order[: self.steps_per_epoch * batch_size].view(self.steps_per_epoch, batch_size)

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """The epoch's batches, starting with number `first`."""
        training = self.training
        batch = torch.arange(training.optimizer.batch_size)
        positions = torch.cat([batch[training.ranks.share(part)] for part in self._parts()])
        for views, labels in training.images.view_batches(
            training.policy,
            self._order(epoch),
            training.seed,
            epoch,
            first,
            training.device,
            positions,
            self.VIEWS,
        ):
            yield Batch(views, labels)

    def _train_step(self, batch: Batch) -> Tensor:
        """One step of the optimiser; returns METRICS, on the device."""
        set_learning_rate(self.optimizer, self.lr)
        self.optimizer.zero_grad(set_to_none=True)
        metrics = self._backward(batch)
        self.optimizer.step()
        return metrics

    @abstractmethod
    def _backward(self, batch: Batch) -> Tensor:
        """Computes the whole batch's gradients of all parameters; returns METRICS, on the device."""

    def _parts(self) -> list[slice]:
        """The micro-batches of a batch, each shared by all ranks, as batch norm is."""
        optimizer = self.training.optimizer
        size = optimizer.micro_batch or optimizer.batch_size
        return [slice(k, k + size) for k in range(0, optimizer.batch_size, size)]

    def _outputs(self, views: DrawnViews, labels: Tensor | None = None) -> Tensor:
        """The head's outputs for the views, (M, D), in the order of `Policy.two_views` or `one_view`.

        labels: the classes of the views' images, if what is measured beside training may see the views.
        """
        device, precision = self.training.device, self.training.precision
        made = views.make(self.training.layout)
        with torch.autocast(device.type, torch.bfloat16, precision == "bfloat16"):
            with torch.set_grad_enabled(not self.training.frozen):
                h = self._encode(made.images)
            outputs = self._project(h)
        # The network takes views in any order; the loss needs them in the order of their images.
        outputs = outputs.index_select(0, made.positions)
        if labels is not None and self.training.online is not None:
            h = h.detach().index_select(0, made.positions)
            self.training.online.take(h, outputs, labels.repeat(self.VIEWS))
        return outputs

    def _end_epoch(self, epoch: int) -> None:
        self.look()
        means = (self._sums / self.steps_per_epoch).tolist()
        self.history.append({"epoch": epoch + 1, **dict(zip(self.METRICS, means, strict=True))})
        self._sums = torch.zeros_like(self._sums)
