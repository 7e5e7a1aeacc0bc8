"""Settings: groups of runs that differ only in what a sweep varies.

Nothing else is ever averaged over.
"""

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.statistics import Accuracies
from simclr_ablate.config import keys as schema_keys
from simclr_ablate.schema import Experiment
from simclr_ablate.terminal import count, printable

DESCRIBED = (
    *("data.label", "data.name", "data.limit", "encoder.architecture", "encoder.width"),
    *("optimizer.epochs", "optimizer.batch_size"),
)
"""The keys that a setting's description tells in words."""

LONGEST = 200
"""Characters of what a user chose that are shown."""
LONGEST_NAME = 100
"""Characters of a file's name, without what tells it from others and its ending."""

# An untrained encoder's h depends on nothing but its data, its shape and its evaluation; its z on
# the head as well.
RANDOM_FREE = {
    "h": ("objective", "views", "loss", "head", "optimizer", "seed"),
    "z": ("objective", "views", "loss", "optimizer", "seed"),
}


@dataclass(frozen=True)
class Setting:
    """The runs of one setting.

    `name` is a file name without its ending. `config` holds the keys that all the runs share, and
    `special` those of them that tell the setting from others on the same data (empty if alone).
    """

    name: str
    config: dict[str, Any]
    special: dict[str, Any]
    runs: pd.DataFrame

    @property
    def label(self) -> str:
        return data_label(self.config)

    @property
    def description(self) -> str:
        """For captions: `shapes, ResNet-8, 6 epochs, batch size 256`, and what else is special.

        What the setting leaves free is not told.
        """
        config = self.config
        special = {key: value for key, value in self.special.items() if key not in DESCRIBED}
        limit = config["data.limit"]
        parts = [self.label + (f" ({limit:,} training images)" if limit else "")]
        if "encoder.width" in config:
            parts.append(encoder_name(config["encoder.architecture"], config["encoder.width"]))
        if "optimizer.epochs" in config:
            parts.append(count(config["optimizer.epochs"], "epoch"))
        if "optimizer.batch_size" in config:
            parts.append(f"batch size {config['optimizer.batch_size']:,}")
        parts += [f"{key}={_told(value)}" for key, value in special.items()]
        return ", ".join(parts)


def settings(
    runs: pd.DataFrame, artefact: str, free: Iterable[str], least: int = 1
) -> list[Setting]:
    """The settings among `runs`, by name: all identity keys are equal in one but those in `free`.

    `free` names keys (`views.first`) or groups of them (`views`). Settings in which what is free,
    seeds aside, takes fewer than `least` values are left out.
    """
    free = tuple(free)
    keys = fixed_keys(free)
    places: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for place, values in enumerate(plain_values(runs, keys)):
        places[values].append(place)
    if least > 1:
        varied = plain_values(runs, [key for key in fixed_keys(("seed",)) if key not in keys])
        places = {
            values: chosen
            for values, chosen in places.items()
            if len({varied[place] for place in chosen}) >= least
        }
    configs = [dict(zip(keys, values, strict=True)) for values in places]
    return named(artefact, configs, [runs.iloc[chosen] for chosen in places.values()])


def named(
    artefact: str, configs: Sequence[Mapping[str, Any]], runs: Sequence[pd.DataFrame]
) -> list[Setting]:
    """Settings of these configs and runs, by name.

    A setting is named by artefact and data label, and by a hash of its config as well where two
    would share a name.
    """
    rivals = defaultdict(list)
    for config, chosen in zip(configs, runs, strict=True):
        rivals[_slug(f"{artefact}-{data_label(config)}")].append((dict(config), chosen))
    result = []
    for slug, group in rivals.items():
        first = group[0][0]
        telling = [
            key
            for key in dict.fromkeys(key for config, _ in group for key in config)
            if any(config.get(key) != first.get(key) for config, _ in group)
        ]
        for config, chosen in group:
            name = slug if len(group) == 1 else f"{slug}-{_digest(config)}"
            special = {key: config[key] for key in telling if key in config}
            result.append(Setting(name, config, special, chosen))
    return sorted(result, key=lambda setting: setting.name)


def pairs(
    artefact: str,
    first: Sequence[Setting],
    second: Sequence[Setting],
    free: Iterable[str],
    word: str,
    belong: Callable[[Setting, Setting], bool] = lambda one, other: True,
    alone: bool = False,
) -> list[Setting]:
    """Settings made of one of `first` and one of `second` that equal it in all but what is `free`.

    Each fitting pair that `belong` together is a setting with the runs of both and the config of
    the first; where that is not enough to tell pairs apart, keys of the second are named after
    `word`. With `alone`, one that has no partner is a setting by itself.
    """
    keys = fixed_keys(free)

    def fit(one: Setting, other: Setting) -> bool:
        return all(one.config.get(k) == other.config.get(k) for k in keys) and belong(one, other)

    chosen = [(one, other) for one in first for other in second if fit(one, other)]
    partnered = {id(setting) for pair in chosen for setting in pair}
    single = [s for s in (*first, *second) if alone and id(s) not in partnered]
    configs = [setting.config for setting in single]
    for one, other in chosen:
        differing = {k: v for k, v in other.config.items() if one.config.get(k) != v}
        configs.append(one.config | {f"{word} {key}": value for key, value in differing.items()})
    runs = [setting.runs for setting in single]
    runs += [pd.concat([one.runs, other.runs]) for one, other in chosen]
    return named(artefact, configs, runs)


def matching(runs: pd.DataFrame, config: Mapping[str, Any], free: Iterable[str]) -> pd.DataFrame:
    """The rows of `runs` that equal `config` in every identity key but those that are `free`."""
    keys = fixed_keys(free)
    wanted = tuple(config[key] for key in keys)
    return runs.iloc[[place for place, row in enumerate(plain_values(runs, keys)) if row == wanted]]


def fixed_keys(free: Iterable[str]) -> list[str]:
    """The config keys that count towards a run's identity, less those that are `free`."""
    free = tuple(free)
    return [
        key.name
        for key in schema_keys(Experiment)
        if key.identity
        and not any(key.name == name or key.name.startswith(f"{name}.") for name in free)
    ]


def random_encoder(runs: pd.DataFrame, setting: Setting) -> Accuracies | None:
    """The random encoders among `runs` on a setting's data, encoder and evaluation, if any.

    Where the features are free, those on h. None also where the setting leaves its encoder free.
    """
    config = {"evaluation.features": "h"} | setting.config
    free = RANDOM_FREE[config["evaluation.features"]]
    if not set(fixed_keys(free)) <= set(config):
        return None
    return accuracies(matching(runs[runs["objective"] == "none"], config, free))


def accuracies(runs: pd.DataFrame, metric: str = "top1", factor: float = 1.0) -> Accuracies | None:
    """Top-1 (or another metric times `factor`) by seed of `runs`, or None where there is none.

    Runs of one seed that differ in something free, such as random encoders that belong to several
    sweeps, count once, with their mean: they are not further seeds.
    """
    found: dict[int, list[float]] = defaultdict(list)
    values = runs[metric].tolist()
    there = [place for place, value in enumerate(values) if value == value]
    if not there:
        return None
    seeds, run_ids = runs["seed"].tolist(), runs["run_id"].tolist()
    for place in there:
        found[seeds[place]].append(values[place])
    by_seed = {seed: factor * math.fsum(found[seed]) / len(found[seed]) for seed in sorted(found)}
    counted = metric in ("top1", "probe_accuracy")
    images = float(runs["test_images"].iloc[there[0]]) if counted else math.nan
    return Accuracies(by_seed, images, tuple(dict.fromkeys(run_ids[place] for place in there)))


def encoder_name(architecture: str, width: int) -> str:
    """`ResNet-50`, `ResNet-50 (4x)`."""
    return architecture.replace("resnet", "ResNet-") + (f" ({width}x)" if width > 1 else "")


def data_label(config: Mapping[str, Any]) -> str:
    return shown(str(config["data.label"] or config["data.name"]))


def shown(text: str) -> str:
    """What a user chose to call something, on one line, and with its middle left out where it is very long."""
    text = printable(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 41]}…{text[-40:]}"


def _told(value: Any) -> str:
    return "null" if value is None else shown(str(value))


def seed_range(seeds: Iterable[int]) -> str:
    """How many seeds stand behind the numbers: `1 seed`, `3 seeds`, `2 to 3 seeds a cell`."""
    found = sorted(set(seeds))
    if len(found) > 1:
        return f"{found[0]} to {count(found[-1], 'seed')} a cell"
    return count(found[0], "seed")


def plain_values(runs: pd.DataFrame, keys: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows as plain Python values, so that they compare and hash.

    None is for what is missing, also where the runs do not have the key.
    """
    if not keys:
        return [()] * len(runs)
    return list(zip(*(_plain_column(runs, key) for key in keys), strict=True))


def _plain_column(runs: pd.DataFrame, key: str) -> list[Any]:
    """Column by column is quicker than a frame of objects, above all for the many short ones."""
    if key not in runs:
        return [None] * len(runs)
    values, missing = runs[key].tolist(), runs[key].isna().tolist()
    if True not in missing:
        return values
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:6]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:LONGEST_NAME].strip("-")
