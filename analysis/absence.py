"""Why an artefact has nothing to show, and the command that changes that: for the terminal, the page and the claims."""

from collections import Counter
from collections.abc import Iterable

import pandas as pd

from simclr_ablate.store import Store

from .artefacts import Artefact
from .command_line import command_line, store_of
from .settings import count, shown
from .typesetting import conjoined

NAMED = 6
"""How many other sweeps are named at most."""
STUCK = ("failed", "interrupted", "pretrained")
"""States of runs that `status retry` takes up again."""


def absence(artefact: Artefact, runs: pd.DataFrame) -> str:
    """Two sentences on an artefact without a report: what the store holds instead of its runs, and what makes them.

    runs: `analysis.load`.
    """
    return f"{_reason(artefact, runs)} {_remedy(artefact, runs)}"


def _reason(artefact: Artefact, runs: pd.DataFrame) -> str:
    states = _states(_of_sweep(artefact, runs))
    needs = f"{artefact.label} needs {artefact.needs}."
    if not states:
        others = sorted({name for names in runs["sweeps"] for name in names})
        every = count(_states(runs).total(), "run") + (f" of {_listed(others)}" if others else "")
        return f"The store holds {every}, but none of sweep={artefact.sweep}. {needs}"
    tally = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items()))
    if states["complete"]:
        return f"The runs of sweep={artefact.sweep} ({tally}) are not enough: {needs}"
    return f"No run of sweep={artefact.sweep} is complete: {tally}."


def _remedy(artefact: Artefact, runs: pd.DataFrame) -> str:
    states = _states(_of_sweep(artefact, runs))
    store = store_of(runs)
    if states["running"] or states["queued"]:
        return f"Follow them with: {command_line(['status', f'sweep={artefact.sweep}'], store)}"
    if not states["complete"] and any(states[state] for state in STUCK):
        words = ["status", "retry", f"sweep={artefact.sweep}"]
        return f"Resume them with: {command_line(words, store)}"
    launched = [each for each in Store(store).sweeps() if each.name == artefact.sweep]
    given = launched[-1].overrides if launched and not artefact.of_paper else ()
    words = ["-m", *(given or [f"sweep={artefact.sweep}"])]
    return f"Make them with: {command_line(words, store)}"


def _of_sweep(artefact: Artefact, runs: pd.DataFrame) -> pd.DataFrame:
    return runs[[artefact.sweep in names for names in runs["sweeps"]]]


def _states(runs: pd.DataFrame) -> Counter[str]:
    """How many runs are in each state."""
    return Counter(runs.drop_duplicates("run_id")["state"])


def _listed(names: Iterable[str]) -> str:
    """The names of the first few sweeps, and how many more there are."""
    words = [shown(name) for name in names]
    more = [f"{len(words) - NAMED} other sweeps"] if len(words) > NAMED + 1 else []
    return conjoined([*(words[:NAMED] if more else words), *more])
