"""Settings: groups of runs that differ only in what a sweep varies.

Nothing else is ever averaged over.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.statistics import Accuracies
from simclr_ablate.schema import keys as schema_keys

DESCRIBED = (
    *("data.label", "data.name", "data.limit", "encoder.architecture", "encoder.width"),
    *("optimizer.epochs", "optimizer.batch_size"),
)
"""The keys that a setting's description tells in words."""


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
        """For captions: `shapes, ResNet-8, 6 epochs, batch size 256`, and what else is special."""
        config = self.config
        special = {key: value for key, value in self.special.items() if key not in DESCRIBED}
        width = config["encoder.width"]
        limit = config["data.limit"]
        parts = [
            self.label + (f" ({limit:,} training images)" if limit else ""),
            config["encoder.architecture"].replace("resnet", "ResNet-")
            + (f" ({width}x)" if width > 1 else ""),
            count(config["optimizer.epochs"], "epoch"),
            f"batch size {config['optimizer.batch_size']:,}",
            *(f"{key}={'null' if value is None else value}" for key, value in special.items()),
        ]
        return ", ".join(parts)


def settings(runs: pd.DataFrame, artefact: str, free: Iterable[str]) -> list[Setting]:
    """The settings among `runs`, by name: all identity keys are equal in one but those in `free`.

    `free` names keys (`views.first`) or groups of them (`views`). A setting is named by artefact
    and data label, and by a hash of its config as well where two would share a name.
    """
    keys = fixed_keys(free)
    places = defaultdict(list)
    for place, values in enumerate(_values(runs, keys)):
        places[values].append(place)
    configs = [dict(zip(keys, values, strict=True)) for values in places]
    slugs = [_slug(f"{artefact}-{data_label(config)}") for config in configs]
    result = []
    for config, slug, chosen in zip(configs, slugs, places.values(), strict=True):
        rivals = [other for other, name in zip(configs, slugs, strict=True) if name == slug]
        name = slug if len(rivals) == 1 else f"{slug}-{_digest(config)}"
        special = {
            key: value
            for key, value in config.items()
            if any(rival[key] != value for rival in rivals)
        }
        result.append(Setting(name, config, special, runs.iloc[chosen]))
    return sorted(result, key=lambda setting: setting.name)


def matching(runs: pd.DataFrame, config: Mapping[str, Any], free: Iterable[str]) -> pd.DataFrame:
    """The rows of `runs` that equal `config` in every identity key but those that are `free`."""
    keys = fixed_keys(free)
    wanted = tuple(config[key] for key in keys)
    return runs.iloc[[place for place, row in enumerate(_values(runs, keys)) if row == wanted]]


def fixed_keys(free: Iterable[str]) -> list[str]:
    """The config keys that count towards a run's identity, less those that are `free`."""
    free = tuple(free)
    return [
        key.name
        for key in schema_keys()
        if key.identity
        and not any(key.name == name or key.name.startswith(f"{name}.") for name in free)
    ]


def accuracies(runs: pd.DataFrame) -> Accuracies | None:
    """Top-1 by seed of `runs`, or None where there is none.

    Runs of one seed that differ in something free, such as random encoders that belong to several
    sweeps, count once, with their mean: they are not further seeds.
    """
    runs = runs[runs["top1"].notna()]
    if runs.empty:
        return None
    by_seed = runs.groupby("seed")["top1"].mean().to_dict()
    return Accuracies(by_seed, float(runs["test_images"].iloc[0]), tuple(runs["run_id"]))


def data_label(config: Mapping[str, Any]) -> str:
    return str(config["data.label"] or config["data.name"])


def count(number: int, noun: str) -> str:
    """`1 seed`, `1,000 epochs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def seed_range(seeds: Iterable[int]) -> str:
    """How many seeds stand behind the numbers: `1 seed`, `3 seeds`, `2 to 3 seeds a cell`."""
    found = sorted(set(seeds))
    if len(found) > 1:
        return f"{found[0]} to {count(found[-1], 'seed')} a cell"
    return count(found[0], "seed")


def _values(runs: pd.DataFrame, keys: list[str]) -> list[tuple[Any, ...]]:
    """The rows as plain Python values, None for what is missing, so that they compare and hash."""
    chosen = runs[keys]
    plain = chosen.astype(object).where(chosen.notna(), None)
    return list(plain.itertuples(index=False, name=None))


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:6]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
