"""The commands behind a report: those that launched its runs, and the one that draws it."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from simclr_ablate.commands import COMMANDS, PROGRAM
from simclr_ablate.overrides import override
from simclr_ablate.store import Store, SweepRecord
from simclr_ablate.terminal import printable

from .artefacts import Artefact
from .packs import origin
from .report import Report


def commands(artefact: Artefact, report: Report, runs: pd.DataFrame) -> list[str]:
    """The commands that launched the runs of `report`, if it needs any, and then the one that draws it.

    They leave out the launcher, the device and other keys that change no run, and runs that were launched without a
    sweep. Stores of earlier versions do not record overrides; for these, the command has only the sweep.

    runs: `analysis.load`, from which the report was made.
    """
    if report.setting is None:
        return [command_line(["analyse"], "runs")]
    store = store_of(runs)
    if artefact.sweep is None:
        return [command_line(["analyse"], store)]
    launches = covering(artefact.sweep, Store(store).sweeps(), report.run_ids)
    given = [launch.overrides or (f"sweep={launch.name}",) for launch in launches]
    lines = [
        command_line(["-m", *overrides], store)
        for overrides in given or [(f"sweep={artefact.sweep}",)]
    ]
    return [*dict.fromkeys(lines), command_line(["analyse"], store)]


def covering(
    sweep: str, launches: Sequence[SweepRecord], run_ids: Collection[str]
) -> list[SweepRecord]:
    """Launches that together cover the runs, as far as any launch does.

    They are picked one by one: launches of `sweep` first, then the one that adds the most runs. Ties go to the
    smallest launch, then to the latest.
    """
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


def command_line(words: Sequence[str], store: str) -> str:
    """`simclr-ablate ...` on a store, quoted for a shell.

    The runs of a pack were launched in a store that is not known here, so only the analysis is given the pack.
    """
    pack = origin(Path(store))
    if pack is not None:
        store = pack if words[0] == "analyse" else "runs"
    where: list[str] = []
    if store != "runs":
        # Only the command `run` reads Hydra's grammar.
        where = [f"store={store}" if words[0] in COMMANDS else override("store", store)]
    return " ".join(map(_quoted, [PROGRAM, *words, *where]))


def store_of(runs: pd.DataFrame) -> str:
    """The store of these runs (`analysis.load`); the temporary one of a pack that is open."""
    return str(Path(runs["path"].iloc[0]).parent)


def _quoted(word: str) -> str:
    """`word` quoted for a POSIX shell or, if it has unprintable characters, for bash and zsh."""
    if printable(word) == word:
        return shlex.quote(word)
    spelt = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(c if printable(c) == c else _octal(c) for c in spelt) + "'"


def _octal(character: str) -> str:
    """The bytes of `character` for a shell's `$'...'`, including bytes of file names that are not text."""
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))
