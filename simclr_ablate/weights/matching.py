"""Finding an encoder among a file's tensors, by names and shapes.

Checkpoints hold the encoder under a prefix of their own (`state_dict.backbone.`, `state_dict.module.encoder_q.`), with
other networks beside it. The prefix is the one under which all, or most, of the encoder's tensors are. What else there
is has to be recognised as no part of the encoder, such as a classifier; otherwise the file is refused.
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from simclr_ablate.config import ConfigError
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.schema import RESNETS, WIDTHS
from simclr_ablate.terminal import count
from simclr_ablate.weights.tensorflow import SCOPE, from_tensorflow, tensorflow_names

Shapes = Mapping[str, torch.Size]

_CLASSIFIERS = ("fc", "linear", "classifier", "classifiers", "classification", "cls", "logits")
_PROJECTIONS = ("head", "heads", "proj", "projector", "projection", "projections")
_PREDICTIONS = ("pred", "predictor", "prediction", "prototype", "prototypes")
_OF_LOSSES = ("criterion", "loss", "queue", "bank", "memory", "center", "temperature", "scale")
_OF_OPTIMISERS = ("optimizer", "optimizers", "optim", "scheduler", "schedulers", "scaler")
_NOTES = (
    "callbacks",
    "loops",
    "hooks",
    "meters",
    "metrics",
    "best",
    "epoch",
    "rng",
    "global",
    "step",
)
_FOLLOWERS = ("momentum", "ema", "teacher", "target", "key", "k")

HEADS = frozenset(
    [
        *(*_CLASSIFIERS, *_PROJECTIONS, *_PREDICTIONS),
        *(*_OF_LOSSES, *_OF_OPTIMISERS, *_NOTES, *_FOLLOWERS),
    ]
)
"""Words in the names of what is no part of an encoder: classifiers and heads, what losses and optimisers keep, notes on
training, and copies of the encoder that follow it (MoCo's encoder_k, BYOL's target)."""

NAMED = 6
"""How many tensors errors name at most."""


_NO_COUNT = torch.zeros((), dtype=torch.long)


class Matched(NamedTuple):
    """An encoder found among a file's tensors."""

    tensors: dict[str, Tensor]
    """By the encoder's own names, float32; counts of batches are 0."""
    ignored: tuple[str, ...]
    """The file's other networks and tensors, each by the first part of its name that differs from the encoder's."""
    of_tensorflow: bool


Spelling = Callable[[str], str]


def _in_sequence(name: str) -> str:
    """A name in `nn.Sequential(*resnet.children())`, as lightly's examples build it."""
    first, dot, rest = name.partition(".")
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    return f"{places.get(first, first)}{dot}{rest}"


def _with_shortcut(name: str) -> str:
    """A name in a ResNet that calls its `downsample` `shortcut`, as lightly's own does."""
    return name.replace(".downsample.", ".shortcut.")


SPELLINGS: tuple[Spelling, ...] = (str, _in_sequence, _with_shortcut)


def match(
    found: Mapping[str, Tensor], wanted: Shapes, named: str, suggestion: Callable[[], str]
) -> Matched:
    """The tensors of `wanted` names and shapes among those `found`. Raises ConfigError that lists what does not fit.

    named: how errors name the source. suggestion: says which encoder would fit, for errors.
    """
    if not found:
        raise ConfigError(f"{named} must hold an encoder, and holds no tensors")
    if any(name.startswith(SCOPE) for name in found):
        return _match_tensorflow(found, wanted, named, suggestion)
    needed = [name for name in wanted if not _is_count(name)]
    prefix, spelling = _place(found, needed, named)
    names = {name: prefix + spelling(name) for name in wanted}
    _check(found, {name: names[name] for name in needed}, wanted, named, suggestion)
    tensors = {
        name: _NO_COUNT if _is_count(name) else found[names[name]].float().contiguous()
        for name in wanted
    }
    rest = [name for name in found if name not in set(names.values())]
    return Matched(tensors, _ignored(rest, prefix, named, suggestion), False)


def _match_tensorflow(
    found: Mapping[str, Tensor], wanted: Shapes, named: str, suggestion: Callable[[], str]
) -> Matched:
    names = tensorflow_names(list(wanted))
    turned = {name: from_tensorflow(tensor) for name, tensor in found.items()}
    _check(turned, names, wanted, named, suggestion)
    tensors = {
        name: _NO_COUNT if _is_count(name) else turned[names[name]].float().contiguous()
        for name in wanted
    }
    used = set(names.values())
    rest = [name.replace("/", ".") for name in found if name not in used and not _is_slot(name)]
    return Matched(tensors, _ignored(rest, SCOPE.replace("/", "."), named, suggestion), True)


def _is_slot(name: str) -> bool:
    """Whether a TensorFlow variable is an optimiser's, beside the one that it updates."""
    return name.startswith(SCOPE) and name.count("/") > 2


def _is_count(name: str) -> bool:
    """Whether a tensor is batch norm's count of batches, which changes nothing here and which old files lack."""
    return name.endswith("num_batches_tracked")


def _place(
    found: Mapping[str, Tensor], needed: Collection[str], named: str
) -> tuple[str, Spelling]:
    """The prefix and the spelling with which most of the needed names are there. Raises ConfigError."""
    places = dict.fromkeys(_places(found, needed), 0)
    for prefix, spelling in places:
        places[prefix, spelling] = sum(prefix + spelling(name) in found for name in needed)
    most = max(places.values(), default=0)
    if not most:
        raise ConfigError(
            f"{named} must hold an encoder, and holds other tensors: {_listed(found)}"
        )
    best = {prefix: spelling for (prefix, spelling), n in places.items() if n == most}
    # If there are several copies, take the one that was trained: not MoCo's encoder_k, nor BYOL's target.
    trained = [prefix for prefix in best if not _is_head(_differing(prefix, [*best]))] or [*best]
    if len(trained) > 1:
        raise ConfigError(
            f"{named} must hold one encoder, and holds {len(trained)}: {', '.join(sorted(trained))}"
        )
    return trained[0], best[trained[0]]


def _places(found: Mapping[str, Tensor], needed: Collection[str]) -> Iterator[tuple[str, Spelling]]:
    # The names with the most parts are the least ambiguous.
    deepest = sorted(needed, key=lambda name: name.count("."))[-1:] + list(needed)[:1]
    for name, spelling, there in itertools.product(deepest, SPELLINGS, found):
        spelt = spelling(name)
        if there == spelt or there.endswith(f".{spelt}"):
            yield there.removesuffix(spelt), spelling


def _differing(prefix: str, others: Collection[str]) -> str:
    """The first part of `prefix` that is not in all the others."""
    parts = [other.split(".") for other in others]
    for number, part in enumerate(prefix.split(".")):
        if any(len(other) <= number or other[number] != part for other in parts):
            return part
    return ""


def _check(
    found: Mapping[str, Tensor],
    names: Mapping[str, str],
    wanted: Shapes,
    named: str,
    suggestion: Callable[[], str],
) -> None:
    """Raises ConfigError if a needed tensor is missing or has another shape."""
    missing = [theirs for theirs in names.values() if theirs not in found]
    if missing:
        raise ConfigError(
            f"{named} lacks {count(len(missing), 'tensor')} of the encoder: {_listed(missing)}{suggestion()}"
        )
    wrong = [
        f"{theirs} is {tuple(found[theirs].shape)}, not {tuple(wanted[ours])}"
        for ours, theirs in names.items()
        if found[theirs].shape != wanted[ours]
    ]
    if wrong:
        raise ConfigError(f"{named} does not fit the encoder: {_listed(wrong, 3)}{suggestion()}")


def _ignored(
    rest: Collection[str], prefix: str, named: str, suggestion: Callable[[], str]
) -> tuple[str, ...]:
    """The parts to leave out. Raises ConfigError if one may be a part of the encoder."""
    around = prefix.rstrip(".").split(".") if prefix else []
    parts: dict[str, None] = {}
    unknown = []
    for name in rest:
        own = name.split(".")
        same = next((k for k, (a, b) in enumerate(zip(own, around, strict=False)) if a != b), None)
        shared = min(len(own) - 1, len(around)) if same is None else same
        if _is_head(own[shared]):
            parts[".".join(own[: shared + 1])] = None
        else:
            unknown.append(name)
    if unknown:
        raise ConfigError(
            f"{named} has {count(len(unknown), 'tensor')} that the encoder lacks: {_listed(unknown)}{suggestion()}"
        )
    return tuple(parts)


def _is_head(part: str) -> bool:
    return not HEADS.isdisjoint(part.lower().replace("-", "_").split("_"))


def _listed(names: Collection[str], most: int = NAMED) -> str:
    some = ", ".join(itertools.islice(names, most))
    return f"{some} and {len(names) - most} more" if len(names) > most else some


def fitting(found: Mapping[str, Tensor], named: str) -> str:
    """`; encoder=resnet50 encoder.width=2 would fit` for the first of our encoders that does, else an empty string."""
    for architecture, stem in itertools.product(RESNETS, ("imagenet", "cifar")):
        for width in range(1, 5) if architecture == "resnet8" else WIDTHS:
            with torch.device("meta"):
                encoder = build_encoder(architecture, width, stem)
            try:
                matched = match(found, shapes_of(encoder), named, str)
            except ConfigError:
                continue
            fits = "tensorflow" if matched.of_tensorflow and stem == "imagenet" else stem
            return f"; encoder={architecture} encoder.width={width} encoder.stem={fits} would fit"
    return ""


def shapes_of(encoder: torch.nn.Module) -> dict[str, torch.Size]:
    """The shapes of the encoder's tensors by name; of a network that is not ours, by its own names."""
    return {plain_name(name): tensor.shape for name, tensor in encoder.state_dict().items()}


def plain_name(name: str) -> str:
    """A name in an encoder's state dict without what OwnEncoder puts before it."""
    return name.removeprefix(OWN)


OWN = "own."
