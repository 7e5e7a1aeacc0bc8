"""The commands behind a report: those that made its runs, and the one that draws it."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from analysis.artefacts import Artefact
from analysis.report import Report
from simclr_ablate.overrides import override
from simclr_ablate.store import Store, SweepRecord
from simclr_ablate.terminal import printable


def commands(artefact: Artefact, report: Report, runs: pd.DataFrame) -> list[str]:
    """What made the runs that `report` lists, if it needs any, as it was launched; then what draws it.

    The launcher, the device and other keys that change no run are left out; so are runs that were launched without a
    sweep. Stores of earlier versions do not know the overrides: of these, the sweep alone.

    runs: `analysis.load`, of which the report was made.
    """
    if report.setting is None or artefact.sweep is None:
        return ["python -m analysis"]
    store = store_of(runs)
    launches = covering(artefact.sweep, Store(store).sweeps(), report.run_ids)
    given = [launch.overrides or (f"sweep={launch.name}",) for launch in launches]
    lines = [
        command_line("simclr_ablate", ["-m", *overrides], store)
        for overrides in given or [(f"sweep={artefact.sweep}",)]
    ]
    return [*dict.fromkeys(lines), command_line("analysis", [], store)]


def covering(
    sweep: str, launches: Sequence[SweepRecord], run_ids: Collection[str]
) -> list[SweepRecord]:
    """Launches that together have as many of the runs as any have: those of `sweep` before others, then the one with
    the most runs that no other has yet; of equals the smallest, and the last."""
    left, result = set(run_ids), []

    def preference(launch: SweepRecord) -> tuple[bool, int, int, float]:
        new = len(left.intersection(launch.run_ids))
        return launch.name == sweep and new > 0, new, -len(launch.run_ids), launch.time

    while left and launches:
        best = max(launches, key=preference)
        if left.isdisjoint(best.run_ids):
            break
        result.append(best)
        left.difference_update(best.run_ids)
    return result


def command_line(module: str, arguments: Sequence[str], store: str) -> str:
    """`python -m module ...` on a store, as a shell takes it."""
    where: list[str] = []
    store = f"./{store}" if store.startswith("-") else store
    if store != "runs":
        options = {"analysis": ["--store", store], "simclr_ablate.status": [f"store={store}"]}
        where = options.get(module) or [override("store", store)]
    return " ".join(map(_quoted, ["python", "-m", module, *arguments, *where]))


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
