"""Keys of a config in general: declared with meaning, bounds and choices; read from mappings, and refused by name."""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

OWN = "package.module:function"
"""How a config names a loss, a head, an operation, a policy or a data set that the user has written."""

_OWN_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

RENAMED = {"views.brightness": "views.color=pytorch or views.color=tensorflow"}
"""Keys of before, and what is said in their place now."""

_CONTAINERS: dict[Any, str] = {tuple: "list", dict: "mapping"}


class ConfigError(ValueError):
    """Something the user gave is wrong: the message names the key, the value and what is accepted."""


def key(
    doc: str,
    *,
    choices: tuple[Any, ...] = (),
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    own: bool = False,
    identity: bool = True,
    default: Any = dataclasses.MISSING,
) -> Any:
    """A documented dataclass field.

    own: besides `choices`, it takes the name of a function of the user's own (OWN).
    `identity=False` marks what cannot change a run's result.
    """
    bounds = {"above": above, "at_least": at_least, "at_most": at_most, "below": below}
    metadata = {"doc": doc, "choices": choices, "bounds": bounds, "own": own, "identity": identity}
    return dataclasses.field(default=default, metadata=metadata)


def build(cls: type[T], config: Mapping[str, Any], path: str = "") -> T:
    """`config` as an instance of the dataclass `cls`; keys without a default must be there, and none may be unknown."""
    if not isinstance(config, Mapping):
        raise ConfigError(f"{path or 'config'} must be a mapping of keys, got {config!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in config:
        if name not in fields:
            raise ConfigError(unknown_key(_join(path, name), [_join(path, f) for f in fields]))
    hints = typing.get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        full = _join(path, name)
        if name not in config:
            if field.default is not dataclasses.MISSING:
                continue
            raise ConfigError(f"{full} is missing: {field.metadata['doc']}")
        if dataclasses.is_dataclass(hints[name]):
            values[name] = build(hints[name], config[name], full)
        else:
            values[name] = _check_value(full, config[name], hints[name], field.metadata)
    return cls(**values)


@dataclass(frozen=True)
class KeyInfo:
    """One line of the help: a key, its type, meaning and accepted values."""

    name: str
    type: str
    doc: str
    accepted: str
    identity: bool


def keys(cls: type, path: str = "") -> Iterator[KeyInfo]:
    """Every key of `cls`, depth first."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        full = _join(path, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            yield from keys(hints[field.name], full)
            continue
        meta = field.metadata
        yield KeyInfo(
            full, type_name(hints[field.name]), meta["doc"], _accepted(meta), meta["identity"]
        )


def is_own(value: object) -> bool:
    """Whether `value` has the form of OWN."""
    return isinstance(value, str) and _OWN_NAME.fullmatch(value) is not None


def own_values(node: Any, path: str = "") -> dict[str, str]:
    """The keys of an experiment, or of a section of it, that name something of the user's own, with those names."""
    found: dict[str, str] = {}
    for field in dataclasses.fields(node):
        full, value = _join(path, field.name), getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            found |= own_values(value, full)
        elif field.metadata["own"] and is_own(value):
            found[full] = value
    return found


def one_of(choices: typing.Iterable[Any], own: bool = False) -> str:
    """`one of A, B, C`, or a name of the user's own."""
    listed = "one of " + ", ".join(map(str, choices))
    return f"{listed}, or {OWN}" if own else listed


def unknown_key(name: str, known: list[str]) -> str:
    """The message for a key that does not exist, with the one that took its place or the nearest one that does."""
    if name in RENAMED:
        return f"unknown key {name}; now {RENAMED[name]}"
    return f"unknown key {name}{nearest(name, known)}"


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """`; did you mean X?`, or nothing where none is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def type_name(hint: Any) -> str:
    """A type as a user would write it: `int`, `float or null`."""
    if isinstance(hint, types.UnionType):
        return " or ".join(type_name(arg) for arg in typing.get_args(hint))
    if typing.get_origin(hint) in _CONTAINERS:
        return _CONTAINERS[typing.get_origin(hint)]
    return "null" if hint is type(None) else hint.__name__


def _check_value(name: str, value: Any, hint: Any, meta: Mapping[str, Any]) -> Any:
    if typing.get_origin(hint) in _CONTAINERS:
        return _check_container(name, value, hint)
    allowed = typing.get_args(hint) or (hint,)
    if value is None and type(None) in allowed:
        return None
    if float in allowed and type(value) is int:
        value = float(value)
    if type(value) not in allowed:
        raise ConfigError(f"{name} must be {type_name(hint)}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be finite, got {value}")
    if meta["choices"] and value not in meta["choices"] and not (meta["own"] and is_own(value)):
        close = nearest(str(value), [str(choice) for choice in meta["choices"]])
        raise ConfigError(f"{name} must be {_accepted(meta)}, got {value!r}{close}")
    _check_bounds(name, value, meta)
    return value


def _check_container(name: str, value: Any, hint: Any) -> Any:
    """A mapping, or a list of texts or of what a dataclass describes."""
    if typing.get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} must be a mapping, got {value!r}")
        return dict(value)
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{name} must be a list, got {value!r}")
    (item, _) = typing.get_args(hint)
    if isinstance(item, type) and dataclasses.is_dataclass(item):
        return tuple(build(item, each, f"{name}[{k}]") for k, each in enumerate(value))
    return tuple(_check_value(f"{name}[{k}]", each, item, _FREE) for k, each in enumerate(value))


_FREE: dict[str, Any] = {
    "choices": (),
    "bounds": dict.fromkeys(("above", "at_least", "at_most", "below")),
}


def _check_bounds(name: str, value: Any, meta: Mapping[str, Any]) -> None:
    bounds = meta["bounds"]
    too_low = (bounds["above"] is not None and value <= bounds["above"]) or (
        bounds["at_least"] is not None and value < bounds["at_least"]
    )
    too_high = (bounds["below"] is not None and value >= bounds["below"]) or (
        bounds["at_most"] is not None and value > bounds["at_most"]
    )
    if too_low or too_high:
        raise ConfigError(f"{name} must be {_accepted(meta)}, got {value}")


def _accepted(meta: Mapping[str, Any]) -> str:
    if meta["choices"]:
        return one_of(meta["choices"], meta["own"])
    signs = {"above": ">", "at_least": ">=", "at_most": "<=", "below": "<"}
    return " and ".join(
        f"{signs[name]} {bound:g}" for name, bound in meta["bounds"].items() if bound is not None
    )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else str(name)
