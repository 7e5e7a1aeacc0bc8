"""The command: `simclr-ablate COMMAND ...`, or `python -m simclr_ablate COMMAND ...`."""

import importlib
import os
import sys
from collections.abc import Sequence

from simclr_ablate.commands import COMMANDS, named
from simclr_ablate.config import ConfigError, nearest
from simclr_ablate.words import accepted, ended


def main() -> None:
    """Carries out the command line. Exits with its status."""
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for what may come next
        from simclr_ablate.completion import complete

        complete()
    sys.exit(ended(lambda: dispatch(sys.argv[1:])))


def dispatch(arguments: Sequence[str]) -> int:
    """Carries out the command that the line names. Returns the exit status. Raises ConfigError."""
    word, rest = named(arguments)
    if word not in COMMANDS:
        raise ConfigError(f"unknown command {word!r}{nearest(word, COMMANDS)}{accepted(COMMANDS)}")
    status: int = importlib.import_module(COMMANDS[word].module).main(rest)
    return status


if __name__ == "__main__":
    main()
