"""The commands by their first word. What carries them out is named, not imported, so that each starts at once."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Named(NamedTuple):
    """A command: the module with its `main(arguments)`, which returns the exit status, and what it does."""

    module: str
    doc: str


PROGRAM = "simclr-ablate"
DEFAULT = "run"
"""The command of a line whose first word is an option or `key=value`."""

COMMANDS = {
    DEFAULT: Named(
        "simclr_ablate.run", "one run; with -m, a sweep (the word `run` can be left out)"
    ),
    "status": Named("simclr_ablate.status", "what the store holds; cancel, retry, clean"),
    "analyse": Named(
        "simclr_ablate.analysis.__main__", "tables and figures, and the page with all"
    ),
    "findings": Named(
        "simclr_ablate.analysis.findings",
        "a verdict on each finding of the paper; what would decide it",
    ),
    "weights": Named("simclr_ablate.weights.__main__", "export an encoder"),
    "store": Named(
        "simclr_ablate.store.__main__", "pack a store without its weights, and unpack it"
    ),
    "trackers": Named(
        "simclr_ablate.trackers.__main__", "send the runs of a store to TensorBoard, W&B, MLflow"
    ),
    "completion": Named("simclr_ablate.completion", "completion for bash, zsh and fish"),
}

EVERYWHERE = ("--quiet", "--json")
"""The options that may stand before a command's name."""


def named(words: Sequence[str]) -> tuple[str, list[str]]:
    """The word of a command line that names its command, or DEFAULT, and the words that are left for the command."""
    before = list(itertools.takewhile(lambda word: word in EVERYWHERE, words))
    first, *after = words[len(before) :] or [""]
    if not first or first.startswith(("-", "+", "~")) or "=" in first:
        return DEFAULT, list(words)
    return first, [*before, *after]
