"""The commands behind a report: what makes its runs, then what draws it.

A run does not tell the command that it came from, so that is found again: the scale, the data, the seeds, and the keys
in which the runs differ from what their sweep runs by itself. Not found are keys that the command line set to one of
several values that the sweep has anyway (one batch size of Figure 9's: the command told makes all of them), and what
makes runs differ as the sweep has it nowhere (`scale.epochs=3`, a sweep of the user's own). What changes no run's id,
such as the launcher and the device, is not told.
"""

import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from analysis.artefacts import Artefact
from analysis.report import Report
from analysis.settings import UNUSED, Setting, fixed_keys, used_values
from simclr_ablate.__main__ import CONFIG_FOLDER, register
from simclr_ablate.config import flatten, is_own
from simclr_ablate.launch.grid import EXPERIMENT_SECTIONS, Grids, literal, resolve
from simclr_ablate.launch.selection import Rule
from simclr_ablate.paths import config_folder
from simclr_ablate.terminal import printable

KEYS = fixed_keys(("data", "seed"))
DATA = ("size", "limit", "validation", "on_error", "seed")
"""Keys of `data` that a run has as the command line says them; planning sees to the others."""
NAMING = ("views.policy", "encoder.architecture", "head.kind", "loss.name", "optimizer.name")
"""Keys whose values are the names of their group's options."""
PLAIN = re.compile(r"[A-Za-z_/.~][\w/.:~-]*")
"""Text that Hydra reads as itself without quotes."""


def commands(artefact: Artefact, report: Report, runs: pd.DataFrame) -> list[str]:
    """What makes the runs that `report` lists, if it needs any, and what draws it, in this order.

    runs: `analysis.load`, of which the report was made.
    """
    if report.setting is None or artefact.sweep is None:
        return ["python -m analysis"]
    held = _values(report.setting.runs, KEYS)
    offer = _likeliest(artefact.sweep, held)
    shared = _shared(report.setting, offer, held)
    store = store_of(runs)
    beside = set(report.beside)
    seeds = _seeds(runs, set(report.run_ids) - beside) - {offer.tuning_seed}
    told = [_seed(seeds)] if seeds and seeds != offer.seeds else []
    swept = ["-m", f"sweep={artefact.sweep}", *shared, *told]
    lines = [command_line("simclr_ablate", swept, store)]
    if beside:
        single = ["-m", *shared, _seed(_seeds(runs, beside))]
        lines.append(command_line("simclr_ablate", single, store))
    return [*lines, command_line("analysis", [], store)]


def command_line(module: str, arguments: Sequence[str], store: str) -> str:
    """`python -m module ...` on a store, as a shell takes it."""
    place: list[str] = []
    store = f"./{store}" if store.startswith("-") else store
    if store != "runs":
        options = {"analysis": ["--store", store], "simclr_ablate.status": [f"store={store}"]}
        place = options.get(module) or [_override("store", store)]
    return " ".join(map(_quoted, ["python", "-m", module, *arguments, *place]))


def store_of(runs: pd.DataFrame) -> str:
    """The folder that runs (`analysis.load`) lie in."""
    return str(Path(runs["path"].iloc[0]).parent)


def _quoted(word: str) -> str:
    """As a POSIX shell reads it; with what cannot be printed, as bash and zsh do."""
    if printable(word) == word:
        return shlex.quote(word)
    spelt = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(c if printable(c) == c else _octal(c) for c in spelt) + "'"


def _octal(character: str) -> str:
    """Its bytes in a shell's `$'...'`, those of names that are no text included."""
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True)
class Offer:
    """What a sweep runs by itself once `choices` are made, of a scale and of groups.

    usual: each key's value outside the sweep. values: all that it has of each key. seeds: those of
    its own. tuning_seed: the one that its choice rests on, where it makes one.
    """

    choices: tuple[str, ...]
    usual: Mapping[str, Any]
    values: Mapping[str, set[Any]]
    seeds: frozenset[int]
    tuning_seed: int | None

    def misfits(self, held: Mapping[str, set[Any]]) -> dict[str, set[Any]]:
        """The runs' values of the keys of which the sweep does not have all. held: see `_likeliest`."""
        return {key: values for key, values in held.items() if not values <= self.values[key]}


def _likeliest(sweep: str, held: Mapping[str, set[Any]]) -> Offer:
    """With the scale and the groups from which the fewest keys of the runs differ; of equals, the command's own.

    held: the values that the runs have of each of KEYS.
    """
    default = _offer(sweep, ())
    if not default.misfits(held):
        return default
    scales = sorted(path.stem for path in (config_folder("conf") / "scale").glob("*.yaml"))
    others = [scale for scale in scales if _resembles(held, scale, default.usual)]
    offers = [default, *(_offer(sweep, (f"scale={scale}",)) for scale in others)]
    scaled = min(offers, key=lambda offer: len(offer.misfits(held)))
    groups = tuple(_groups(scaled.misfits(held)))
    offers = [scaled, *([_offer(sweep, (*scaled.choices, *groups))] if groups else [])]
    return min(offers, key=lambda offer: len(offer.misfits(held)))


def _groups(misfits: Mapping[str, set[Any]]) -> Iterator[str]:
    """The groups' options that are named by keys which the sweep does not have so."""
    for key in NAMING:
        for name in misfits.get(key, ()):
            group = key.partition(".")[0]
            if len(misfits[key]) == 1 and (config_folder("conf") / group / f"{name}.yaml").exists():
                yield f"{group}={name}"


def _resembles(held: Mapping[str, set[Any]], scale: str, usual: Mapping[str, Any]) -> bool:
    """Whether the runs have any value that the scale itself sets and that is not usual: others need not be composed."""
    own = flatten(_read("conf/scale", scale))
    return any(
        value != usual[key] and value in held[key] for key, value in own.items() if key in held
    )


@cache
def _offer(sweep: str, choices: tuple[str, ...]) -> Offer:
    app = _composed(choices)
    section = _section(sweep, app["scale"])
    grids, rule = Grids.from_config(section), Rule.from_config(section)
    usual = flatten({name: app[name] for name in EXPERIMENT_SECTIONS})
    values = defaultdict(set, {key: {value} for key, value in usual.items()})
    for grid in [*grids.grids, *(rule.read() if rule else [])]:
        for key, value in _varied(grid, app["scale"]["name"]):
            values[key].add(value)
    tuning_seed = rule.seed if rule else None
    return Offer(choices, usual, values, frozenset(grids.seeds or ()), tuning_seed)


def _section(sweep: str, scale: Mapping[str, Any]) -> dict[str, Any]:
    """The sweep with a scale's sizes."""
    node = OmegaConf.create({"scale": scale, "sweep": _read("sweeps", sweep)})
    section: dict[str, Any] = OmegaConf.to_container(node.sweep, resolve=True)  # type: ignore[assignment]
    return section


def _varied(grid: Mapping[str, list[Any]], scale: str) -> Iterator[tuple[str, Any]]:
    """Every key and value that a grid sets, by itself or through a group, whose keys the scale wins over.

    Groups are read and not composed, which would take longer than all else here. What a file inherits from another is
    what is usual.
    """
    scaled = flatten(_read("conf/scale", scale))
    for name, options in grid.items():
        for option in options:
            if not (config_folder("conf") / name).is_dir():
                yield name, option
                continue
            keys = flatten({name: _read(f"conf/{name}", option)})
            yield from ((key, value) for key, value in keys.items() if key not in scaled)


@cache
def _composed(choices: tuple[str, ...]) -> dict[str, Any]:
    """The app's config, resolved."""
    register()
    with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
        return resolve(compose("config", list(choices)))


@cache
def _read(folder: str, name: str) -> dict[str, Any]:
    """A YAML file as it is written, without what it inherits."""
    kind, *inside = folder.split("/")
    content = OmegaConf.load(config_folder(kind).joinpath(*inside, f"{name}.yaml"))
    plain: dict[str, Any] = OmegaConf.to_container(content, resolve=False)  # type: ignore[assignment]
    return {key: value for key, value in plain.items() if key != "defaults"}


def _shared(setting: Setting, offer: Offer, held: Mapping[str, set[Any]]) -> list[str]:
    """The overrides that all of the setting's runs share. held: see `_likeliest`."""
    single = {k: v for k, v in offer.misfits(held).items() if len(v) == 1}
    return [
        *offer.choices,
        *_data(setting, offer.usual),
        *(_override(key, *values) for key, values in single.items()),
    ]


def _data(setting: Setting, usual: Mapping[str, Any]) -> list[str]:
    """The overrides that name the data set."""
    name, label = setting.config["data.name"], setting.config["data.label"]
    (root, *_) = sorted(_values(setting.runs, ["data.root"])["data.root"] - {None}) or [None]
    preset = {key: usual[f"data.{key}"] for key in (*DATA, "label")}
    result = []
    if is_own(name):
        result.append(_override("data.name", name))
    elif name != usual["data.name"]:
        result.append(f"data={name}")
        preset = _read("conf/data", name)
    if root is not None:
        result.append(_override("data.root", root))
    # What planning fills in.
    named = name.partition(":")[2] if is_own(name) else root and Path(root).name
    if label not in (preset["label"], named):
        result.append(_override("data.label", label))
    found = {key: setting.config[f"data.{key}"] for key in DATA}
    changed = {key: value for key, value in found.items() if value not in (preset[key], UNUSED)}
    return [*result, *(_override(f"data.{key}", value) for key, value in changed.items())]


def _values(runs: pd.DataFrame, keys: Sequence[str]) -> dict[str, set[Any]]:
    """All values that count, of some keys in some runs."""
    columns = zip(*set(used_values(runs, keys)), strict=True)
    return {key: set(column) - {UNUSED} for key, column in zip(keys, columns, strict=True)}


def _seeds(runs: pd.DataFrame, run_ids: Iterable[str]) -> set[int]:
    return set(runs["seed"][runs["run_id"].isin(list(run_ids))].tolist())


def _seed(seeds: Iterable[int]) -> str:
    return f"seed={','.join(map(str, sorted(seeds)))}"


def _override(key: str, value: Any) -> str:
    plain = isinstance(value, str) and PLAIN.fullmatch(value)
    return f"{key}={value if plain else literal(value)}"
