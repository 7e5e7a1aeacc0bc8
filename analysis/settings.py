"""Settings: groups of runs that differ only in what a sweep varies.

Nothing else is ever averaged over. A key that does not count in a run, such as the strength of colour distortion
without any, differs from none: such a run belongs to every setting that it equals in the keys that do.
"""

import enum
import hashlib
import itertools
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.statistics import Accuracies
from simclr_ablate.schema import DECISIVE, KEYS, counting_keys
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


class Unused(enum.Enum):
    """The value of a key that does not count in a run."""

    UNUSED = "unused"


UNUSED = Unused.UNUSED

Values = tuple[Any, ...]
"""A run's or a setting's values of some keys."""


@dataclass(frozen=True)
class Setting:
    """The runs of one setting.

    `name` is a file name without its ending. `config` holds the keys that all the runs share, where
    UNUSED stands for what counts in none of them, and `special` those that tell the setting from
    others on the same data (empty if alone).
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
        if config.get("optimizer.epochs", UNUSED) is not UNUSED:
            parts.append(count(config["optimizer.epochs"], "epoch"))
        if config.get("optimizer.batch_size", UNUSED) is not UNUSED:
            parts.append(f"batch size {config['optimizer.batch_size']:,}")
        parts += [f"{key}={_told(value)}" for key, value in special.items()]
        return ", ".join(parts)


def settings(
    runs: pd.DataFrame, artefact: str, free: Iterable[str], least: int = 1
) -> list[Setting]:
    """The settings among `runs`, by name: all identity keys that count in its runs are equal in one
    but those in `free`.

    `free` names keys (`views.first`) or groups of them (`views`). Settings in which what is free,
    seeds aside, takes fewer than `least` values are left out. So is one whose own runs, which it
    shares with no other setting, are too few for that, where it shares the others with a setting
    whose own are enough.
    """
    free = tuple(free)
    keys = fixed_keys(free)
    groups = _groups(used_values(runs, keys))
    if least > 1:
        varied = used_values(runs, [key for key in fixed_keys(("seed",)) if key not in keys])
        groups = _telling(groups, varied, least)
    configs = [dict(zip(keys, values, strict=True)) for values in groups]
    return named(artefact, configs, [runs.iloc[chosen] for chosen in groups.values()])


def _telling(
    groups: Mapping[Values, list[int]], varied: Sequence[Values], least: int
) -> dict[Values, list[int]]:
    """The groups that say something: see `settings`."""
    shared_by = Counter(itertools.chain.from_iterable(groups.values()))

    def several(rows: Iterable[int]) -> bool:
        return len({varied[row] for row in rows}) >= least

    alone = {
        values: several(row for row in chosen if shared_by[row] == 1)
        for values, chosen in groups.items()
    }
    told = {row for values, chosen in groups.items() if alone[values] for row in chosen}
    return {
        values: chosen
        for values, chosen in groups.items()
        if alone[values] or (several(chosen) and told.isdisjoint(chosen))
    }


def _groups(rows: Sequence[Values]) -> dict[Values, list[int]]:
    """The largest groups of rows that are equal in what counts in both of any two, as the indices of
    their rows, by all the values that count in one of them."""
    alike: dict[Values, list[int]] = defaultdict(list)
    for row, values in enumerate(rows):
        alike[values].append(row)
    # What counts in a row: rows in which the same does are equal or in different groups.
    patterns: dict[frozenset[int], dict[Values, list[int]]] = defaultdict(dict)
    for values, chosen in alike.items():
        pattern = _pattern(values)
        patterns[pattern][_part(values, pattern)] = chosen
    groups = {}
    for whole in _joined(alike):
        chosen = [
            p for pattern, rows in patterns.items() for p in rows.get(_part(whole, pattern), ())
        ]
        groups[whole] = sorted(chosen)
    return dict(sorted(groups.items(), key=lambda group: group[1]))


def _joined(rows: Iterable[Values]) -> set[Values]:
    """The rows, with any two that are equal in what counts in both made one; without those that became part of one."""
    wholes = set(rows)
    while True:
        patterns: dict[frozenset[int], list[Values]] = defaultdict(list)
        for whole in wholes:
            patterns[_pattern(whole)].append(whole)
        made, parts = set(), set()
        for (one, ones), (other, others) in itertools.combinations(patterns.items(), 2):
            by_common = defaultdict(list)
            for values in others:
                by_common[_part(values, one & other)].append(values)
            for values in ones:
                for partner in by_common[_part(values, one & other)]:
                    both = tuple(
                        b if a is UNUSED else a for a, b in zip(values, partner, strict=True)
                    )
                    made.add(both)
                    parts |= {values, partner} - {both}
        if made <= wholes:
            return wholes - parts
        wholes |= made


def _pattern(values: Values) -> frozenset[int]:
    """The indices of what counts."""
    return frozenset(k for k, value in enumerate(values) if value is not UNUSED)


def _part(values: Values, pattern: frozenset[int]) -> Values:
    return tuple(values[k] for k in sorted(pattern))


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
        telling = [
            key
            for key in dict.fromkeys(key for config, _ in group for key in config)
            if len({config.get(key) for config, _ in group} - {UNUSED}) > 1
        ]
        for config, chosen in group:
            name = slug if len(group) == 1 else f"{slug}-{_digest(config)}"
            special = {key: config[key] for key in telling if config.get(key, UNUSED) is not UNUSED}
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
        return all(_agree(one.config.get(k), other.config.get(k)) for k in keys) and belong(
            one, other
        )

    chosen = [(one, other) for one in first for other in second if fit(one, other)]
    partnered = {id(setting) for pair in chosen for setting in pair}
    single = [s for s in (*first, *second) if alone and id(s) not in partnered]
    configs = [setting.config for setting in single]
    for one, other in chosen:
        differing = {k: v for k, v in other.config.items() if v not in (one.config.get(k), UNUSED)}
        configs.append(one.config | {f"{word} {key}": value for key, value in differing.items()})
    runs = [setting.runs for setting in single]
    runs += [pd.concat([one.runs, other.runs]) for one, other in chosen]
    return named(artefact, configs, runs)


def matching(runs: pd.DataFrame, config: Mapping[str, Any], free: Iterable[str]) -> pd.DataFrame:
    """The rows of `runs` that equal `config` in every identity key that counts in both, but those that are `free`.

    A key that `config` does not have, and that counts in a row, is in the row's way.
    """
    keys = fixed_keys(free)
    rows = used_values(runs, keys)
    wanted = [config.get(key, _ABSENT) for key in keys]
    return runs.iloc[[row for row, values in enumerate(rows) if all(map(_agree, values, wanted))]]


def only_setting(runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` if they are of one setting, seeds aside, else none of them: which is meant, nobody can tell."""
    return runs if len(_groups(used_values(runs, fixed_keys(("seed",))))) == 1 else runs.iloc[:0]


_ABSENT = object()
"""Differs from all values."""


def _agree(one: Any, other: Any) -> bool:
    """Whether two values of a key are equal, or it does not count on one side."""
    return one is UNUSED or other is UNUSED or bool(one == other)


def fixed_keys(free: Iterable[str]) -> list[str]:
    """The config keys that count towards a run's identity, without those that are `free`."""
    free = tuple(free)
    return [
        key.name
        for key in KEYS
        if key.identity
        and not any(key.name == name or key.name.startswith(f"{name}.") for name in free)
    ]


def random_encoder(runs: pd.DataFrame, setting: Setting) -> Accuracies | None:
    """The random encoders among `runs` on a setting's data, encoder and evaluation, if any.

    Where the features are free, those on h. None also where the setting leaves free what counts in
    a random encoder, such as its size.
    """
    config = {"evaluation.features": "h"} | setting.config
    untrained = runs[runs["objective"] == "none"]
    return accuracies(only_setting(matching(untrained, config, ("objective", "seed"))))


def accuracies(runs: pd.DataFrame, metric: str = "top1", factor: float = 1.0) -> Accuracies | None:
    """Top-1 (or another metric times `factor`) by seed of `runs`, or None where there is none.

    Runs of one seed that differ in something free, such as random encoders that belong to several
    sweeps, count once, with their mean: they are not further seeds.
    """
    of_seed: dict[int, list[float]] = defaultdict(list)
    values = runs[metric].tolist()
    there = [row for row, value in enumerate(values) if value == value]
    if not there:
        return None
    seeds, run_ids = runs["seed"].tolist(), runs["run_id"].tolist()
    for row in there:
        of_seed[seeds[row]].append(values[row])
    by_seed = {
        seed: factor * math.fsum(of_seed[seed]) / len(of_seed[seed]) for seed in sorted(of_seed)
    }
    counted = metric in ("top1", "probe_accuracy")
    images = float(runs["test_images"].iloc[there[0]]) if counted else math.nan
    return Accuracies(by_seed, images, tuple(dict.fromkeys(run_ids[row] for row in there)))


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
    numbers = sorted(set(seeds))
    if len(numbers) > 1:
        return f"{numbers[0]} to {count(numbers[-1], 'seed')} a cell"
    return count(numbers[0], "seed")


def plain_values(runs: pd.DataFrame, keys: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows as plain Python values, so that they compare and hash.

    None is for what is missing, also where the runs do not have the key.
    """
    if not keys:
        return [()] * len(runs)
    return list(zip(*(_plain_column(runs, key) for key in keys), strict=True))


def used_values(runs: pd.DataFrame, keys: Sequence[str]) -> list[Values]:
    """`plain_values`, with UNUSED for the keys that do not count in a run."""
    decisive = plain_values(runs, DECISIVE)
    # Of what decides there are but a few values.
    counted = {
        values: counting_keys(dict(zip(DECISIVE, values, strict=True))) for values in set(decisive)
    }
    used = {values: [key in names for key in keys] for values, names in counted.items()}
    return [
        row
        if all(used[values])
        else tuple(v if counts else UNUSED for v, counts in zip(row, used[values], strict=True))
        for row, values in zip(plain_values(runs, keys), decisive, strict=True)
    ]


def _plain_column(runs: pd.DataFrame, key: str) -> list[Any]:
    """Column by column is quicker than a frame of objects, above all for the many short ones."""
    if key not in runs:
        return [None] * len(runs)
    values, missing = runs[key].tolist(), runs[key].isna().tolist()
    if True not in missing:
        return values
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:6]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:LONGEST_NAME].strip("-")
