"""What a command's `sweep` names: sections of our own YAML, of the user's, or unions of them, checked and by name."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from simclr_ablate.config import ConfigError, unknown_key
from simclr_ablate.launch.grid import Grids, listed, overrides_of
from simclr_ablate.launch.keys import interpolations, refers_beyond_scale, top_level
from simclr_ablate.launch.selection import Rule
from simclr_ablate.launch.yaml_files import read_yaml
from simclr_ablate.overrides import override
from simclr_ablate.paths import config_folder, expanded

SUFFIXES = (".yaml", ".yml")
_NAME = re.compile(r"[^\W.][^/\\\x00-\x1f\x7f]*")
_LONGEST_NAME = 200
"""Bytes, of the 255 that a file's name may have: a record's has a digest, too."""


KEYS = ("name", "artefact", "seeds", "grids", "select", "sweeps")
"""Of the section `sweep`."""


def chosen(override: Override | None) -> list[str] | None:
    """The sweeps that `sweep=a,b`, `sweep=[a,b]` or `sweep=glob(*)` names; None where it names one, or none.

    Raises ConfigError for a list of something else.
    """
    if override is None or override.is_delete():
        return None
    if override.is_sweep_override():
        names = [_unquoted(text) for text in listed(override)]
    elif isinstance(value := override.value(), list):
        names = value
    else:
        return None
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"sweep must name sweeps, or their files, got {override.input_line}")
    return list(dict.fromkeys(names))


def parts(
    read: Callable[[str], Mapping[str, Any]], names: Sequence[str], within: tuple[str, ...] = ()
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The sweeps of these names, each with its own name and section; of a union, each of its parts in its place.

    read: the composed section of the sweep of a name. Raises ConfigError.
    """
    for name in names:
        if name in within:
            raise ConfigError(f"sweep.sweeps: {name} unites itself, by {' and '.join(within)}")
        section = checked(read(name), name)
        if "sweeps" not in section:
            yield section["name"], section
            continue
        if "grids" in section or "select" in section:
            raise ConfigError(
                f"a sweep has either grids of its own or sweeps that it unites, got both in {name}"
            )
        united = section["sweeps"]
        if (
            not isinstance(united, list)
            or not united
            or not all(isinstance(n, str) for n in united)
        ):
            raise ConfigError(f"sweep.sweeps must be a list of sweeps, got {united!r} in {name}")
        yield from parts(read, united, (*within, name))


def checked(section: Any, origin: str) -> dict[str, Any]:
    """The section of a sweep, with its name: its own, or that of its file. Raises ConfigError for what is none.

    origin: the name, or the file, by which it was asked for.
    """
    if not isinstance(section, Mapping):
        raise ConfigError(f"sweep={origin} must hold a mapping of keys, got {section!r}")
    for known in section:
        if known not in KEYS:
            raise ConfigError(
                f"{unknown_key(f'sweep.{known}', [f'sweep.{each}' for each in KEYS])} in {origin}"
            )
    name = section.get("name", PurePath(origin).stem)
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name.encode()) > _LONGEST_NAME:
        raise ConfigError(
            "sweep.name must be a file's name that begins with a letter, a digit or _, "
            f"got {name!r} in {origin}"
        )
    return {**section, "name": name}


class Sections:
    """The sections of sweeps as they are composed, each beside the command's own lines.

    composed: lines -> the config that they make. chosen: the sweep of that config, as a file of the user's or the
    command line has it, where it names one.
    """

    def __init__(
        self, composed: Callable[[tuple[str, ...]], DictConfig], chosen: str | None
    ) -> None:
        self._composed = composed
        self.chosen = str(chosen or "sweep")

    def read(self, name: str, lines: tuple[str, ...]) -> Any:
        """The section of the sweep of that name, resolved."""
        return OmegaConf.to_container(self._with(name, lines).sweep, resolve=True)

    def all(self, names: Sequence[str], lines: tuple[str, ...]) -> list[str]:
        """The names, and those that unions among them unite. Raises ConfigError."""
        asked: dict[str, None] = {}

        def read(name: str) -> Any:
            asked[name] = None
            return self.read(name, lines)

        for _ in parts(read, names):
            pass
        return list(asked)

    def references(self, names: Sequence[str], lines: tuple[str, ...]) -> list[str]:
        """What values of the sweeps refer to, as they are written."""
        return [
            text for name in names for text in interpolations(self._with(name, lines), ["sweep"])
        ]

    def referred(
        self, name: str, lines: tuple[str, ...], varied: Mapping[str, Sequence[Any]]
    ) -> list[str]:
        """Those of the keys with whose values the sweep's own change. varied: keys and their values."""
        config = self._with(name, lines)
        if not interpolations(config, ["sweep"]):
            return []
        beyond = refers_beyond_scale(config, ["sweep"])
        as_it_is = self.read(name, lines)
        return [
            key
            for key, values in varied.items()
            if (beyond or top_level(key) == "scale")
            and any(
                self.read(name, (*lines, *overrides_of({key: value}))) != as_it_is
                for value in values
            )
        ]

    def check_values(self, name: str, lines: tuple[str, ...], fixed: Sequence[str]) -> None:
        """Raises ConfigError where a sweep's values refer to a key that it varies: they have one value for all.

        fixed: keys that the command line sets.
        """
        section = self.read(name, lines)
        if "sweeps" in section or not interpolations(self._with(name, lines), ["sweep"]):
            return
        grids, rule = Grids.from_config(section), Rule.from_config(section)
        varied = [*grids.grids, {"seed": grids.seeds or []}]
        if rule is not None:
            varied += [*rule.read(), {"seed": [rule.seed]}]
        for grid in varied:
            free = {key: values for key, values in grid.items() if key not in fixed}
            for key in self.referred(name, lines, free):
                raise ConfigError(
                    f"sweep={name} varies {key} and has values that refer to it: write them out, "
                    f"or give -m {key}={','.join(map(str, grid[key]))}"
                )

    def _with(self, name: str, lines: tuple[str, ...]) -> DictConfig:
        """The config with that sweep in it, unresolved."""
        own = () if name == self.chosen else (override("sweep", name),)
        return self._composed((*lines, *own))


def register_sweeps() -> None:
    """Makes our own sweeps known to Hydra."""
    for path in sorted(config_folder("sweeps").glob("*.yaml")):
        node = read_yaml(path, f"sweep={path.stem}")
        ConfigStore.instance().store(group="sweep", name=path.stem, node=node)


def register_files(arguments: Sequence[str]) -> None:
    """Makes the files that `sweep=FILE.yaml` names known to Hydra, which finds them by that name.

    Raises ConfigError for no such file, and for one that is no YAML.
    """
    for argument in arguments:
        if argument.lstrip("+").partition("=")[0] != "sweep":
            continue
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException:
            continue  # Hydra says so itself
        if override.value_type is not None and override.value_type.name in _WITHOUT_FILES:
            continue
        names: list[Any] = chosen(override) or [override.value()]
        for value in names:
            if isinstance(value, str) and value.endswith(SUFFIXES):
                _register_file(value)


_WITHOUT_FILES = ("GLOB_CHOICE_SWEEP", "RANGE_SWEEP", "INTERVAL_SWEEP")


def _register_file(value: str) -> None:
    path = expanded(value, "sweep")
    if not path.is_file():
        raise ConfigError(
            f"sweep must be the name of a sweep or its file, got {value!r}: no such file"
        )
    node = read_yaml(path, f"sweep={value}")
    group = "/".join(["sweep", *filter(None, value.split("/")[:-1])])  # as Hydra looks for it
    ConfigStore.instance().store(group=group, name=Path(value).name, node=node, package="sweep")


def _unquoted(text: str) -> Any:
    value = OverridesParser.create().parse_override(f"sweep={text}").value()
    return value
