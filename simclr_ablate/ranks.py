"""Several processes that share one run, one per GPU, and how they communicate.

Each rank has a share of every batch; all else is the same on every rank. `SOLO` stands for a process that is alone: its
collectives return what they get, so no caller needs to ask how many ranks there are.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from simclr_ablate.device import backend_of, is_accelerator
from simclr_ablate.stopping import RankLostError

TIMEOUT = timedelta(minutes=10)
"""How long ranks wait for each other within a step. A dead rank is noticed at once, by its closed connections; this is
for one that hangs."""
PATIENCE = timedelta(days=2)
"""How long ranks wait for what may take long, such as the first rank's reading of the data."""
_BUCKET_BYTES = 2**26

T = TypeVar("T")


class Ranks:
    """The processes that share a run, as seen by number `index` of `count`.

    All ranks must call every collective, in the same order. Each collective raises RankLostError if another rank is
    gone. Tensors may be on any device that the ranks were joined for.
    """

    def __init__(self, index: int = 0, count: int = 1) -> None:
        self.index, self.count = index, count
        # Apart from the default group, so that a word between CPUs never waits for a GPU.
        self._control = _attempt(_control_group) if count > 1 else None
        self._joined = count > 1

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.index == 0

    def share(self, whole: slice) -> slice:
        """This rank's part of `whole`."""
        return self.shares(whole)[self.index]

    def shares(self, whole: slice) -> list[slice]:
        """Every rank's part of `whole`, in the order of ranks: as even as they can be."""
        length = whole.stop - whole.start
        edges = [whole.start + length * k // self.count for k in range(self.count + 1)]
        return [slice(edges[k], edges[k + 1]) for k in range(self.count)]

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's `tensor`, all of one shape, in the order of ranks."""
        if self.count == 1:
            return [tensor]
        # As bytes: gloo knows few types of numbers.
        sent = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        received = [torch.empty_like(sent) for _ in range(self.count)]
        _attempt(dist.all_gather, received, sent)
        return [part.view(tensor.dtype).view(tensor.shape) for part in received]

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrites each of `tensors`, all of one type, with its sum over ranks: the same bits on every rank."""
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            if len(bucket) == 1 and bucket[0].is_contiguous():
                _attempt(dist.all_reduce, bucket[0])
                continue
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            _attempt(dist.all_reduce, flat)
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true on any rank. It neither waits for a GPU nor makes one wait."""
        if self.count == 1:
            return flag
        word = torch.tensor([flag], dtype=torch.int32)
        maximum, group = dist.ReduceOp.MAX, self._control
        work = _attempt(dist.all_reduce, word, maximum, group=group, async_op=True)
        _attempt(work.wait, TIMEOUT)
        return bool(word)

    def from_first(self, value: T) -> T:
        """The first rank's `value`, a plain Python object, on all ranks. It waits for as long as PATIENCE."""
        if self.count == 1:
            return value
        box = [value]
        _attempt(dist.broadcast_object_list, box, src=0, group=self._control)
        return box[0]

    def wait(self) -> None:
        """Returns once all ranks have called it. It waits for as long as PATIENCE."""
        if self.count > 1:
            _attempt(dist.barrier, group=self._control)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first rank goes through the block before all others do."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def collect(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        """Every rank's tensors on the first rank, and none on the others. They may differ in number and shape.

        The tensors are on the CPU.
        """
        if self.count == 1:
            return [list(tensors)]
        forms = [(tuple(tensor.shape), tensor.dtype) for tensor in tensors]
        everyones: list = [None] * self.count
        target = everyones if self.is_first else None
        _attempt(dist.gather_object, forms, target, dst=0, group=self._control)
        if not self.is_first:
            for tensor in tensors:
                _attempt(dist.send, tensor.contiguous(), dst=0, group=self._control)
            return []
        collected = [list(tensors)]
        for rank in range(1, self.count):
            received = [torch.empty(shape, dtype=dtype) for shape, dtype in everyones[rank]]
            for tensor in received:
                _attempt(dist.recv, tensor, src=rank, group=self._control)
            collected.append(received)
        return collected

    def leave(self) -> None:
        """Ends communication; each rank continues alone. All ranks must call it."""
        if self._joined:
            self.wait()  # a connection that closes early would look like a death
            self._joined = False
            dist.destroy_process_group()

    def abandon(self) -> None:
        """Skips `leave` after a failure, or after a stop of this process alone, since it might wait in vain."""
        self._joined = False


SOLO = Ranks()
"""A process that shares its run with no other."""


@contextmanager
def join(index: int, count: int, init_method: str, device: torch.device) -> Iterator[Ranks]:
    """Makes this process rank `index` of `count` until the block ends. All ranks use the same `init_method`.

    init_method: where the ranks meet: `file:///shared/new/file`, `tcp://host:port`, or `env://` under torchrun.
    device: where this rank computes: an accelerator of its own, such as `cuda:N`, or `cpu` for all ranks.

    Raises RankLostError if not all ranks join within TIMEOUT.
    """
    if count == 1:
        yield SOLO
        return
    accelerated = is_accelerator(device)
    if accelerated:
        torch.accelerator.set_device_index(device)
    _attempt(
        dist.init_process_group,
        backend_of(device),
        init_method=init_method,
        rank=index,
        world_size=count,
        timeout=TIMEOUT,
        device_id=device if accelerated else None,
    )
    ranks = Ranks(index, count)
    yield ranks
    # Not after an error: the process is about to end, see `abandon`.
    ranks.leave()


def _control_group() -> dist.ProcessGroup:
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(group, dist.ProcessGroup)  # every rank is a member
    return group


def _attempt(collective: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """Calls `collective`, and raises RankLostError for the backends' only kind of error between processes."""
    try:
        return collective(*arguments, **more)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise RankLostError(f"another rank of this run is gone: {reason}") from error


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Groups neighbours up to _BUCKET_BYTES, for few messages and little memory for the copies."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.nbytes > _BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket
