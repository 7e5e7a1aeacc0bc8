"""Runs of a store in a tracker: those that finished where it could not be reached, each once.

python -m simclr_ablate.trackers sync                            to the trackers that the runs were launched with
python -m simclr_ablate.trackers sync tracker=wandb,mlflow       to these
python -m simclr_ablate.trackers sync sweep=NAME store=DIR       only the runs of a sweep, or of NAME,NAME
python -m simclr_ablate.trackers sync reports=reports            with the pictures that python -m analysis has drawn
python -m simclr_ablate.trackers sync tracker=mlflow tracker.uri=http://HOST:5000     with other keys of tracker

What was sent is noted in the store, so a second sync sends only what is new.

Exit status: 0 if all is sent; 1 if a tracker failed, or a run has not ended; 2 if the input is wrong.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from simclr_ablate import terminal
from simclr_ablate.config import ConfigError, nearest
from simclr_ablate.paths import expanded
from simclr_ablate.schema import Tracking
from simclr_ablate.store import Store
from simclr_ablate.terminal import count, printable
from simclr_ablate.trackers.sync import Synced, SyncError, sync

WORDS = (
    *("tracker", "sweep", "store", "reports"),
    *(f"tracker.{each.name}" for each in dataclasses.fields(Tracking) if each.name != "every"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Sends runs. Returns the exit status."""
    terminal.prepare()
    parser = argparse.ArgumentParser(
        prog="python -m simclr_ablate.trackers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", metavar="sync")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="tracker=NAME|sweep=NAME|store=DIR|reports=DIR|tracker.KEY=VALUE",
    )
    options = parser.parse_args(arguments)
    try:
        if options.action != "sync":
            raise ConfigError(f"unknown action {options.action!r} (accepted: sync)")
        words = read_words(options.words)
        reports = words.get("reports")
        synced = sync(
            Store(words.get("store", "runs")),
            given_keys(words),
            words["sweep"].split(",") if "sweep" in words else (),
            None if reports is None else expanded(reports, "reports"),
        )
    except ConfigError as error:
        _say(f"error: {error}", sys.stderr)
        return 2
    except SyncError as error:
        _say(f"error: {' '.join(str(error).split())}", sys.stderr)
        _say("what was sent before is noted: sync again to go on", sys.stderr)
        return 1
    return report(synced)


def read_words(words: Sequence[str]) -> dict[str, str]:
    """The values of `key=value` by key. Raises ConfigError."""
    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in WORDS:
            accepted = ", ".join(WORDS)
            raise ConfigError(f"unknown word {word!r}{nearest(name, WORDS)} (accepted: {accepted})")
        given[name] = value
    return given


def given_keys(words: Mapping[str, str]) -> dict[str, Any]:
    """The keys of `tracker` that the words give."""
    given: dict[str, Any] = {}
    for word, value in words.items():
        if word in ("tracker", "tracker.names"):
            given["names"] = tuple(filter(None, value.strip("[]").replace(" ", "").split(",")))
        elif word.startswith("tracker."):
            given[word.removeprefix("tracker.")] = value
    return given


def report(synced: Synced) -> int:
    """Prints what was sent; returns the exit status."""
    for name in dict.fromkeys([*synced.sent, *synced.there]):
        there = f"; {count(synced.there[name], 'run')} there already" * bool(synced.there[name])
        _say(f"{name}: sent {count(synced.sent[name], 'run')}{there}")
    for name, pictures in synced.pictures.items():
        _say(f"{name}: sent {count(pictures, 'picture')}")
    if left_out := +synced.left_out:
        states = ", ".join(f"{number} {state}" for state, number in sorted(left_out.items()))
        _say(f"left out, since more is to come: {states}")
    return int(bool(+synced.left_out))


def _say(line: str, file: TextIO | None = None) -> None:
    print(printable(line), file=file)


if __name__ == "__main__":
    sys.exit(main())
