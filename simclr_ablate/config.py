"""Keys of any config: declared with meaning, bounds and choices; read from mappings and checked."""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from simclr_ablate import calls

T = TypeVar("T")

Condition = Mapping[str, tuple[Any, ...]]
"""Full names of keys, each with the values it may have; the condition holds if all keys have one of theirs. A user's
own function (OWN) satisfies it too, since it may use any key; a piece of a library uses none of ours."""

GIVEN: tuple[Any, ...] = ("any value but null",)
"""In a Condition: any value but null."""

UNSET: Any = dataclasses.MISSING

OWN = "package.module:function"
"""How a config names a user's own function: a loss, a head, an operation, a policy, a data set or a protocol."""

_OWN_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

RENAMED = {"views.brightness": "views.color=pytorch or views.color=tensorflow"}
"""Keys of earlier versions, and what replaces them."""

_CONTAINERS: dict[Any, str] = {tuple: "list", dict: "mapping"}


class ConfigError(ValueError):
    """Wrong input from the user. The message names the key, the value and what is accepted."""


class MissingDataError(ConfigError):
    """The images of a data set are not there, or only some. The message says which files go where."""


def key(
    doc: str,
    *,
    choices: tuple[Any, ...] = (),
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    own: bool = False,
    libraries: tuple[str, ...] = (),
    identity: bool = True,
    when: Condition | tuple[Condition, ...] = (),
    otherwise: Any = UNSET,
    before: Any = UNSET,
    default: Any = UNSET,
) -> Any:
    """A documented dataclass field.

    own: whether the key accepts the name of a user's own function (OWN) besides `choices`.
    libraries: the libraries whose pieces it accepts too, as `calls` spells them.
    identity: whether the key can change a run's result.
    when: the key counts only if this condition, or one of them, holds. Otherwise its value changes neither results nor
        ids. A section's condition applies to all its keys.
    otherwise: the value that the key must have when it does not count; UNSET: any. For keys such as `views.extra`,
        where another value is a request that would be silently ignored.
    before: the value that experiments had before the key existed, or a function that computes it from their other keys
        by full name. Only another value is part of an id, so a key can be added without renaming runs. For a section
        whose keys all have it: {}.
    """
    bounds = {"above": above, "at_least": at_least, "at_most": at_most, "below": below}
    metadata = {
        "doc": doc,
        "choices": choices,
        "bounds": bounds,
        "own": own,
        "libraries": libraries,
        "identity": identity,
        "when": (when,) if isinstance(when, Mapping) else tuple(when),
        "otherwise": otherwise,
        "before": before,
    }
    return dataclasses.field(default=default, metadata=metadata)


def build(cls: type[T], config: Mapping[str, Any], path: str = "") -> T:
    """`config` as an instance of the dataclass `cls`.

    Only keys with a default or a value `before` may be missing. Raises ConfigError for other missing keys, unknown keys
    and values that are not accepted.
    """
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
            if field.default is not UNSET:
                continue
            if field.metadata["before"] is not UNSET:
                values[name] = _before(hints[name], field.metadata["before"], full)
                continue
            raise ConfigError(f"{full} is missing: {field.metadata['doc']}")
        if dataclasses.is_dataclass(hints[name]):
            values[name] = build(hints[name], config[name], full)
        else:
            values[name] = _check_value(full, config[name], hints[name], field.metadata)
    return cls(**values)


def _before(hint: Any, value: Any, full: str) -> Any:
    """The value of a key from before it existed. `identity.values_of` supplies those that depend on other keys."""
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, full)
    if callable(value):
        raise ConfigError(f"{full} is missing")
    return value


@dataclass(frozen=True)
class KeyInfo:
    """The declaration of a key: its full name, type, meaning, accepted values, and when it counts."""

    name: str
    type: str
    doc: str
    accepted: str
    choices: tuple[Any, ...]
    identity: bool
    section: tuple[tuple[Condition, ...], ...]
    """Conditions of each section around it; one condition of each section must hold."""
    when: tuple[Condition, ...]
    """Conditions within its section, of which one must hold; if empty, it always counts there."""
    otherwise: Any
    before: Any

    def counts(self, value_of: Callable[[str], Any]) -> bool:
        """Whether the key can change a result. value_of: gives the value of a key by its full name."""
        return self._is_reached(value_of) and _one_holds(self.when, value_of)

    def check(self, value_of: Callable[[str], Any]) -> None:
        """Raises ConfigError if the section counts, the key does not, and its value is not `otherwise`."""
        if self.otherwise is UNSET or value_of(self.name) == self.otherwise:
            return
        if self._is_reached(value_of) and not _one_holds(self.when, value_of):
            raise ConfigError(
                f"{self.name} must be {as_yaml(self.otherwise)} unless {told_conditions(self.when)}, "
                f"got {as_yaml(value_of(self.name))}"
            )

    @property
    def depends_on(self) -> frozenset[str]:
        """The names of the keys that decide whether it counts."""
        return frozenset(
            name
            for conditions in (*self.section, self.when)
            for each in conditions
            for name in each
        )

    def _is_reached(self, value_of: Callable[[str], Any]) -> bool:
        return all(_one_holds(conditions, value_of) for conditions in self.section)


def keys(
    cls: type, path: str = "", section: tuple[tuple[Condition, ...], ...] = ()
) -> Iterator[KeyInfo]:
    """The keys of `cls`, depth first. section: see KeyInfo."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        full, hint, meta = _join(path, field.name), hints[field.name], field.metadata
        if dataclasses.is_dataclass(hint):
            inner = (*section, meta["when"]) if meta["when"] else section
            yield from keys(typing.cast(type, hint), full, inner)
            continue
        yield KeyInfo(
            *(full, type_name(hint), meta["doc"], _accepted(meta), meta["choices"]),
            meta["identity"],
            *(section, meta["when"], meta["otherwise"], meta["before"]),
        )


def check_condition(cls: type, name: str, value: Any) -> None:
    """Raises ConfigError if the key `name` of `cls`, such as `head.dim`, can never have the value."""
    hint, meta = _declared(cls, name)
    _check_value(name, value, hint, meta)


def is_numeric(cls: type, name: str) -> bool:
    """Whether the key `name` of `cls` is a number, or a number or null."""
    hint, _ = _declared(cls, name)
    return not {int, float}.isdisjoint(typing.get_args(hint) or (hint,))


def _declared(cls: type, name: str) -> tuple[Any, Mapping[str, Any]]:
    """The type of a key, and what is said of it."""
    section, _, rest = name.partition(".")
    hint = typing.get_type_hints(cls)[section]
    if rest:
        return _declared(hint, rest)
    (field,) = (each for each in dataclasses.fields(cls) if each.name == section)
    return hint, field.metadata


def flatten(nested: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested dictionaries as values by full name. An empty dictionary yields none."""
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        full = f"{path}.{name}" if path else str(name)
        if isinstance(value, dict):
            flat.update(flatten(value, full))
        else:
            flat[full] = value
    return flat


def _one_holds(conditions: tuple[Condition, ...], value_of: Callable[[str], Any]) -> bool:
    return not conditions or any(_holds(condition, value_of) for condition in conditions)


def _holds(condition: Condition, value_of: Callable[[str], Any]) -> bool:
    return all(
        (value := value_of(name)) in accepted
        or (is_own(value) and not calls.is_of_library(value))
        or (accepted is GIVEN and value is not None and value is not UNSET)
        for name, accepted in condition.items()
    )


def told_conditions(conditions: tuple[Condition, ...]) -> str:
    """Conditions in words: `loss.name=margin_triplet, or loss.semi_hard=true`."""
    return ", or ".join(map(_condition_text, conditions))


def _condition_text(condition: Condition) -> str:
    return " and ".join(
        f"{name}={_either(accepted)}" if accepted is not GIVEN else f"{name} set"
        for name, accepted in condition.items()
    )


def _either(values: tuple[Any, ...]) -> str:
    """`simclr, crop or pair`"""
    *most, last = map(as_yaml, values)
    return f"{', '.join(most)} or {last}" if most else last


def as_yaml(value: Any) -> str:
    """`value` as YAML spells it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_own(value: object) -> bool:
    """Whether `value` names a piece that is not ours: it has the form of OWN, or is a library's with arguments."""
    return isinstance(value, str) and (
        _OWN_NAME.fullmatch(value) is not None or calls.is_call(value)
    )


def own_values(node: Any, path: str = "") -> dict[str, str]:
    """The keys of an experiment, or of a section, that name a piece that is not ours, with these names."""
    names: dict[str, str] = {}
    for field in dataclasses.fields(node):
        full, value = _join(path, field.name), getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            names |= own_values(value, full)
        elif field.metadata["own"] and is_own(value):
            names[full] = value
    return names


def one_of(
    choices: typing.Iterable[Any], own: bool = False, libraries: tuple[str, ...] = ()
) -> str:
    """`one of A, B, C`; with `own` and libraries, `one of A, B, C, or package.module:function, or torchvision:NAME`."""
    text = "one of " + ", ".join(map(str, choices))
    others = [f"{library}:NAME" for library in libraries]
    return ", or ".join([text, *([OWN] if own else []), *others])


def unknown_key(name: str, known: list[str]) -> str:
    """The message for an unknown key, with the key that replaced it or the nearest known one."""
    if name in RENAMED:
        return f"unknown key {name}; it is now {RENAMED[name]}"
    return f"unknown key {name}{nearest(name, known)}"


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """`; did you mean X?`, or an empty string if nothing is near."""
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
    container = next((each for each in allowed if typing.get_origin(each) in _CONTAINERS), None)
    if container is not None:
        return _check_container(name, value, container)
    if float in allowed and type(value) is int:
        value = float(value)
    if type(value) not in allowed:
        raise ConfigError(f"{name} must be {type_name(hint)}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} must be finite, got {value}")
    if calls.is_of_library(value) and value.partition(":")[0] in meta["libraries"]:
        return _check_call(name, value)
    own = meta["own"] and is_own(value) and not calls.is_of_library(value)
    if meta["choices"] and value not in meta["choices"] and not own:
        close = nearest(str(value), [str(choice) for choice in meta["choices"]])
        raise ConfigError(f"{name} must be {_accepted(meta)}, got {value!r}{close}")
    _check_bounds(name, value, meta)
    return value


def _check_call(name: str, value: str) -> str:
    """The name of a library's piece in the one form that counts."""
    try:
        return calls.spelled(value)
    except ValueError as error:
        library = value.partition(":")[0]
        raise ConfigError(
            f"{name} must be {library}:NAME or {library}:NAME(ARGUMENT=VALUE, ...), got {value!r}: {error}"
        ) from None


def _check_container(name: str, value: Any, hint: Any) -> Any:
    """`value` as a mapping, or as a list of plain values or of instances of a dataclass."""
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
    "own": False,
    "libraries": (),
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
        return one_of(meta["choices"], meta["own"], meta["libraries"])
    signs = {"above": ">", "at_least": ">=", "at_most": "<=", "below": "<"}
    return " and ".join(
        f"{signs[name]} {bound:g}" for name, bound in meta["bounds"].items() if bound is not None
    )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else str(name)
