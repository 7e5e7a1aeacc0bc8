"""A store that travels: the results of its runs, without their weights, in one file; and files of others in one store.

python -m simclr_ablate.store pack to=study.zip                        every complete run of runs/
python -m simclr_ablate.store pack sweep=NAME store=DIR to=study.zip   the runs of a sweep, or of NAME,NAME
python -m simclr_ablate.store pack to=study.zip examples=true          with the results on each test image; transfer:
                                                                       only of evaluations on other data sets
python -m simclr_ablate.store unpack study.zip other.zip store=DIR     into a new store, or one that is there
python -m analysis --store study.zip                                   its tables and figures, without unpacking it

A pack has configs, metrics, histories, logs and launches, and what python -m analysis has computed from weights. pack
never writes over a file. unpack checks all packs first and replaces nothing: equal results become one; if results of
one run differ, it names them and writes nothing.

Exit status: 0 if all is done; 1 if results differ, or a process works on a run that something is missing of; 2 if the
input is wrong, or a pack is damaged.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from simclr_ablate import terminal
from simclr_ablate.config import ConfigError, nearest, one_of
from simclr_ablate.paths import expanded
from simclr_ablate.store.store import Store
from simclr_ablate.terminal import count, printable

WORDS = {"pack": ("to", "sweep", "run", "store", "examples"), "unpack": ("store",)}
"""The actions, each with the keys that it accepts."""
OF_WEIGHTS = {"eigenvalues": "Figure B.3", "separation": "Figure B.4", "parameters": "Table 6"}
"""What is drawn from results that were computed from weights, by their names."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Packs or unpacks. Returns the exit status."""
    terminal.prepare()
    parser = argparse.ArgumentParser(
        prog="python -m simclr_ablate.store",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", metavar="pack|unpack")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="to=FILE|sweep=NAME|run=ID|store=DIR|examples=true or transfer|FILE",
    )
    options = parser.parse_args(arguments)
    try:
        given, files = read_words(options.action, options.words)
        return ACTIONS[options.action](given, files)
    except ConfigError as error:
        _say(f"error: {error}", sys.stderr)
        return 2


def read_words(action: str, words: Sequence[str]) -> tuple[dict[str, str], list[Path]]:
    """The values of `key=value` by key, and the files. Raises ConfigError."""
    if action not in WORDS:
        raise ConfigError(
            f"unknown action {action!r}{nearest(action, WORDS)} (accepted: {', '.join(WORDS)})"
        )
    given, files = {}, []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"\w+", name):
            files.append(expanded(word, "a pack"))
        elif name not in WORDS[action]:
            accepted = ", ".join(WORDS[action])
            raise ConfigError(
                f"unknown word {word!r}{nearest(name, WORDS[action])} (accepted: {accepted})"
            )
        else:
            given[name] = value
    return given, files


def pack(given: Mapping[str, str], files: Sequence[Path]) -> int:
    """Packs a store. Raises ConfigError."""
    if files:
        raise ConfigError(f"unknown word {str(files[0])!r}: write to={files[0]}")
    if not given.get("to"):
        raise ConfigError("to must be the file to write, got nothing")
    from simclr_ablate.store import packing

    examples = given.get("examples", "false")
    if examples not in packing.EXAMPLES:
        raise ConfigError(f"examples must be {one_of(packing.EXAMPLES)}, got {examples!r}")
    to, sweeps = expanded(given["to"], "to"), given.get("sweep")
    made = packing.pack(
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
        _say(f"without results on each test image: {of_tables * bool(needed)}{every}")
    for name, runs in sorted(made.derived.items()):
        shown = OF_WEIGHTS.get(name, "a picture")
        _say(f"with the {name} of {count(runs, 'run')}, for {shown}")
    if not made.derived:
        _say(
            "without what needs weights (Figures B.3 and B.4, sizes in Table 6): python -m analysis "
            "computes it, and pack takes it along"
        )
    for line in made.left_out:
        _say(f"left out: {line}")
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
        _say(f"passed over: a process works on {run_id}; unpack again when it has ended")
    return 1 if done.held else 0


ACTIONS: dict[str, Callable[[Mapping[str, str], Sequence[Path]], int]] = {
    "pack": pack,
    "unpack": unpack,
}


def _size(bytes_: int) -> str:
    return f"{bytes_ / 1e6:.1f} MB" if bytes_ >= 1e5 else f"{bytes_ / 1e3:.1f} kB"


def _say(line: str, file: TextIO | None = None) -> None:
    print(printable(line), file=file)


if __name__ == "__main__":
    sys.exit(main())
