"""Reading and checking the sweeps that a command names: our own YAML, the user's, and unions of sweeps."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from simclr_ablate.artefact import OF_PAPER
from simclr_ablate.config import ConfigError, nearest, unknown_key
from simclr_ablate.overrides import override
from simclr_ablate.paths import config_folder, expanded
from simclr_ablate.plan.grid import Grids, listed, overrides_of, resolve
from simclr_ablate.plan.keys import interpolations, refers_beyond_scale, top_level
from simclr_ablate.plan.selection import Rule
from simclr_ablate.plan.yaml_files import line_in_sweep, read_yaml

SUFFIXES = (".yaml", ".yml")
_NAME = re.compile(r"[^\W.][^/\\\x00-\x1f\x7f]*")
_LONGEST_NAME = 200
"""In bytes. A file name may have 255, but a record's also contains a digest."""


KEYS = ("name", "artefact", "seeds", "grids", "select", "sweeps")
"""The keys of the section `sweep`."""


def chosen(override: Override | None) -> list[str] | None:
    """The sweeps that `sweep=a,b`, `sweep=[a,b]` or `sweep=glob(*)` names; None for a single sweep or none.

    Raises ConfigError for a list of anything else.
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
    """The name and section of each of these sweeps, with each union replaced by its parts. Raises ConfigError.

    read: returns the composed section of a sweep by its name.
    """
    for name in names:
        if name in within:
            raise ConfigError(f"sweep.sweeps: {name} unites itself, through {' and '.join(within)}")
        section = checked(read(name), name)
        if "sweeps" not in section:
            yield section["name"], section
            continue
        if "grids" in section or "select" in section:
            raise ConfigError(
                f"a sweep must have either grids of its own or sweeps to unite, got both in {name}"
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
    """The section of a sweep, with its `name`, which defaults to the file's. Raises ConfigError if it is not a sweep.

    origin: the name or file as given by the user.
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
            "sweep.name must be a valid file name that begins with a letter, a digit or _, "
            f"got {name!r} in {origin}"
        )
    artefact = section.get("artefact")
    if isinstance(artefact, str) and artefact not in OF_PAPER:
        raise ConfigError(
            f"sweep.artefact must be a mapping, which defines one, or the name of one of the paper's "
            f"({', '.join(OF_PAPER)}), got {artefact!r} in {origin}{nearest(artefact, OF_PAPER)}"
        )
    return {**section, "name": name}


class Sections:
    """The composed sections of sweeps, each composed with the command's own lines.

    composed: returns the config that lines compose to. chosen: the sweep in that config, as a file of the user's or
    the command line names it, if one does. folders: where Hydra looks for config files.
    """

    def __init__(
        self,
        composed: Callable[[tuple[str, ...]], DictConfig],
        chosen: str | None,
        folders: Sequence[str] = (),
    ) -> None:
        self._composed, self._folders = composed, folders
        self.chosen = str(chosen or "sweep")

    def config(self, lines: tuple[str, ...]) -> dict[str, Any]:
        """The whole config, resolved. Raises ConfigError if an interpolation in the chosen sweep leads nowhere."""
        with self._told(self.chosen):
            return resolve(self._composed(lines))

    def read(self, name: str, lines: tuple[str, ...]) -> Any:
        """The resolved section of the named sweep. Raises ConfigError if an interpolation leads nowhere."""
        with self._told(name):
            return OmegaConf.to_container(self._with(name, lines).sweep, resolve=True)

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Turns OmegaConf's errors in the named sweep's section into ConfigErrors that name the line of its file."""
        try:
            yield
        except OmegaConfBaseException as error:
            key, file = str(error.full_key), self.file(name)
            if file is None or not key.startswith("sweep."):
                raise
            path = [
                int(place) if place else step
                for step, place in re.findall(r"([^.\[\]]+)|\[(\d+)\]", key)
            ]
            where = f"sweep={name}"
            line = line_in_sweep(file, where, path[1:])
            problem = str(error.msg or error).partition("\n")[0].strip()
            raise ConfigError(f"{where}, line {line}: {key}: {problem}") from error

    def file(self, name: str) -> Path | None:
        """The YAML file of the named sweep; None for one that lies nowhere as a file of that name."""
        if name.endswith(SUFFIXES):
            return expanded(name, "sweep")
        files = (Path(folder, "sweep", f"{name}.yaml") for folder in self._folders)
        return next(filter(Path.is_file, files), None)

    def all(self, names: Sequence[str], lines: tuple[str, ...]) -> list[str]:
        """These names, and those of the sweeps that they unite. Raises ConfigError."""
        asked: dict[str, None] = {}

        def read(name: str) -> Any:
            asked[name] = None
            return self.read(name, lines)

        for _ in parts(read, names):
            pass
        return list(asked)

    def references(self, names: Sequence[str], lines: tuple[str, ...]) -> list[str]:
        """The interpolations in the sweeps' values, as written."""
        return [
            text for name in names for text in interpolations(self._with(name, lines), ["sweep"])
        ]

    def referred(
        self, name: str, lines: tuple[str, ...], varied: Mapping[str, Sequence[Any]]
    ) -> list[str]:
        """The keys among `varied` that change the sweep's own values. varied: keys and their values."""
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
        """Raises ConfigError if a sweep's values refer to a key that the sweep varies, since they are resolved once.

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
        """The unresolved config with that sweep in it."""
        own = () if name == self.chosen else (override("sweep", name),)
        return self._composed((*lines, *own))


def register_sweeps() -> None:
    """Registers our own sweeps with Hydra."""
    for path in sorted(config_folder("sweeps").glob("*.yaml")):
        node = read_yaml(path, f"sweep={path.stem}")
        ConfigStore.instance().store(group="sweep", name=path.stem, node=node)


def register_files(arguments: Sequence[str]) -> None:
    """Registers the files that `sweep=FILE.yaml` names with Hydra, which then finds them by that name.

    Raises ConfigError if a file does not exist or is not YAML.
    """
    for argument in arguments:
        if argument.lstrip("+").partition("=")[0] != "sweep":
            continue
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException:
            continue  # Hydra reports it itself
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
