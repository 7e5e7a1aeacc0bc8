"""The keys of a command beside those of its experiments: what they mean, and which ones there are."""

import functools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from simclr_ablate.config import ConfigError, KeyInfo, key, keys, unknown_key
from simclr_ablate.launch.launchers import LAUNCHERS
from simclr_ablate.paths import config_folder
from simclr_ablate.schema import Experiment

METRICS = ("validation_top1", "top1", "top5")
METRICS_OF = {
    "linear": (*METRICS, "knn_top1"),
    "probe": ("probe_validation_accuracy", "probe_accuracy"),
}
"""What an evaluation comes to, in percent, higher is better: with most protocols, and with these."""


@dataclass(frozen=True)
class CommandKeys:
    """The keys that say what a command does with its experiments."""

    store: str = key("folder of the runs")
    cache: str | None = key("folder of decoded images; null: $SIMCLR_ABLATE_CACHE or ~/.cache")
    dry_run: bool = key("print the plan and start nothing")
    objective_metric: str = key(
        "what a run returns to a sweeper of Hydra's that chooses, such as Optuna's: percent, higher is better, "
        "so hydra.sweeper.direction=maximize",
        choices=tuple(dict.fromkeys(chain(METRICS, *METRICS_OF.values()))),
    )


COMMAND = (*(info.name for info in keys(CommandKeys)), "launcher")
"""Top-level keys of which a command has one value, however many experiments."""

CHOICES = ("scale", "sweep")
"""Top-level keys from which experiments are made, and which are no part of one."""

EXPERIMENT_SECTIONS = tuple(Experiment.__dataclass_fields__)
"""Top-level keys of the composed config that make up an experiment."""


def launcher_keys() -> list[KeyInfo]:
    """The keys of all launchers; one that two of them have is named once, with the launchers' names."""
    infos: dict[str, KeyInfo] = {}
    for options in LAUNCHERS.values():
        for info in keys(options, "launcher"):
            infos.setdefault(info.name, info)
    return list(infos.values())


def known_keys() -> list[str]:
    """Every key that a config can have, and every section of it; of a scale and a sweep, the section alone."""
    named = [info.name for info in (*keys(Experiment), *keys(CommandKeys), *launcher_keys())]
    sections = dict.fromkeys(name.split(".")[0] for name in named if "." in name)
    return [*named, *sections, *CHOICES]


def check_top_level(config: Mapping[str, Any]) -> None:
    """Raises ConfigError for a top-level key of the composed config that means nothing, wherever it comes from."""
    for name, value in config.items():
        if name not in (*EXPERIMENT_SECTIONS, *COMMAND, *CHOICES):
            full = next(leaves(value, str(name)), str(name))
            raise ConfigError(unknown_key(full, known_keys()))


def interpolations(config: DictConfig, sections: Collection[str]) -> list[str]:
    """Values of these top-level keys that refer to others, as they are written: `${optimizer.lr}`, `${.lr}`."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    values = _values([plain.get(name) for name in sections])
    return [value for value in values if isinstance(value, str) and "${" in value]


def refers_beyond_scale(config: DictConfig, sections: Collection[str]) -> bool:
    """Whether a value of these top-level keys refers to anything but a value of the scale that is fixed itself."""
    references = interpolations(config, sections)
    return any(not _OF_SCALE.fullmatch(text) for text in references) or (
        bool(references) and bool(interpolations(config, ["scale"]))
    )


_OF_SCALE = re.compile(r"\$\{scale\.\w+\}")


def without_hydra(config: DictConfig) -> DictConfig:
    """The app's own keys."""
    return OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])


def check_scale(config: DictConfig, references: Sequence[str] = ()) -> None:
    """Raises ConfigError for a key of the scale that ours don't have, and that nothing refers to as `${scale.KEY}`.

    config: unresolved. references: interpolations besides those in it.
    """
    known = _scale_keys()
    own = [str(name) for name in config if name != "hydra"]
    references = [*interpolations(config, own), *references]
    for name in config.get("scale") or {}:
        reference = re.compile(rf"(scale\W+|\{{\.+){re.escape(str(name))}\b")
        if name not in known and not any(map(reference.search, references)):
            raise ConfigError(
                f"{unknown_key(f'scale.{name}', [f'scale.{each}' for each in known])} (nothing refers to it)"
            )


@functools.cache
def _scale_keys() -> frozenset[str]:
    """The keys of our scales."""
    files = (config_folder("conf") / "scale").glob("*.yaml")
    return frozenset(str(name) for file in files for name in OmegaConf.load(file).scale)


def check_swept(name: str, values: Sequence[Any]) -> None:
    """Raises ConfigError where the key `name` has one value for all experiments. values: what it was to have."""
    if top_level(name) in COMMAND:
        listed = ", ".join(map(str, values))
        raise ConfigError(
            f"{name} holds for the whole command and cannot be swept, got {listed}: "
            "give one command for each"
        )


def top_level(name: str) -> str:
    """The top-level key that `name`, dotted, or a group of Hydra's, or with its prefixes, belongs to."""
    return name.lstrip("+~").split("@")[0].split(".")[0].split("/")[0]


DATA_GROUP = "data@evaluation.data"
"""The group of Hydra's behind `evaluation.data=NAME`."""


def with_groups(arguments: Sequence[str]) -> list[str]:
    """The command line with `evaluation.data=NAME` as Hydra spells it: as a group, which has no value null."""
    spelled = [re.sub(r"^(\+\+)?evaluation\.data=", f"{DATA_GROUP}=", each) for each in arguments]
    last = max((k for k, each in enumerate(spelled) if each == f"{DATA_GROUP}=null"), default=-1)
    return [e for k, e in enumerate(spelled) if k > last or not e.startswith(f"{DATA_GROUP}=")]


def told_of_experiments(arguments: Sequence[str]) -> tuple[str, ...]:
    """The overrides on a command line that say which experiments are run, without the sweep, as they were given."""
    spelled = (
        re.sub(rf"^(\+\+)?{re.escape(DATA_GROUP)}=", r"\1evaluation.data=", a) for a in arguments
    )
    return tuple(
        a for a in spelled if top_level(a.split("=")[0]) not in (*COMMAND, "sweep", "hydra")
    )


def misspelled_key(arguments: Sequence[str]) -> str | None:
    """A message for the first `key=value` whose key nobody could mean, before Hydra's own less helpful one.

    What is added (`+key`) is judged once it is composed: it may be a group of the user's own.
    """
    if {"-sc", "--shell-completion"}.intersection(arguments):
        return None  # what follows is Hydra's own: install=bash
    known = known_keys()
    for argument in arguments:
        name = argument.split("=")[0]
        if "=" not in argument or argument.startswith(("-", "+", "~")) or "@" in name:
            continue
        if name in known or top_level(name) in ("hydra", *CHOICES):
            continue
        return unknown_key(name, known)
    return None


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _values(each)
    else:
        yield value


def misused_group(arguments: Sequence[str]) -> str | None:
    """A message for the first `group=value` whose value is no name, with which Hydra ends in a traceback."""
    groups = {path.name for path in config_folder("conf").iterdir() if path.is_dir()}
    for argument in arguments:
        name = argument.partition("=")[0].lstrip("+")
        if "=" not in argument or argument.startswith("-") or name.split("@")[0] not in groups:
            continue
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException:
            continue  # Hydra says so itself
        values = [override.value()]
        if override.is_sweep_override():
            values = list(override.sweep_iterator()) if override.is_choice_sweep() else []
        of_data = name == DATA_GROUP
        for value in values:
            if is_no_option(value) and not (of_data and value is None):
                name = "evaluation.data" if of_data else name
                return f"{name} must be the name of a config file, got {argument.partition('=')[2]}"
    return None


def is_no_option(value: Any) -> bool:
    """Whether a value cannot name the config file of a group."""
    return value is None or isinstance(value, bool | int | float)


def leaves(value: Any, path: str) -> Iterator[str]:
    """The dotted keys, below `path`, of a value's own values; of one that is no mapping, `path`."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}")
    else:
        yield path
