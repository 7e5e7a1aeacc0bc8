"""The experiments of a sweep: the union of its grids, multiplied by seeds and by the command line's `key=a,b`.

Composing one config through Hydra takes about 50 ms. So each distinct choice of groups is composed once, and plain
values are set on copies. If keys refer to others, values are set before references are resolved, so the references
follow.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from simclr_ablate.config import ConfigError, keys, unknown_key
from simclr_ablate.overrides import literal
from simclr_ablate.plan.keys import (
    CHOICES,
    COMMAND,
    DATA_GROUP,
    EXPERIMENT_SECTIONS,
    check_swept,
    check_top_level,
    is_no_option,
    refers_beyond_scale,
    top_level,
    without_hydra,
)
from simclr_ablate.schema import Experiment

Values = dict[str, Any]


@dataclass
class Grids:
    """What a sweep varies: grids, each a mapping of keys to lists of values, and seeds."""

    grids: list[dict[str, list[Any]]] = field(default_factory=lambda: [{}])
    seeds: list[int] | None = None

    @classmethod
    def from_config(cls, sweep: Mapping[str, Any] | None) -> "Grids":
        """Reads the `sweep` section. Raises ConfigError if it is not a sweep."""
        if sweep is None:
            return cls()
        # A sweep with `select` needs no grids of its own.
        grids = sweep.get("grids", [] if "select" in sweep else None)
        seeds = None if sweep.get("seeds") is None else _as_list(sweep["seeds"])
        if seeds is not None:
            _check_varied("seeds", seeds, "sweep")
        return cls(read_grids(grids, "sweep.grids"), seeds)

    def points(self, fixed: Sequence[str]) -> Iterator[Values]:
        """Every point of every grid. fixed: keys set on the command line, which overrides the grids."""
        for grid in self.grids:
            free = {name: values for name, values in grid.items() if name not in fixed}
            if self.seeds is not None and "seed" not in fixed and "seed" not in free:
                free["seed"] = self.seeds
            for values in itertools.product(*free.values()):
                yield dict(zip(free, values, strict=True))


def read_grids(grids: Any, path: str) -> list[dict[str, list[Any]]]:
    """The checked grids, with a list for each key. path: the grids' key, for messages. Raises ConfigError."""
    if not isinstance(grids, list) or not all(isinstance(grid, Mapping) for grid in grids):
        raise ConfigError(f"{path} must be a list of mappings of keys, got {grids!r}")
    listed = [
        {DATA_GROUP if k == "evaluation.data" else str(k): _as_list(v) for k, v in grid.items()}
        for grid in grids
    ]
    for name, values in ((k, v) for grid in listed for k, v in grid.items()):
        _check_varied(name, values, path)
    return listed


def _check_varied(name: str, values: list[Any], path: str) -> None:
    """Raises ConfigError if a grid cannot vary this key or these values. path: the grids' key."""
    if not values:
        raise ConfigError(f"{path}: {name} must have at least one value, got []")
    nested = next((value for value in values if isinstance(value, Mapping | list)), None)
    if isinstance(nested, Mapping):
        dotted = ", ".join(f"{name}.{inner}" for inner in nested) or f"{name}.KEY"
        raise ConfigError(f"{path}: {name} must be written as {dotted}, got a mapping: {nested!r}")
    if nested is not None:
        raise ConfigError(f"{path}: {name} must have single values, got the list {nested!r}")
    check_swept(name, values)
    if name.startswith(("++", "~")):
        raise ConfigError(
            f"{path}: {name} must be written without {name[0]}, as {name.lstrip('+~')}"
        )
    if name == "scale" or top_level(name) == "sweep":
        raise ConfigError(
            f"{path}: {name} cannot be varied in a sweep, because the sweep's values come from it: "
            f"give -m {name}={','.join(map(str, values))}"
        )
    if top_level(name) == "hydra":
        raise ConfigError(
            f"{path}: {name} cannot be varied in a sweep, because it is Hydra's and holds for the whole command"
        )


class Composer:
    """Turns points of a grid into experiments.

    compose: returns the config that Hydra composes from a list of overrides.
    is_group: tells whether a key names a config group.
    """

    def __init__(
        self, compose: Callable[[list[str]], DictConfig], is_group: Callable[[str], bool]
    ) -> None:
        self._compose = compose
        self._is_group = is_group
        self._bases: dict[tuple[str, ...], _Base] = {}

    def experiment(self, point: Values) -> Experiment:
        """The checked experiment at `point`. Raises ConfigError."""
        for name, value in point.items():
            self._check_option(name, value)
        plain = {name: value for name, value in point.items() if self._is_plain(name)}
        through_hydra = {
            name: value
            for name, value in point.items()
            # null means the experiment's own data set, which is the default.
            if name not in plain and not (name == DATA_GROUP and value is None)
        }
        return Experiment.from_config(self._base(overrides_of(through_hydra)).at(plain))

    def _check_option(self, name: str, value: Any) -> None:
        if self._is_group(name) and is_no_option(value) and name != DATA_GROUP:
            raise ConfigError(f"{name} must be the name of a config file, got {literal(value)}")

    def _is_plain(self, name: str) -> bool:
        """Whether the key's value can be set on a config that was composed without it."""
        prefixed = name.lstrip("+~") != name
        return not prefixed and not self._is_group(name) and top_level(name) in EXPERIMENT_SECTIONS

    def _base(self, overrides: tuple[str, ...]) -> "_Base":
        if overrides not in self._bases:
            default = self._base(()).command if overrides else None
            self._bases[overrides] = _Base(self._compose(list(overrides)), overrides, default)
        return self._bases[overrides]


class _Base:
    """A composed config on which plain values are set.

    overrides: those it was composed with. command: a resolved config with the keys that hold for the whole command;
    None: this config. Raises ConfigError if this config has other values for those keys.
    """

    def __init__(
        self,
        config: DictConfig,
        overrides: tuple[str, ...],
        command: Mapping[str, Any] | None,
    ) -> None:
        resolved = resolve(config)
        self.command = resolved if command is None else command
        self._overrides = overrides
        self._sections = self._checked(resolved, overrides)
        self._config = config
        names = [name for name in resolved if name not in CHOICES]
        self._follows = refers_beyond_scale(config, names)

    def at(self, values: Values) -> dict[str, Any]:
        """The experiment's sections with these values. Raises ConfigError."""
        sections = copy.deepcopy(self._sections)
        for name, value in values.items():
            _set(sections, name, value)
        references = any(isinstance(value, str) and "${" in value for value in values.values())
        if not self._follows and not references:
            return sections
        config = without_hydra(self._config)
        for name, value in values.items():
            OmegaConf.update(config, name, value)
        return self._checked(resolve(config), (*self._overrides, *overrides_of(values)))

    def _checked(self, config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
        """The experiment's sections. Raises ConfigError if the overrides change anything else, as a group may."""
        check_top_level(config)
        check_command(config, self.command, overrides)
        return {name: config[name] for name in EXPERIMENT_SECTIONS if name in config}


def check_command(
    config: Mapping[str, Any], command: Mapping[str, Any], overrides: Sequence[str]
) -> None:
    """Raises ConfigError if a resolved config changes a key that holds for the whole command.

    command: the resolved config of the command. overrides: those that `config` was composed with.
    """
    changed = [name for name in COMMAND if config.get(name) != command.get(name)]
    if changed:
        raise ConfigError(
            f"{' '.join(overrides)} changes {changed[0]}, which must be the same for all experiments "
            "of a sweep: give a command for each value"
        )


def expand(
    composer: Composer, grids: Grids, swept: Mapping[str, list[Any]], fixed: Sequence[str]
) -> list[Experiment]:
    """All experiments of a sweep, in order, without duplicates. Raises ConfigError at the first invalid one.

    swept, fixed: see `multiplied`.
    """
    points = multiplied(grids, swept, fixed)
    return list(dict.fromkeys(composer.experiment(point) for point in points))


def multiplied(
    grids: Grids, swept: Mapping[str, list[Any]], fixed: Sequence[str]
) -> Iterator[Values]:
    """Every point of every grid with every combination of the command line's values.

    swept: keys that the command line sweeps (`key=a,b`). fixed: keys that it sets. Both override the grids.
    """
    for point in grids.points([*fixed, *swept]):
        for values in itertools.product(*swept.values()):
            yield {**point, **dict(zip(swept, values, strict=True))}


def experiment_sections(config: DictConfig) -> dict[str, Any]:
    """The sections of a composed config that make up an experiment, with interpolations resolved."""
    resolved = resolve(config)
    return {name: resolved[name] for name in EXPERIMENT_SECTIONS if name in resolved}


def resolve(config: DictConfig) -> dict[str, Any]:
    """The config as plain containers, resolved, without Hydra's section."""
    return OmegaConf.to_container(without_hydra(config), resolve=True)  # type: ignore[return-value]


def split_overrides(overrides: Sequence[Override]) -> tuple[dict[str, list[str]], list[Override]]:
    """Separates `key=a,b` sweeps (as lists of texts) from plain overrides. If a key is given twice, the last counts.

    Raises ConfigError if a sweep has no values, or values that cannot be listed.
    """
    swept: dict[str, list[str]] = {}
    plain = []
    for override in overrides:
        # `++` before the name sets an existing key, just as a bare name does.
        name = override.get_key_element().removeprefix("++")
        swept.pop(name, None)
        if override.is_sweep_override():
            swept[name] = listed(override)
        else:
            plain.append(override)
    return swept, plain


def listed(override: Override) -> list[str]:
    """The values of a sweep, as texts of an override. Raises ConfigError if there are none."""
    name, line = override.get_key_element(), override.input_line
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{name} must have values that can be listed, such as 1,2 or range(1,3), got {line}: only "
            "sweepers that draw values, such as hydra/sweeper=optuna, take an interval"
        )
    texts = list(override.sweep_string_iterator())
    if not texts:
        raise ConfigError(f"{name} must have at least one value, got {line}")
    values = override.sweep_iterator()
    mapping = next((value for value in values if isinstance(value, Mapping)), None)
    if mapping is not None:
        inner = next(iter(mapping), "KEY")
        raise ConfigError(f"{name} must be swept key by key, such as {name}.{inner}, got {line}")
    return texts


def value_of(text: str) -> Any:
    """The value that `text` means in an override."""
    return OverridesParser.create().parse_override(f"key={text}").value()


def overrides_of(values: Values) -> tuple[str, ...]:
    """The values as Hydra overrides."""
    return tuple(f"{name}={literal(value)}" for name, value in values.items())


def _set(config: dict[str, Any], name: str, value: Any) -> None:
    *parents, last = name.split(".")
    node: Any = config
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        raise ConfigError(unknown_key(name, [info.name for info in keys(Experiment)]))
    node[last] = value


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
