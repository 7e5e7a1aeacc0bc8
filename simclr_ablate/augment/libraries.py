"""Transforms of torchvision, kornia and lightly as operations and policies of ours.

These libraries draw from global generators while they work, torchvision once for a whole batch. So here a transform
works on one image at a time, on the CPU, and our generator seeds the global ones for each image. Then views depend
neither on how a batch is divided nor on the device. What kornia draws for a batch is used if every image has its row.
"""

import importlib
import inspect
import typing
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Generator, Tensor, nn

from simclr_ablate import own
from simclr_ablate.augment.operations import Operation, Params, Prepared, RandomApply
from simclr_ablate.calls import Call, parse, with_version
from simclr_ablate.config import ConfigError, nearest
from simclr_ablate.randomness import borrowed_generators

MODULES = {
    "torchvision": ("torchvision.transforms.v2",),
    "kornia": ("kornia.augmentation", "kornia.augmentation.auto"),
    "lightly": ("lightly.transforms",),
}
"""Where each library has its transforms."""

_ON_BYTES = frozenset({"JPEG", "AutoAugment", "RandAugment", "TrivialAugmentWide", "AugMix"})
"""torchvision's transforms that are made for bytes. All others work on floats, as our operations do."""

_MOST_OUTSIDE = 0.25
"""The share of values that may lie outside [0, 1] and are clipped, as noise and bicubic interpolation have some."""

_UNCHANGED = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
"""A normalisation that does nothing, which all of lightly's transforms take."""

_PROBED = 5
"""Images on which it is tried whether kornia draws for each image; no tensor of one image has as many rows."""
_TOLERANCE = 1e-5


class LibraryOperation(Operation):
    """A transform of a library. named: the key and its value, for messages."""

    named: str

    @abstractmethod
    def unclipped(self, images: Tensor, params: Prepared) -> Tensor:
        """The images, changed; values may lie outside [0, 1]."""

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return self.unclipped(images, params).clamp_(0, 1)


@dataclass(frozen=True, eq=False)
class OneByOne(LibraryOperation):
    """A transform of one image, with the global generators seeded for it.

    transform: takes an image (3, H, W), float32 in [0, 1], on the CPU, and returns a view of `size` (H, W), or if that
        is None, of the image's own size.
    """

    named: str
    transform: Callable[[Tensor], object]
    size: tuple[int, int] | None = None

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        return {"seed": torch.randint(2**63 - 1, (n,), generator=generator)}

    def prepare(self, params: Params, height: int, width: int, device: torch.device) -> Prepared:
        return {"seeds": params["seed"].tolist()}

    def unclipped(self, images: Tensor, params: Prepared) -> Tensor:
        size = self.size_after(*images.shape[2:])
        # Inference tensors refuse some of what others' code does in place.
        with borrowed_generators() as seed_all, torch.inference_mode(False), torch.no_grad():
            copied = torch.empty(images.shape).copy_(images)
            made = torch.empty(len(images), 3, *size)
            for row, (image, seed) in enumerate(zip(copied, params["seeds"], strict=True)):
                seed_all(seed)
                made[row] = self._view(image)
        return made.to(images.device)

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        return self.size or (height, width)

    def _view(self, image: Tensor) -> Tensor:
        with own.blamed(self.named, f"take images {tuple(image.shape)}"):
            view = self.transform(image)
        return _as_floats(view, (3, *self.size_after(*image.shape[1:])), self.named)


@dataclass(frozen=True, eq=False)
class Batched(LibraryOperation):
    """A transform of kornia's that draws its parameters for each image of a batch, before it works."""

    named: str
    transform: Any

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        with borrowed_generators() as seed_all:
            seed_all(seed)
            return _drawn_by(self.transform, n, height, width)

    def unclipped(self, images: Tensor, params: Prepared) -> Tensor:
        made = _applied_by(self.transform, images, params)
        return _as_floats(made, tuple(images.shape), self.named)


def library_operations(text: str, size: int, key: str) -> list[Operation]:
    """The operation that a transform of torchvision or kornia makes. text: the value of `key`; size: side of the views.

    Raises ConfigError if there is no such transform, or it does not take these arguments.
    """
    call, named = parse(text), f"{key}={text}"
    transform: Any = _made(call, text, key)
    if call.library == "torchvision":
        return [OneByOne(named, _on_bytes(transform) if _is_for_bytes(call) else transform)]
    if _draws_for_each(size, transform):
        return [Batched(named, transform)]
    if getattr(transform, "same_on_batch", False):
        raise ConfigError(
            f"{named}: same_on_batch must be False for a transform that works on one image at a time, got True"
        )
    return [OneByOne(named, lambda image: transform(image.unsqueeze(0)).squeeze(0))]


def two_views(text: str, size: int, key: str = "views.policy") -> tuple[Operation, Operation]:
    """The operations that a whole transform of lightly makes: one for each of its two views, of (size, size).

    It gets images as PIL images. Unless the arguments say otherwise, views have this size, and are not normalised: the
    encoder gets values in [0, 1]. Raises ConfigError as `library_operations` does, and for another number of views.
    """
    call = _completed(parse(text), text, size, key)
    transform: Any = _made(call, text, key)
    views = getattr(transform, "transforms", [transform])
    if len(views) != 2:
        raise ConfigError(
            f"{key} must be a transform of lightly with two views of an image, got {text}, which has {len(views)}"
        )
    named = f"{key}={text}"
    # One operation where both views have one transform.
    made = {id(each): OneByOne(named, _on_pil(each), (size, size)) for each in views}
    first, second = (made[id(each)] for each in views)
    return first, second


def check_range(operation: Operation, images: Tensor) -> None:
    """Raises OwnError if a library's transform takes many values out of [0, 1], as a normalisation does.

    images: (N, 3, H, W), float32 in [0, 1].
    """
    operation = _inner(operation)
    if not isinstance(operation, LibraryOperation):
        return
    height, width = images.shape[2:]
    params = operation.draw(len(images), height, width, Generator().manual_seed(0))
    made = operation.unclipped(images, operation.prepare(params, height, width, images.device))
    if not ((made >= 0) & (made <= 1)).float().mean() >= 1 - _MOST_OUTSIDE:
        low, high = made.aminmax()
        raise own.OwnError(
            f"{operation.named} must return images with values in [0, 1], got {low:.4g} to {high:.4g}"
        )


def _as_floats(view: object, shape: tuple[int, ...], named: str) -> Tensor:
    """A transform's result as float32, bytes as [0, 1]. Raises OwnError if it is no image of this shape, or images."""
    must = f"{named} must return images {shape}"
    if not isinstance(view, Tensor) or tuple(view.shape) != shape:
        got = tuple(view.shape) if isinstance(view, Tensor) else type(view).__name__
        raise own.OwnError(f"{must}, got {got}")
    if view.dtype == torch.uint8:
        return view.float().div_(255)
    if not view.is_floating_point():
        raise own.OwnError(f"{must} of floats in [0, 1] or of bytes, got {view.dtype}")
    return view.float()


def slow_ones(operations: Iterable[Operation]) -> list[str]:
    """The operations that work on one image at a time, by key and value."""
    inner = map(_inner, operations)
    return list(dict.fromkeys(each.named for each in inner if isinstance(each, OneByOne)))


def origins(operations: Iterable[Operation]) -> list[str]:
    """The operations of libraries, by key and value, with the version of the library."""
    lines = dict[str, None]()
    for operation in map(_inner, operations):
        if isinstance(operation, LibraryOperation):
            key, _, text = operation.named.partition("=")
            lines[f"{key}={with_version(text)}"] = None
    return list(lines)


def _inner(operation: Operation) -> Operation:
    return operation.operation if isinstance(operation, RandomApply) else operation


def _made(call: Call, text: str, key: str) -> object:
    """The transform that `call` describes. text: as the config names it. Raises ConfigError."""
    classes = _classes(call.library, text, key)
    if call.name not in classes:
        raise ConfigError(
            f"{key} must name a transform of {call.library}, got {text}{nearest(call.name, classes)}"
        )
    make = classes[call.name]
    signature = inspect.signature(make)
    hints = _hints(make)
    arguments = {
        name: _argument(value, hints.get(name), text, key) for name, value in call.arguments.items()
    }
    try:
        signature.bind(**arguments)
        return make(**arguments)
    except Exception as error:
        why = str(error) if isinstance(error, TypeError) else own.told(error)
        raise ConfigError(
            f"{key} must be {call.library}:{call.name}({_parameters(signature)}), got {text}: {why}"
        ) from error


def _argument(value: Any, hint: Any, text: str, key: str) -> Any:
    """A value as the library takes it: pieces are made, and the names of options become these."""
    if isinstance(value, Call):
        return _made(value, text, key)
    if isinstance(value, list | tuple):
        return type(value)(_argument(each, None, text, key) for each in value)
    if isinstance(value, dict):
        return {name: _argument(each, None, text, key) for name, each in value.items()}
    if isinstance(value, str):
        for options in (hint, *typing.get_args(hint)):
            if isinstance(options, type) and issubclass(options, Enum):
                return next((one for one in options if value in (one.value, one.name)), value)
    return value


def _classes(library: str, text: str, key: str) -> Mapping[str, Callable[..., object]]:
    """The transforms of a library by name. Raises ConfigError if it is not installed."""
    try:
        modules = [importlib.import_module(name) for name in MODULES[library]]
    except ImportError as error:
        raise ConfigError(
            f"{key}={text} needs {library}, which cannot be imported ({error}): pip install {library}"
        ) from error
    found = {name: each for module in modules for name, each in vars(module).items()}
    is_one = _SORTS[library](modules[0])
    return {name: each for name, each in found.items() if inspect.isclass(each) and is_one(each)}


def _of_torchvision(module: Any) -> Callable[[type], bool]:
    return lambda each: issubclass(each, module.Transform) and each is not module.Transform


def _of_kornia(module: Any) -> Callable[[type], bool]:
    """Those that take named arguments, and neither mix images nor take volumes."""
    others = (module.MixAugmentationBaseV2, module.AugmentationBase3D)

    def is_one(each: type) -> bool:
        if not issubclass(each, nn.Module) or issubclass(each, others) or "Base" in each.__name__:
            return False
        parameters = inspect.signature(each).parameters.values()
        return all(parameter.kind != parameter.VAR_POSITIONAL for parameter in parameters)

    return is_one


def _of_lightly(module: Any) -> Callable[[type], bool]:
    """Whole transforms, and those of single views, which some of them take as arguments."""
    whole = importlib.import_module(f"{module.__name__}.multi_view_transform").MultiViewTransform
    return lambda each: issubclass(each, whole) or _is_of_a_view(each.__name__)


def _is_of_a_view(name: str) -> bool:
    return name.endswith(("ViewTransform", "View1Transform", "View2Transform"))


_SORTS: dict[str, Callable[[Any], Callable[[type], bool]]] = {
    "torchvision": _of_torchvision,
    "kornia": _of_kornia,
    "lightly": _of_lightly,
}


def _hints(make: Callable[..., object]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(make.__init__)
    except Exception:  # annotations that are not there at run time
        return {}


def _parameters(signature: inspect.Signature) -> str:
    """A signature without types: `kernel_size, sigma=(0.1, 2.0)`."""
    return ", ".join(
        str(parameter.replace(annotation=inspect.Parameter.empty))
        for parameter in signature.parameters.values()
    )


def _completed(call: Call, text: str, size: int, key: str) -> Call:
    """A transform of lightly with arguments that its defaults have for ImageNet: see `two_views`."""
    classes = _classes(call.library, text, key)
    if call.name not in classes:
        return call  # `_made` says so
    parameters = inspect.signature(classes[call.name]).parameters
    usual: dict[str, Any] = {"input_size": size, "global_crop_size": size, "normalize": _UNCHANGED}
    for number in (1, 2):
        view = call.name.removesuffix("Transform") + f"View{number}Transform"
        if view in classes:
            usual[f"view_{number}_transform"] = Call(call.library, view, {})
    arguments = {name: value for name, value in usual.items() if name in parameters}
    arguments |= call.arguments
    return Call(
        call.library,
        call.name,
        {
            name: _completed(value, text, size, key) if isinstance(value, Call) else value
            for name, value in arguments.items()
        },
    )


def _is_for_bytes(call: Call) -> bool:
    return not _ON_BYTES.isdisjoint(call.names())


def _on_bytes(transform: Any) -> Callable[[Tensor], object]:
    return lambda image: transform(_bytes(image))


def _on_pil(transform: Any) -> Callable[[Tensor], object]:
    from torchvision.transforms.v2.functional import to_pil_image

    return lambda image: transform(to_pil_image(_bytes(image)))


def _bytes(image: Tensor) -> Tensor:
    return (image * 255).round().to(torch.uint8)


def _draws_for_each(size: int, transform: Any) -> bool:
    """Whether a transform of kornia's can work on any part of the batch for which it has drawn.

    It can if all that it draws has a row for each image, and if it draws nothing while it works.
    """
    images = torch.rand(_PROBED, 3, size, size, generator=Generator().manual_seed(0))
    rows = torch.tensor([3, 1])
    try:
        with borrowed_generators() as seed_all, torch.no_grad():
            seed_all(0)
            params = _drawn_by(transform, _PROBED, size, size)
            if any(len(values) != _PROBED for values in params.values()):
                return False
            made = []
            for seed in (1, 2):
                seed_all(seed)
                made.append(_applied_by(transform, images, params))
            few = {name: values[rows] for name, values in params.items()}
            part = _applied_by(transform, images[rows], few)
    except Exception:  # a whole batch is not for it; on one image, it says what is wrong
        return False
    pairs = ((made[0], made[1]), (made[0][rows], part))
    return all(torch.allclose(one, other, atol=_TOLERANCE) for one, other in pairs)


_SHAPE = "forward_input_shape"
"""What kornia calls the shape of the batch, which it keeps beside what it has drawn."""


def _drawn_by(transform: Any, n: int, height: int, width: int) -> dict[str, Tensor]:
    params = transform.forward_parameters(torch.Size((n, 3, height, width)))
    return {name: values for name, values in params.items() if name != _SHAPE}


def _applied_by(transform: Any, images: Tensor, params: Mapping[str, Tensor]) -> Tensor:
    shape = torch.tensor(images.shape)
    made: Tensor = transform(images, params={**params, _SHAPE: shape})
    return made
