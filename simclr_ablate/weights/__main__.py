"""Weights out: a run's encoder for torchvision, timm, the Hugging Face hub, or as an .npz.

simclr-ablate weights export run=ID to=torchvision            a folder ID-torchvision
simclr-ablate weights export run=ID to=timm head=true out=DIR with the projection head, in DIR
simclr-ablate weights export run=ID to=hf --push OWNER/NAME   and as a new repository of the hub

A folder that exists is never written into. Weights come in through objective=imported: docs/weights.md.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from simclr_ablate.config import ConfigError, one_of
from simclr_ablate.exit_status import ExitStatus
from simclr_ablate.own import look_in
from simclr_ablate.terminal import tell
from simclr_ablate.weights import FORMATS
from simclr_ablate.words import Parser, Values, Vocabulary, accepted, ended

EXPORT = "export"
SWITCH = ("false", "true")
WORDS = Vocabulary(
    {
        "run": Values.RUN,
        "to": FORMATS,
        "store": Values.FOLDER,
        "head": SWITCH,
        "out": Values.FOLDER,
    },
    alone=(EXPORT,),
)


def parser() -> Parser:
    """The options of `weights`."""
    words = f"{EXPORT} run=ID to={'|'.join(FORMATS)} [store=DIR] [head=true] [out=DIR]"
    made = Parser("weights", words, __doc__)
    made.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="also push it to the Hugging Face hub, where you are logged in",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports. Returns the exit status."""
    options = parser().read(arguments)
    return ended(lambda: _carry_out(options))


def _carry_out(options: argparse.Namespace) -> int:
    """Raises ConfigError."""
    look_in(os.getcwd())  # for the user's own encoders and heads
    given = read_words(options.words)
    from simclr_ablate.weights.exporting import Export, export, hub_for

    wanted = Export(
        given["run"],
        given.get("store", "runs"),
        given["to"],
        given.get("head") == "true",
        Path(given.get("out", f"{given['run']}-{given['to']}")),
    )
    push = hub_for(options.push) if options.push else None
    folder = export(wanted)
    tell(f"exported to {folder}")
    if push is not None:
        tell(f"pushed to {push(folder)}")
    return ExitStatus.OK


def read_words(words: Sequence[str]) -> dict[str, str]:
    """The values of `key=value` by key. Raises ConfigError."""
    alone, given = WORDS.read(words)
    if WORDS.action(alone) is None:
        raise ConfigError(f"name an action, got none{accepted((EXPORT,))}")
    if "run" not in given:
        raise ConfigError("run must be the id of a run, got nothing")
    for name, choices in (("to", FORMATS), ("head", SWITCH)):
        value = given.get(name, "false" if name == "head" else "nothing")
        if value not in choices:
            raise ConfigError(f"{name} must be {one_of(choices)}, got {value}")
    return given


if __name__ == "__main__":
    sys.exit(main())
