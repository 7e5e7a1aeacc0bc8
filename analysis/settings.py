"""Settings: groups of runs that differ only in what a sweep varies.

Nothing else is ever averaged over. A key that does not count in a run, such as the strength of colour distortion in a
run without it, never differs: the run belongs to every setting that it equals in the keys that count.
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

from simclr_ablate.schema import DECISIVE, KEYS, RESNETS, counting_keys
from simclr_ablate.terminal import count, printable

from .statistics import Accuracies

DESCRIBED = (
    *("data.label", "data.name", "data.limit", "encoder.architecture", "encoder.width"),
    *("optimizer.epochs", "optimizer.batch_size"),
)
"""The keys that a setting's description puts into words."""

LONGEST = 200
"""How many characters of a user's label are shown."""
LONGEST_NAME = 100
"""How many characters a file's name has at most, without its hash and its ending."""


class Unused(enum.Enum):
    """The value of a key that does not count in a run."""

    UNUSED = "unused"


UNUSED = Unused.UNUSED

Values = tuple[Any, ...]
"""A run's or a setting's values of some keys."""


@dataclass(frozen=True)
class Setting:
    """The runs of one setting.

    name: a file name without its ending. config: the keys that all the runs share; UNUSED for keys that count in none
    of them. special: the keys that tell the setting from others on the same data, empty if there are no others.
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
        """The setting for captions: `shapes, ResNet-8, 6 epochs, batch size 256`, and what else is special.

        It leaves out the keys that are free in the setting.
        """
        config = self.config
        special = {key: value for key, value in self.special.items() if key not in DESCRIBED}
        limit = config.get("data.limit")
        parts = [self.label + (f" ({limit:,} training images)" if limit else "")]
        if {"encoder.architecture", "encoder.width"} <= config.keys():
            parts.append(encoder_name(config["encoder.architecture"], config["encoder.width"]))
        if config.get("optimizer.epochs", UNUSED) is not UNUSED:
            parts.append(count(config["optimizer.epochs"], "epoch"))
        if config.get("optimizer.batch_size", UNUSED) is not UNUSED:
            parts.append(f"batch size {config['optimizer.batch_size']:,}")
        parts += [f"{key}={_spelt(value)}" for key, value in special.items()]
        return ", ".join(parts)


def settings(
    runs: pd.DataFrame, artefact: str, free: Iterable[str], least: int = 1
) -> list[Setting]:
    """The settings among `runs`, sorted by name.

    The runs of a setting are equal in all identity keys that count in them, except those in `free`, which names keys
    (`views.first`) or groups of keys (`views`).

    A setting is left out if its runs have fewer than `least` different values of the free keys, seeds aside. It is also
    left out if this holds for its own runs, those that no other setting has, and it shares the rest with a setting that
    has enough runs of its own.
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
    """The groups that are not left out: see `settings`."""
    shared_by = Counter(itertools.chain.from_iterable(groups.values()))

    def several(rows: Iterable[int]) -> bool:
        return len({varied[row] for row in rows}) >= least

    alone = {
        values: several(row for row in chosen if shared_by[row] == 1)
        for values, chosen in groups.items()
    }
    covered = {row for values, chosen in groups.items() if alone[values] for row in chosen}
    return {
        values: chosen
        for values, chosen in groups.items()
        if alone[values] or (several(chosen) and covered.isdisjoint(chosen))
    }


def _groups(rows: Sequence[Values]) -> dict[Values, list[int]]:
    """The largest groups of rows in which any two rows agree in all that counts in both.

    Returns the indices of each group's rows by its values: UNUSED only for what counts in none of the rows.
    """
    alike: dict[Values, list[int]] = defaultdict(list)
    for row, values in enumerate(rows):
        alike[values].append(row)
    # By pattern, which is what counts in a row: rows with the same pattern are equal or in different groups.
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
    """The rows, merged wherever two of them agree in all that counts in both; without those that were merged."""
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
    """The indices of the values that count."""
    return frozenset(k for k, value in enumerate(values) if value is not UNUSED)


def _part(values: Values, pattern: frozenset[int]) -> Values:
    return tuple(values[k] for k in sorted(pattern))


def named(
    artefact: str, configs: Sequence[Mapping[str, Any]], runs: Sequence[pd.DataFrame]
) -> list[Setting]:
    """The settings with these configs and runs, sorted by name.

    The name consists of artefact and data label, and of a hash of the config if two settings would share a name.
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
    """Settings made of one of `first` and one of `second` that are equal except in the `free` keys.

    A pair has the runs of both and the config of the first, to which keys of the second that differ are added with
    `word` before their names. belong: whether two such settings make a pair. alone: whether a setting without a partner
    is kept.
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
    """The rows of `runs` that equal `config` in every identity key that counts in both, except the `free` ones.

    A row in which a key counts that `config` does not have does not match.
    """
    keys = fixed_keys(free)
    rows = used_values(runs, keys)
    wanted = [config.get(key, _ABSENT) for key in keys]
    return runs.iloc[[row for row, values in enumerate(rows) if all(map(_agree, values, wanted))]]


def only_setting(runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` if they are all of one setting, seeds aside; otherwise none, since any choice would be arbitrary."""
    return runs if len(_groups(used_values(runs, fixed_keys(("seed",))))) == 1 else runs.iloc[:0]


_ABSENT = object()
"""A value that equals no other."""


def _agree(one: Any, other: Any) -> bool:
    """Whether two values of a key are equal, or one of them does not count."""
    return one is UNUSED or other is UNUSED or bool(one == other)


def fixed_keys(free: Iterable[str]) -> list[str]:
    """The config keys that count towards a run's identity, except the `free` ones."""
    free = tuple(free)
    return [
        key.name
        for key in KEYS
        if key.identity
        and not any(key.name == name or key.name.startswith(f"{name}.") for name in free)
    ]


def random_encoder(runs: pd.DataFrame, setting: Setting, metric: str = "top1") -> Accuracies | None:
    """Top-1, or another metric, of the random encoder with a setting's data, encoder and evaluation.

    None if it is not among `runs`.
    If the features are free, it is evaluated on h. None also if a key that counts in a random encoder is free in the
    setting, such as its size.
    """
    config = {"evaluation.features": "h"} | setting.config
    untrained = runs[runs["objective"] == "none"]
    return accuracies(only_setting(matching(untrained, config, ("objective", "seed"))), metric)


def accuracies(runs: pd.DataFrame, metric: str = "top1", factor: float = 1.0) -> Accuracies | None:
    """Top-1, or another metric times `factor`, of `runs` by seed; None if no run has it.

    Runs with the same seed that differ in something free, such as random encoders of several sweeps, count once, with
    their mean: they are not further seeds.
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
    counted = metric in ("top1", "top5", "probe_accuracy")
    images = float(runs["test_images"].iloc[there[0]]) if counted else math.nan
    return Accuracies(by_seed, images, tuple(dict.fromkeys(run_ids[row] for row in there)))


def encoder_name(architecture: str, width: int) -> str:
    """`ResNet-50`, `ResNet-50 (4x)`; the name in the config for a network that is not ours."""
    if architecture not in RESNETS:
        return shown(architecture)
    return architecture.replace("resnet", "ResNet-") + (f" ({width}x)" if width > 1 else "")


def data_label(config: Mapping[str, Any]) -> str:
    """What the data are called; all of them together if a table varies the data set itself."""
    named = config.get("data.label") or config.get("data.name")
    return shown(str(named)) if named else "several data sets"


def shown(text: str) -> str:
    """A user's label on one line, without its middle if it is very long."""
    text = printable(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 41]}…{text[-40:]}"


def _spelt(value: Any) -> str:
    return "null" if value is None else shown(str(value))


def seed_range(seeds: Iterable[int]) -> str:
    """How many seeds the numbers have: `1 seed`, `3 seeds`, `2 to 3 seeds per cell`."""
    numbers = sorted(set(seeds))
    if len(numbers) > 1:
        return f"{numbers[0]} to {count(numbers[-1], 'seed')} per cell"
    return count(numbers[0], "seed")


def plain_values(runs: pd.DataFrame, keys: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows as plain Python values, which compare and hash.

    A value is None if it is missing, or if the runs do not have the key.
    """
    if not keys:
        return [()] * len(runs)
    return list(zip(*(_plain_column(runs, key) for key in keys), strict=True))


def used_values(runs: pd.DataFrame, keys: Sequence[str]) -> list[Values]:
    """`plain_values`, with UNUSED for the keys that do not count in a run."""
    decisive = plain_values(runs, DECISIVE)
    # The values that decide take only a few combinations.
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
    """One column; going column by column is quicker than a frame of objects, above all for short tables."""
    if key not in runs:
        return [None] * len(runs)
    # A missing number is the only value that does not equal itself; pandas' own marker has no answer to that.
    return [None if value is pd.NA or value != value else value for value in runs[key].tolist()]


def _digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:6]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:LONGEST_NAME].strip("-")
