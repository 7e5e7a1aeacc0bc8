"""Runs of a store in a tracker: those that finished where it could not be reached, each once.

simclr-ablate trackers sync                            to the trackers that the runs were launched with
simclr-ablate trackers sync tracker=wandb,mlflow       to these
simclr-ablate trackers sync sweep=NAME store=DIR       only the runs of a sweep, or of NAME,NAME
simclr-ablate trackers sync reports=reports            with the pictures that simclr-ablate analyse has drawn
simclr-ablate trackers sync tracker=mlflow tracker.uri=http://HOST:5000     with other keys of tracker

What was sent is noted in the store, so a second sync sends only what is new. The exit status is also 1 if a run has not
ended, or its config cannot be read.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from simclr_ablate.config import ConfigError
from simclr_ablate.exit_status import ExitStatus
from simclr_ablate.own import look_in
from simclr_ablate.paths import expanded
from simclr_ablate.schema import TRACKERS, Tracking
from simclr_ablate.store import Store
from simclr_ablate.terminal import complain, count, tell
from simclr_ablate.trackers.sync import Synced, SyncError, sync
from simclr_ablate.words import Parser, Values, Vocabulary, accepted, ended

SYNC = "sync"
OF_TRACKING = [each.name for each in dataclasses.fields(Tracking) if each.name != "every"]
WORDS = Vocabulary(
    {
        "tracker": TRACKERS,
        "sweep": Values.SWEEP,
        "store": Values.FOLDER,
        "reports": Values.FOLDER,
        **{f"tracker.{name}": () for name in OF_TRACKING},
    },
    alone=(SYNC,),
)


def parser() -> Parser:
    """The options of `trackers`."""
    words = f"{SYNC} [tracker=NAME] [sweep=NAME] [store=DIR] [reports=DIR] [tracker.KEY=VALUE]"
    return Parser("trackers", words, __doc__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Sends runs. Returns the exit status."""
    options = parser().read(arguments)
    return ended(lambda: _carry_out(options.words))


def _carry_out(words: Sequence[str]) -> int:
    """Raises ConfigError."""
    look_in(os.getcwd())  # for the user's own trackers
    alone, given = WORDS.read(words)
    if WORDS.action(alone) is None:
        raise ConfigError(f"name an action, got none{accepted((SYNC,))}")
    reports = given.get("reports")
    try:
        synced = sync(
            Store(given.get("store", "runs")),
            given_keys(given),
            given["sweep"].split(",") if "sweep" in given else (),
            None if reports is None else expanded(reports, "reports"),
        )
    except SyncError as error:
        complain(f"error: {' '.join(str(error).split())}")
        complain("what was sent before is noted: sync again to go on")
        return ExitStatus.SOME_FAILED
    return report(synced)


def given_keys(words: Mapping[str, str]) -> dict[str, Any]:
    """The keys of `tracker` that the words give."""
    given: dict[str, Any] = {}
    for word, value in words.items():
        if word in ("tracker", "tracker.names"):
            given["names"] = tuple(filter(None, value.strip("[]").replace(" ", "").split(",")))
        elif word.startswith("tracker."):
            given[word.removeprefix("tracker.")] = None if value == "null" else value
    return given


def report(synced: Synced) -> int:
    """Prints what was sent; returns the exit status."""
    for name in dict.fromkeys([*synced.sent, *synced.there]):
        there = f"; {count(synced.there[name], 'run')} there already" * bool(synced.there[name])
        tell(f"{name}: sent {count(synced.sent[name], 'run')}{there}")
    for name, pictures in synced.pictures.items():
        tell(f"{name}: sent {count(pictures, 'picture')}")
    left_out = +synced.left_out
    if left_out:
        states = ", ".join(f"{number} {state}" for state, number in sorted(left_out.items()))
        complain(f"left out, since more is to come: {states}")
    for run_id in synced.damaged:
        complain(f"left out: {run_id}: its experiment.json is missing or damaged")
    return ExitStatus.SOME_FAILED if left_out or synced.damaged else ExitStatus.OK


if __name__ == "__main__":
    sys.exit(main())
