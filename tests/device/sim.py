"""A simulated accelerator: the device `sim:0` has CUDA's rules about devices and computes on the CPU.

    from tests.device import sim
    sim.install()
    x = torch.randn(3).to("sim")          # refuses what CUDA refuses, and has autograd, autocast and fused optimisers
    with sim.count("/path/to/project") as counted:
        train_step()
    print(counted.table())

A sim tensor holds a CPU tensor, and every operation on it is the CPU's, so that results can be compared with those of
the CPU bit by bit. What is counted, by the line of the project that asked for it:

    launch  an operation that computes: one kernel of a GPU, or a few
    alloc   memory that is asked for without a kernel
    h2d     a copy to the device that waits for all kernels before it, as CUDA's do from memory that is not pinned
    h2d~    a copy to the device with non_blocking=True, which waits for none
    sync    the CPU waits for a result: item, cpu, nonzero, masks as indices
    view    costs nothing

Of the backward pass, which runs in a thread of its own, only lines within autograd functions of the project are known.
"""

import functools
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, SupportsIndex

import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

aten = torch.ops.aten
DEVICE = torch.device("cpu")  # until `install`

_INDEXING = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index)
# Where CUDA takes a CPU tensor without dimensions. Elementwise operations do as well.
_SCALARS_ALLOWED = (aten.fill_, aten.masked_fill, aten.masked_fill_, aten.full_like, aten.clamp)
_COPIES_SCALARS = (aten.where,)  # to the device first
_WAITS = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.bincount, aten.equal)
_WAITS += (aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.repeat_interleave)
_ALLOCATES = (
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten.new_empty,
    aten.new_empty_strided,
)
# What CUDA's autocast casts to half precision, of what networks of convolutions and dense layers need.
_HALF = ("conv1d", "conv2d", "conv3d", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm")
# What torch makes by resizing an empty tensor, which a wrapper cannot follow.
_MADE = (
    "arange",
    "arange.start",
    "arange.start_step",
    "randperm",
    "randperm.generator",
    "linspace",
    "logspace",
    "eye",
)

# Which have no deterministic implementation on CUDA: these, and the gradients of those.
_NONDETERMINISTIC = (aten.histc, aten.max_unpool2d, aten.median, aten.nll_loss2d_forward)
_NONDETERMINISTIC_GRADIENTS = (
    aten._adaptive_avg_pool2d,
    aten.adaptive_max_pool2d,
    aten.grid_sampler_2d,
    aten.reflection_pad2d,
    aten.upsample_bicubic2d,
    aten.upsample_bilinear2d,
)

_counted: "list[Counts]" = []
_libraries: list[torch.library.Library] = []  # they end with the last reference


class Counts(Counter[tuple[str, str]]):
    """How often each kind of event came from each place: (kind, "file:line function")."""

    def __init__(self, folder: str, depth: int) -> None:
        super().__init__()
        self.folder, self.depth = folder, depth
        self.bytes = 0
        """Copied to the device."""

    def note(self, kind: str) -> None:
        self[kind, self._place()] += 1

    def kind(self, *kinds: str) -> int:
        """Events of these kinds."""
        return sum(n for (kind, _), n in self.items() if kind in kinds)

    def table(self, steps: int = 1, most: int = 25, kinds: tuple[str, ...] = ()) -> str:
        """The most frequent places, per step."""
        chosen = [(n, *place) for place, n in self.items() if not kinds or place[0] in kinds]
        rows = sorted(chosen, reverse=True)[:most]
        return "\n".join(f"{n / steps:9.1f}  {kind:7}{place}" for n, kind, place in rows)

    def _place(self) -> str:
        frame, found = sys._getframe(2), []
        while frame is not None and len(found) < self.depth:
            code = frame.f_code
            if code.co_filename.startswith(self.folder) and code.co_filename != __file__:
                name = code.co_filename.removeprefix(self.folder).lstrip("/")
                found.append(f"{name}:{frame.f_lineno} {code.co_name}")
            frame = frame.f_back
        return " < ".join(found) or "(backward)"


@contextmanager
def count(folder: str, depth: int = 1) -> Iterator[Counts]:
    """Counts what happens in the block. folder: of the project; depth: how many of its calls make a place."""
    counts = Counts(str(folder), depth)
    _counted.append(counts)
    try:
        yield counts
    finally:
        _counted.pop()


_refuses_float64 = False


@contextmanager
def without_float64() -> Iterator[None]:
    """Inside, the device has no float64, like MPS and some XPUs."""
    global _refuses_float64
    before, _refuses_float64 = _refuses_float64, True
    try:
        yield
    finally:
        _refuses_float64 = before


def _note(kind: str, size: int = 0) -> None:
    for counts in _counted:
        counts.note(kind)
        counts.bytes += size


class SimTensor(torch.Tensor):
    """A tensor on `sim:0`. `on_cpu` is where its numbers are."""

    on_cpu: torch.Tensor
    is_cuda = True  # for code that asks; its device is sim:0 nevertheless
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, on_cpu: torch.Tensor) -> "SimTensor":
        if _refuses_float64 and on_cpu.dtype == torch.float64:
            raise TypeError(f"{DEVICE} has no float64")
        # Views of other tensors are no inference tensors there either.
        with torch.inference_mode(on_cpu.is_inference()):
            size, strides, offset = on_cpu.size(), on_cpu.stride(), on_cpu.storage_offset()
            wrapper = torch.Tensor._make_wrapper_subclass(
                cls, size, strides, offset, dtype=on_cpu.dtype, device=DEVICE
            )
        wrapper.on_cpu = on_cpu
        return wrapper

    def __repr__(self, **_: Any) -> str:
        return f"{self.on_cpu!r} on {self.device}"

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    # Into files as a GPU's tensors go: `map_location` counts.
    def __reduce_ex__(self, proto: SupportsIndex) -> Any:
        arguments = (self.cpu().detach(), self.dtype, str(self.device), self.requires_grad)
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, arguments

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        return memo.setdefault(id(self), self.detach().clone().requires_grad_(self.requires_grad))

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})


def _run(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on the CPU, its results wrapped where CUDA has them on the device."""
    packet = op.overloadpacket
    if packet is aten.copy_:
        return _copy_(*args, **kwargs)
    if packet is aten._to_copy:
        return _to_copy(*args, **kwargs)
    given, form = tree_flatten((args, kwargs))
    if torch.are_deterministic_algorithms_enabled():
        _meet_determinism(op, packet, given)
    if packet in _INDEXING:
        _meet_indices(*args)
    else:
        _meet(op, packet, given)
    _note(_kind_of(op, packet, args, kwargs))
    plain = [x.on_cpu if isinstance(x, SimTensor) else _to_cpu(x) for x in given]
    args, kwargs = tree_unflatten(plain, form)
    if any(argument.name == "generator" for argument in op._schema.arguments):
        kwargs = {**kwargs, "generator": _generator(kwargs.get("generator"))}
    result = op(*args, **kwargs)
    # What works in place, or writes into `out`, returns what it was given.
    known = {id(x.on_cpu): x for x in given if isinstance(x, SimTensor)}
    if any((x.on_cpu.shape, x.on_cpu.stride()) != (x.shape, x.stride()) for x in known.values()):
        raise NotImplementedError(f"{op} changes the form of a tensor, which sim does not follow")
    return tree_map(lambda x: known[id(x)] if id(x) in known else _wrap(x), result)


def _wrap(x: Any) -> Any:
    return SimTensor(x) if isinstance(x, torch.Tensor) else x


def _to_cpu(x: Any) -> Any:
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == DEVICE.type else x


def _make(op: Any, *args: Any, **kwargs: Any) -> Any:
    """What makes tensors on the device from none."""
    if not any(isinstance(x, torch.device) for x in tree_flatten((args, kwargs))[0]):
        raise NotImplementedError(f"{op} on sim")
    return _run(op, args, kwargs)


def _copy_(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    ours, theirs = isinstance(target, SimTensor), isinstance(source, SimTensor)
    if ours and not theirs:
        _note("h2d~" if non_blocking else "h2d", source.nbytes)
    else:
        _note("launch" if ours else "sync")
    (target.on_cpu if ours else target).copy_(source.on_cpu if theirs else source)
    return target


def _to_copy(
    source: SimTensor, *, device: Any = None, pin_memory: Any = None, **kwargs: Any
) -> torch.Tensor:
    device = DEVICE if device is None else torch.device(device)
    copied = aten._to_copy(source.on_cpu, device=_to_cpu(device), **kwargs)
    if device.type == "cpu":
        _note("sync")
        return copied
    _note("launch")
    return SimTensor(copied) if device.type == DEVICE.type else copied


def _meet(op: Any, packet: Any, given: list[Any]) -> None:
    """Raises RuntimeError where tensors of the CPU and of the device meet, and CUDA would not have it."""
    scalars = torch.Tag.pointwise in op.tags or packet in (*_SCALARS_ALLOWED, *_COPIES_SCALARS)
    scalars = scalars or packet.__name__.startswith(("_foreach_", "_fused_"))
    for x in given:
        if not isinstance(x, torch.Tensor) or isinstance(x, SimTensor):
            continue
        if x.dim() or not scalars:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {DEVICE} and "
                f"{x.device}! ({op}: {x.dtype} {tuple(x.shape)} on the CPU)"
            )
        if packet in _COPIES_SCALARS:
            _note("h2d", x.nbytes)


def _meet_determinism(op: Any, packet: Any, given: list[Any]) -> None:
    """Raises RuntimeError where CUDA does; of gradients it does so later."""
    trained = torch.is_grad_enabled() and any(
        isinstance(x, torch.Tensor) and x.requires_grad for x in given
    )
    if packet in _NONDETERMINISTIC or (trained and packet in _NONDETERMINISTIC_GRADIENTS):
        raise RuntimeError(f"{op} does not have a deterministic implementation")


def _meet_indices(indexed: torch.Tensor, indices: list[Any], values: Any = None, *_: Any) -> None:
    """CUDA takes indices of the CPU, which it copies, and values without dimensions. Raises RuntimeError for others."""
    ours = isinstance(indexed, SimTensor)
    for index in indices:
        if index is None or isinstance(index, SimTensor) == ours:
            continue
        if not ours:
            raise RuntimeError(
                "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
            )
        _note("h2d", index.nbytes)
    if (
        isinstance(values, torch.Tensor)
        and isinstance(values, SimTensor) != ours
        and (values.dim() or not ours)
    ):
        raise RuntimeError("Expected all tensors to be on the same device: values of index_put")


def _kind_of(op: Any, packet: Any, args: Any, kwargs: Any) -> str:
    """launch, alloc, sync, or view, which costs a GPU nothing."""
    if packet in _ALLOCATES:
        return "alloc"
    returned = [result.alias_info for result in op._schema.returns]
    if returned and all(alias is not None and not alias.is_write for alias in returned):
        return "view"
    if packet in _INDEXING:
        masks = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        fills = (
            len(args) > 2 and args[2].numel() == 1 and len(args[1]) == 1
        )  # then it is masked_fill
        return "sync" if masks and not fills else "launch"
    return "sync" if packet in _WAITS else "launch"


_device_generator = torch.Generator()


def _generator(given: torch.Generator | None) -> torch.Generator:
    if given is not None:
        raise RuntimeError(
            f"Expected a '{DEVICE.type}' device type for generator but found '{given.device.type}'"
        )
    return _device_generator


class _Module(backend_registration._DummyBackendModule):
    """`torch.sim`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def _register_half(name: str) -> None:
    """Under autocast, arguments of the operation are cast."""
    below = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
    op = getattr(aten, name).default

    def cast(x: Any) -> Any:
        castable = isinstance(x, SimTensor) and x.dtype in (
            torch.float32,
            torch.float16,
            torch.bfloat16,
        )
        return x.to(torch.get_autocast_dtype(DEVICE.type)) if castable else x

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(below):
            return op(*tree_map(cast, args), **tree_map(cast, kwargs))

    _libraries[-1].impl(name, kernel, "AutocastPrivateUse1")


def install(name: str = "sim") -> torch.device:
    """Registers the device, if it is not yet. Modules then get new parameters when they move."""
    global DEVICE
    # Torch's other way, `parameter.data = tensor`, would leave the wrapper's numbers behind.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    if _libraries:
        return DEVICE
    backend_registration._setup_privateuseone_for_python_backend(
        rename=name, backend_module=_Module()
    )
    DEVICE = torch.device(name, 0)
    every = torch.library.Library("_", "IMPL")
    every.fallback(_make, "PrivateUse1")
    every.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    _libraries.extend([every, torch.library.Library("aten", "IMPL")])
    for operation in _HALF:
        _register_half(operation)
    # `torch.tensor` excludes `__torch_dispatch__`.
    _libraries[-1].impl("copy_", _copy_, "PrivateUse1")
    for operation in _MADE:
        packet, _, overload = operation.partition(".")
        op = getattr(getattr(aten, packet), overload or "default")
        _libraries[-1].impl(operation, functools.partial(_make, op), "PrivateUse1")
    return DEVICE
