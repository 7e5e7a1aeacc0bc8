"""The keys of a command, apart from those of its experiments."""

import functools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from simclr_ablate.calls import unquoted
from simclr_ablate.config import ConfigError, KeyInfo, key, keys, unknown_key
from simclr_ablate.looks import LOOKS
from simclr_ablate.paths import config_folder
from simclr_ablate.plan.launchers import LAUNCHERS
from simclr_ablate.schema import METRICS, Experiment

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Hydra and OmegaConf are imported where they are used: neither --help nor completion waits for them.


def objective_metrics(protocol: str, metric: str = "top1", several: bool = False) -> list[str]:
    """The accuracies that an evaluation by one of our protocols has, all in percent, higher is better.

    metric: `data.metric`. several: whether images have several labels.
    """
    if protocol == "probe":
        return ["probe_validation_accuracy", "probe_accuracy"]
    usual = [] if several else ["top1", "top5"]
    neighbours = [f"knn_{metric}" if several else "knn_top1"] if protocol == "linear" else []
    return list(dict.fromkeys([f"validation_{metric}", metric, *usual, *neighbours]))


_OBJECTIVES = dict.fromkeys(
    chain.from_iterable(
        objective_metrics(protocol, metric, several)
        for metric, several in (*((metric, False) for metric in METRICS), ("map11", True))
        for protocol in ("linear", "probe")
    )
)
"""Every metric that some evaluation has, in order."""


@dataclass(frozen=True)
class CommandKeys:
    """Keys that say what a command does with its experiments."""

    store: str = key("folder of the runs")
    cache: str | None = key("folder of decoded images; null: $SIMCLR_ABLATE_CACHE or ~/.cache")
    dry_run: bool = key("print the plan and start nothing")
    objective_metric: str = key(
        "metric that a run returns to a Hydra sweeper such as Optuna's: percent, higher is better, "
        "so give hydra.sweeper.direction=maximize",
        choices=tuple(_OBJECTIVES),
    )
    until: str | None = key(
        "decided: go on with more seeds where they decide findings of the paper; null: stop after those asked for",
        choices=("decided",),
        default=None,
    )
    budget_hours: float | None = key(
        "with until=decided, how long to go on, hours; null: no limit. On a cluster, the sum over the runs",
        above=0,
        default=None,
    )
    max_seeds: int = key(
        "with until=decided, how many seeds an experiment may have",
        at_least=LOOKS[0],
        at_most=LOOKS[-1],
        default=LOOKS[-1],
    )


COMMAND = (*(info.name for info in keys(CommandKeys)), "launcher")
"""Top-level keys that have one value for the whole command, however many experiments it has."""

TRACKER = "tracker"
"""The section of experiments that has one value for the whole command, since it changes no run."""

CHOICES = ("scale", "sweep")
"""Top-level keys that shape experiments but are not part of one."""

EXPERIMENT_SECTIONS = tuple(Experiment.__dataclass_fields__)
"""Top-level keys of the composed config that make up an experiment."""


def launcher_keys() -> list[KeyInfo]:
    """The keys of all launchers; a key that two launchers share is listed once."""
    infos: dict[str, KeyInfo] = {}
    for options in LAUNCHERS.values():
        for info in keys(options, "launcher"):
            infos.setdefault(info.name, info)
    return list(infos.values())


def known_keys() -> list[str]:
    """Every key and section that a config can have; for `scale` and `sweep`, only the section."""
    named = [info.name for info in (*keys(Experiment), *keys(CommandKeys), *launcher_keys())]
    sections = dict.fromkeys(name.split(".")[0] for name in named if "." in name)
    return [*named, *sections, *CHOICES]


def check_top_level(config: Mapping[str, Any]) -> None:
    """Raises ConfigError if the composed config has an unknown top-level key, wherever it comes from."""
    for name, value in config.items():
        if name not in (*EXPERIMENT_SECTIONS, *COMMAND, *CHOICES):
            full = next(leaves(value, str(name)), str(name))
            raise ConfigError(unknown_key(full, known_keys()))


def interpolations(config: "DictConfig", sections: Collection[str]) -> list[str]:
    """Values under these top-level keys that refer to other keys, as written: `${optimizer.lr}`, `${.lr}`."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    values = _values([plain.get(name) for name in sections])
    return [value for value in values if isinstance(value, str) and "${" in value]


def refers_beyond_scale(config: "DictConfig", sections: Collection[str]) -> bool:
    """Whether a value under these top-level keys refers to anything but a plain value of the scale."""
    references = interpolations(config, sections)
    return any(not _OF_SCALE.fullmatch(text) for text in references) or (
        bool(references) and bool(interpolations(config, ["scale"]))
    )


_OF_SCALE = re.compile(r"\$\{scale\.\w+\}")


def without_hydra(config: "DictConfig") -> "DictConfig":
    """The config without Hydra's section."""
    from omegaconf import OmegaConf

    return OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])


def check_scale(config: "DictConfig", references: Sequence[str] = ()) -> None:
    """Raises ConfigError if the scale has a key that our scales don't have and that no `${scale.KEY}` refers to.

    config: unresolved. references: interpolations beyond those in the config.
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
    from omegaconf import OmegaConf

    files = (config_folder("conf") / "scale").glob("*.yaml")
    return frozenset(str(name) for file in files for name in OmegaConf.load(file).scale)


def check_swept(name: str, values: Sequence[Any]) -> None:
    """Raises ConfigError if the key `name` holds for the whole command. values: those it was given."""
    if top_level(name) in (*COMMAND, TRACKER):
        listed = ", ".join(map(str, values))
        raise ConfigError(
            f"{name} holds for the whole command and cannot be swept, got {listed}: "
            f"{_in_one_command(name, values)}"
        )


def _in_one_command(name: str, values: Sequence[Any]) -> str:
    if name in (TRACKER, f"{TRACKER}.names"):
        return f"for several trackers at once, give tracker=[{','.join(map(str, values))}]"
    return "give a command for each value"


def top_level(name: str) -> str:
    """The top-level key of `name`, which may be dotted, a Hydra group, or prefixed with `+` or `~`."""
    return name.lstrip("+~").split("@")[0].split(".")[0].split("/")[0]


DATA_GROUP = "data@evaluation.data"
"""The Hydra group behind `evaluation.data=NAME`."""


def with_groups(arguments: Sequence[str]) -> list[str]:
    """The command line with `evaluation.data=NAME` spelled as a Hydra group; null, which no group has, is dropped.

    `tracker=[NAME,NAME]` is spelled as a key, since a group has one option.
    """
    spelled = [re.sub(r"^(\+\+)?evaluation\.data=", f"{DATA_GROUP}=", each) for each in arguments]
    spelled = [re.sub(rf"^(\+\+)?{TRACKER}=(?=\[)", f"{TRACKER}.names=", each) for each in spelled]
    last = max((k for k, each in enumerate(spelled) if each == f"{DATA_GROUP}=null"), default=-1)
    return [e for k, e in enumerate(spelled) if k > last or not e.startswith(f"{DATA_GROUP}=")]


def told_of_experiments(arguments: Sequence[str]) -> tuple[str, ...]:
    """The command line's overrides that concern experiments, as given, without the sweep."""
    spelled = (
        re.sub(rf"^(\+\+)?{re.escape(DATA_GROUP)}=", r"\1evaluation.data=", unquoted(a))
        for a in arguments
    )
    return tuple(
        a
        for a in spelled
        if top_level(a.split("=")[0]) not in (*COMMAND, TRACKER, "sweep", "hydra")
    )


def misspelled_key(arguments: Sequence[str]) -> str | None:
    """A message for the first `key=value` with an unknown key, in place of Hydra's less helpful one; or None.

    Added keys (`+key`) are checked once they are composed, because they may be groups of the user's own.
    """
    if {"-sc", "--shell-completion"}.intersection(arguments):
        return None  # its argument is Hydra's: install=bash
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
    """A message for the first `group=value` with a value that is not a name, or None. Hydra would show a traceback."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    of_ours = (path.name for path in config_folder("conf").iterdir() if path.is_dir())
    groups = {*of_ours, "sweep"}
    for argument in arguments:
        name = argument.partition("=")[0].lstrip("+")
        if "=" not in argument or argument.startswith("-") or name.split("@")[0] not in groups:
            continue
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException:
            continue  # Hydra reports it itself
        values = [override.value()]
        if override.is_sweep_override():
            # Which sweeps a pattern names is found out later, and so is whether each is one.
            listed = override.is_choice_sweep() and name != "sweep"
            values = list(override.sweep_iterator()) if listed else []
            if name == TRACKER:
                told = ", ".join(map(str, values))
                return f"{name} must be one tracker, got {told}: {_in_one_command(name, values)}"
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
    """The dotted keys of a mapping's values, below `path`; `path` itself if the value is not a mapping."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}")
    else:
        yield path
