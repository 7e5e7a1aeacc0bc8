"""Weights out: a run's encoder for torchvision, timm, the Hugging Face hub, or as an .npz.

python -m simclr_ablate.weights export run=ID to=torchvision            a folder ID-torchvision
python -m simclr_ablate.weights export run=ID to=timm head=true out=DIR with the projection head, in DIR
python -m simclr_ablate.weights export run=ID to=hf --push OWNER/NAME   and as a new repository of the hub

A folder that exists is never written into. Weights come in through objective=imported: docs/weights.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from simclr_ablate.config import ConfigError, nearest, one_of

WORDS = ("run", "to", "store", "head", "out")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports. Returns the exit status, which is 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m simclr_ablate.weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", metavar="export")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="run=ID|to=torchvision, timm, hf or npz|store=DIR|head=true|out=DIR",
    )
    parser.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="also push it to the Hugging Face hub, where you are logged in",
    )
    options = parser.parse_args(arguments)
    try:
        if options.action != "export":
            raise ConfigError(f"unknown action {options.action!r} (accepted: export)")
        given = read_words(options.words)
        from simclr_ablate.weights.exporting import FORMATS, Export, export, hub_for

        if given.get("to") not in FORMATS:
            raise ConfigError(f"to must be {one_of(FORMATS)}, got {given.get('to', 'nothing')}")
        out = given.get("out", f"{given['run']}-{given['to']}")
        wanted = Export(
            given["run"],
            given.get("store", "runs"),
            given["to"],
            given.get("head") == "true",
            Path(out),
        )
        push = hub_for(options.push) if options.push else None
        folder = export(wanted)
        print(f"exported to {folder}")
        if push is not None:
            print(f"pushed to {push(folder)}")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def read_words(words: Sequence[str]) -> dict[str, str]:
    """The values of `key=value` by key. Raises ConfigError."""
    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in WORDS:
            raise ConfigError(
                f"unknown word {word!r}{nearest(name, WORDS)} (accepted: {', '.join(WORDS)})"
            )
        given[name] = value
    if not given.get("run"):
        raise ConfigError("run must be the id of a run, got nothing")
    if given.get("head", "false") not in ("true", "false"):
        raise ConfigError(f"head must be true or false, got {given['head']!r}")
    return given


if __name__ == "__main__":
    sys.exit(main())
