"""A store that travels: the results of its runs, without their weights, in one file; and files of others in one store.

simclr-ablate store pack to=study.zip                        every complete run of runs/
simclr-ablate store pack sweep=NAME store=DIR to=study.zip   the runs of a sweep, or of NAME,NAME
simclr-ablate store pack to=study.zip examples=true          with the results on each test image; transfer:
                                                             only of evaluations on other data sets
simclr-ablate store unpack study.zip other.zip store=DIR     into a new store, or one that is there
simclr-ablate analyse store=study.zip                        its tables and figures, without unpacking it

A pack has configs, metrics, histories, logs and launches, and what the analysis has computed from weights. pack never
writes over a file. unpack checks all packs first and replaces nothing: equal results become one; if results of one run
differ, it names them and writes nothing. The exit status is 1 if results differ, or if a process works on a run that
something is missing of.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from simclr_ablate import terminal
from simclr_ablate.config import ConfigError, nearest, one_of
from simclr_ablate.manner import is_quiet
from simclr_ablate.paths import expanded
from simclr_ablate.store.packing import EXAMPLES
from simclr_ablate.store.packing import pack as pack_store
from simclr_ablate.store.store import Store
from simclr_ablate.terminal import count, printable
from simclr_ablate.words import Parser, Values, Vocabulary, accepted, ended

WORDS = {
    "pack": Vocabulary(
        {
            "to": Values.FILE,
            "sweep": Values.SWEEP,
            "run": Values.RUN,
            "store": Values.FOLDER,
            "examples": EXAMPLES,
        }
    ),
    "unpack": Vocabulary({"store": Values.FOLDER}, alone=Values.FILE),
}
"""The actions, each with the words that it accepts."""
OF_WEIGHTS = {"eigenvalues": "Figure B.3", "separation": "Figure B.4", "parameters": "Table 6"}
"""What is drawn from results that were computed from weights, by their names."""


def parser() -> Parser:
    """The options of `store`."""
    words = "pack to=FILE [sweep=NAME] [run=ID] [store=DIR] [examples=true|transfer] | unpack FILE ... [store=DIR]"
    return Parser("store", words, __doc__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Packs or unpacks. Returns the exit status."""
    terminal.prepare()
    options = parser().read(arguments)

    def carry_out() -> int:
        action, given, files = read_words(options.words)
        return ACTIONS[action](given, files)

    return ended(carry_out)


def read_words(words: Sequence[str]) -> tuple[str, dict[str, str], list[Path]]:
    """The action, the values of `key=value` by key, and the files. Raises ConfigError."""
    action = next((word for word in words if "=" not in word), None)
    if action is None:
        raise ConfigError(f"name an action, got none{accepted(WORDS)}")
    if action not in WORDS:
        raise ConfigError(f"unknown action {action!r}{nearest(action, WORDS)}{accepted(WORDS)}")
    files, given = WORDS[action].read(words)
    files.remove(action)
    return action, given, [expanded(file, "a pack") for file in files]


def pack(given: Mapping[str, str], files: Sequence[Path]) -> int:
    """Packs a store. Raises ConfigError."""
    if files:
        raise ConfigError(f"unknown word {str(files[0])!r}: write to={files[0]}")
    if "to" not in given:
        raise ConfigError("to must be the file to write, got nothing")
    examples = given.get("examples", "false")
    if examples not in EXAMPLES:
        raise ConfigError(f"examples must be {one_of(EXAMPLES)}, got {examples!r}")
    to, sweeps = expanded(given["to"], "to"), given.get("sweep")
    made = pack_store(
        Store(given.get("store", "runs")),
        to,
        sweeps.split(",") if sweeps is not None else (),
        given.get("run"),
        examples,
    )
    packed = [
        count(made.runs, "run"),
        count(made.evaluations, "evaluation"),
        f"{made.launches} launch{'es' * (made.launches != 1)}",
    ]
    _say(f"packed {', '.join(packed)} into {to} ({_size(made.size)})")
    if made.examples:
        _say(f"with the results on each test image of {count(made.examples, 'evaluation')}")
    if made.spared:
        needed = made.spared["transfer"]
        of_tables = f"examples=transfer adds those of Tables 8 and B.5 ({_size(needed)}), "
        every = f"examples=true {'' if needed else 'adds '}all ({_size(made.spared['true'])})"
        _hint(f"without results on each test image: {of_tables * bool(needed)}{every}")
    for name, runs in sorted(made.derived.items()):
        shown = OF_WEIGHTS.get(name, "a picture")
        _say(f"with the {name} of {count(runs, 'run')}, for {shown}")
    if not made.derived:
        _hint(
            "without what needs weights (Figures B.3 and B.4, sizes in Table 6): simclr-ablate analyse "
            "computes it, and pack takes it along"
        )
    for line in made.left_out:
        _hint(f"left out: {line}")
    return 0


def unpack(given: Mapping[str, str], files: Sequence[Path]) -> int:
    """Unpacks packs into a store. Raises ConfigError."""
    if not files:
        raise ConfigError("name the packs to unpack, got none")
    from simclr_ablate.store.pack import Pack
    from simclr_ablate.store.unpacking import UnequalError
    from simclr_ablate.store.unpacking import unpack as unpack_all

    store = Store(given.get("store", "runs"))
    with ExitStack() as stack:
        packs = [stack.enter_context(Pack(file)) for file in files]
        try:
            done = unpack_all(packs, store)
        except UnequalError as error:
            for line in error.conflicts:
                _say(f"unequal: {line}", sys.stderr)
            _say(
                "nothing is unpacked, since results of one run must be equal. To keep one, unpack the other into a "
                "store of its own, remove the run's folder there, and pack that store again",
                sys.stderr,
            )
            return 1
    _say(
        f"unpacked {count(done.runs, 'run')} with {count(done.evaluations, 'evaluation')} into "
        f"{store.root}: {done.new} new, {done.there} there already"
    )
    if done.completed:
        _say(f"added the results on each test image of {done.completed} that were there")
    for run_id in done.held:
        _say(
            f"passed over: a process works on {run_id}; unpack again when it has ended", sys.stderr
        )
    return 1 if done.held else 0


ACTIONS: dict[str, Callable[[Mapping[str, str], Sequence[Path]], int]] = {
    "pack": pack,
    "unpack": unpack,
}


def _size(bytes_: int) -> str:
    return f"{bytes_ / 1e6:.1f} MB" if bytes_ >= 1e5 else f"{bytes_ / 1e3:.1f} kB"


def _hint(line: str) -> None:
    """Prints what is no result, unless the command is quiet."""
    if not is_quiet():
        _say(line, sys.stderr)


def _say(line: str, file: TextIO | None = None) -> None:
    print(printable(line), file=file)


if __name__ == "__main__":
    sys.exit(main())
