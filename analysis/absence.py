"""Why an artefact has nothing to show, and the command that would change it: for the terminal, the page and claims."""

from collections import Counter
from collections.abc import Iterable

import pandas as pd

from analysis.artefacts import Artefact
from analysis.command_line import command_line, store_of
from analysis.settings import count, shown
from analysis.typesetting import conjoined

NAMED = 6
"""How many other sweeps are named."""
STUCK = ("failed", "interrupted", "pretrained")
"""States of runs that `status retry` carries on with."""


def absence(artefact: Artefact, runs: pd.DataFrame) -> str:
    """What the store has instead of runs that make a report of `artefact`, and what makes them: two sentences.

    runs: `analysis.load`.
    """
    return f"{_reason(artefact, runs)} {_remedy(artefact, runs)}"


def _reason(artefact: Artefact, runs: pd.DataFrame) -> str:
    states = _states(_of_sweep(artefact, runs))
    takes = f"{artefact.label} takes {artefact.needs}."
    if not states:
        others = sorted({name for names in runs["sweeps"] for name in names})
        every = count(_states(runs).total(), "run") + (f" of {_listed(others)}" if others else "")
        return f"The store holds {every}, and none of sweep={artefact.sweep}. {takes}"
    told = ", ".join(f"{number:,} {state}" for state, number in sorted(states.items()))
    if states["complete"]:
        return f"The runs of sweep={artefact.sweep} ({told}) are not enough: {takes}"
    return f"No run of sweep={artefact.sweep} is complete: {told}."


def _remedy(artefact: Artefact, runs: pd.DataFrame) -> str:
    states = _states(_of_sweep(artefact, runs))
    store = store_of(runs)
    if states["running"] or states["queued"]:
        return f"How they go: {command_line('simclr_ablate.status', [f'sweep={artefact.sweep}'], store)}"
    if not states["complete"] and any(states[state] for state in STUCK):
        arguments = ["retry", f"sweep={artefact.sweep}"]
        return f"Carry on with them by: {command_line('simclr_ablate.status', arguments, store)}"
    arguments = ["-m", f"sweep={artefact.sweep}"]
    return f"Make them with: {command_line('simclr_ablate', arguments, store)}"


def _of_sweep(artefact: Artefact, runs: pd.DataFrame) -> pd.DataFrame:
    return runs[[artefact.sweep in names for names in runs["sweeps"]]]


def _states(runs: pd.DataFrame) -> Counter[str]:
    """How many runs are in each state."""
    return Counter(runs.drop_duplicates("run_id")["state"])


def _listed(names: Iterable[str]) -> str:
    """Names of sweeps, the first few of them."""
    told = [shown(name) for name in names]
    more = [f"{len(told) - NAMED} other sweeps"] if len(told) > NAMED + 1 else []
    return conjoined([*(told[:NAMED] if more else told), *more])
