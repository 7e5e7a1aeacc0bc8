"""What all commands but `run` read alike: `key=value`, words that stand alone, and the options that all have."""

import argparse
import enum
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from simclr_ablate import __version__
from simclr_ablate.commands import PROGRAM
from simclr_ablate.config import ConfigError, nearest
from simclr_ablate.exit_status import TOLD, ExitStatus
from simclr_ablate.manner import set_manner
from simclr_ablate.terminal import printable

VERSION = f"{PROGRAM} {__version__}"
QUIET_HELP = "print only results and errors"


class Values(enum.Enum):
    """What the value of a key is, if not one of a few names; completion looks it up."""

    FOLDER = enum.auto()
    FILE = enum.auto()
    RUN = enum.auto()
    SWEEP = enum.auto()


@dataclass(frozen=True)
class Vocabulary:
    """The words that a command accepts.

    keys: each with its values: their names, if there are a few. alone: the words without a value, such as actions, or
        what they are.
    """

    keys: Mapping[str, Values | Collection[str]]
    alone: Values | Collection[str] = field(default=())

    def read(self, words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """The words that stand alone, in order, and the values by key.

        A word whose part before `=` is no name stands alone: it may be a file. Raises ConfigError if a key is unknown,
        is given twice or has no value.
        """
        alone, given = list[str](), dict[str, str]()
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not (key in self.keys or re.fullmatch(r"\w+(\.\w+)*", key)):
                alone.append(word)
                continue
            if key not in self.keys:
                raise ConfigError(
                    f"unknown key {key}{nearest(key, self.keys)}{accepted(self.keys)}"
                )
            if not value:
                raise ConfigError(f"{key} must have a value, got {word}")
            if key in given:
                raise ConfigError(f"{key} is given twice, as {given[key]!r} and {value!r}")
            given[key] = value
        return alone, given

    def action(self, words: Sequence[str]) -> str | None:
        """The action among the words that stand alone, if there is one. Raises ConfigError if it is not one of ours."""
        assert not isinstance(self.alone, Values)
        for word in words:
            if word not in self.alone:
                raise ConfigError(
                    f"unknown action {word!r}{nearest(word, self.alone)}{accepted(self.alone)}"
                )
        if len(words) > 1:
            raise ConfigError(f"one action at a time, got {' and '.join(words)}")
        return words[0] if words else None


def accepted(words: Collection[str]) -> str:
    """` (accepted: A, B)`"""
    return f" (accepted: {', '.join(words)})"


class Parser(argparse.ArgumentParser):
    """A command's options, those that all commands have among them. Its words may stand between them.

    words: how the usage shows the words.
    """

    def __init__(self, command: str, words: str, description: str | None, epilog: str = "") -> None:
        super().__init__(
            prog=f"{PROGRAM} {command}",
            usage=f"{PROGRAM} {command} {words} [options]",
            description=description,
            epilog="\n\n".join(filter(None, [epilog, TOLD])),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("words", nargs="*", help=argparse.SUPPRESS)
        self.add_argument("--quiet", action="store_true", help=QUIET_HELP)
        self.add_argument("--version", action="version", version=VERSION, help="print the version")

    def read(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """The options, with the other words as `words`, in the manner that they ask for. Exits if they are wrong."""
        options = self.parse_intermixed_args(arguments)
        set_manner(options.quiet)
        return options

    def error(self, message: str) -> NoReturn:
        self.exit(ExitStatus.REFUSED, f"error: {printable(message)}\n")


def ended(act: Callable[[], int]) -> int:
    """The exit status that `act` returns; if it refuses its input, that is printed in one line."""
    try:
        return act()
    except ConfigError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return ExitStatus.REFUSED
    except KeyboardInterrupt:
        return ExitStatus.STOPPED
