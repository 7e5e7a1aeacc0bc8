"""`python -m analysis [ARTEFACT ...]` writes the artefacts that have runs to reports/, or prints the `claims`."""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from simclr_ablate import terminal
from simclr_ablate.config import ConfigError, nearest
from simclr_ablate.files import StorageError, storing
from simclr_ablate.paths import expanded
from simclr_ablate.store import Store

from . import processes
from .artefacts import ARTEFACTS, Artefact
from .packs import opened, origin

if TYPE_CHECKING:
    import pandas as pd

    from .writing import Outcome

REFUSED = 2

CLAIMS, MORE = "claims", "more"
"""The arguments that print the scorecard of the paper's findings, and what would decide the undecided ones."""


def main(arguments: list[str] | None = None) -> int:
    """Writes the artefacts that `arguments` name, or all, and prints their files.

    Returns the exit status: 1 if a named artefact, or every artefact, has no runs or cannot be made; 2 if the store
    cannot be read or the folder cannot be written.
    """
    terminal.prepare()
    parser = _parser()
    options = parser.parse_args(arguments)
    for alone in (CLAIMS, MORE):
        if alone in options.artefacts and len(options.artefacts) > 1:
            parser.error(f"{alone} must be the only argument, got {' '.join(options.artefacts)}")
    for name in options.artefacts:
        if name not in (*ARTEFACTS, CLAIMS, MORE):
            parser.error(f"unknown artefact {name}{nearest(name, [*ARTEFACTS, CLAIMS, MORE])}")
    if options.json and options.artefacts != [MORE]:
        parser.error(f"--json goes with {MORE} alone")
    try:
        with opened(options.store) as store:
            if options.artefacts == [CLAIMS]:
                return _show_claims(store)
            if options.artefacts == [MORE]:
                return _show_more(store, options.json)
            chosen = [ARTEFACTS[name] for name in dict.fromkeys(options.artefacts or ARTEFACTS)]
            return _write(chosen, store, options.out, whole=not options.artefacts)
    except ConfigError as error:
        _say(f"error: {error}", file=sys.stderr)
        return REFUSED


def _parser() -> argparse.ArgumentParser:
    known = "\n".join(
        f"  {a.name:<10} {a.title} ({f'sweep={a.sweep}' if a.sweep else 'needs no runs'})"
        for a in ARTEFACTS.values()
    )
    parser = argparse.ArgumentParser(
        prog="python -m analysis",
        description="The SimCLR paper's tables and figures, rebuilt from the runs of a store.",
        epilog=f"artefacts:\n{known}\n  {CLAIMS:<10} a verdict on each finding of the paper\n"
        f"  {MORE:<10} the undecided findings, and what would decide them",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "artefacts",
        nargs="*",
        metavar="ARTEFACT",
        help="what to write (default: every artefact that has runs, the scorecard, and index.html, "
        f"the page with all of them). `{CLAIMS}` prints the scorecard and writes nothing",
    )
    parser.add_argument(
        "--store",
        type=_folder,
        default=Path("runs"),
        metavar="DIR|FILE",
        help="folder with the runs, or a pack of them (default: runs)",
    )
    parser.add_argument("--json", action="store_true", help=f"print `{MORE}` as JSON")
    parser.add_argument(
        "--out",
        type=_folder,
        default=Path("reports"),
        metavar="DIR",
        help="folder to write to (default: reports)",
    )
    return parser


def _folder(text: str) -> Path:
    try:
        return expanded(text, "it")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _write(chosen: list[Artefact], store: Path, out: Path, whole: bool) -> int:
    """Writes the reports of the `chosen` artefacts and prints their files. Returns the exit status.

    whole: whether they are all the artefacts; the scorecard and the page are then written too, unless none has runs.
    Raises ConfigError.
    """
    if any(artefact.sweep for artefact in chosen):
        _check_store(store)
    _check_out(out)
    modules = [f"{__package__}.writing", *(artefact.module_name for artefact in chosen)]
    processes.prepare(len(chosen), modules)
    # Imported here to keep --help from waiting for pandas.
    from . import writing
    from .claims import scorecard

    runs = _load_for(chosen, store)
    tasks: dict[str, processes.Task] = {
        artefact.name: partial(writing.write_artefact, artefact, out) for artefact in chosen
    }
    if whole:
        tasks[CLAIMS] = scorecard
    outcomes, findings = {}, []
    for name, result in processes.apply(tasks, runs):
        if name == CLAIMS:
            findings = result
            continue
        outcomes[name] = result
        for report in result.written:
            _say(*report.lines)
    made = [outcomes[artefact.name] for artefact in chosen if artefact.sweep]
    some = any(outcome.written or outcome.problem for outcome in made)
    status = _tell_missing(outcomes, runs, named=not (whole and some))
    if whole and any(outcome.written for outcome in made):
        _say(*writing.write_scorecard_and_page(outcomes, findings, runs, out))
    return status


def _tell_missing(outcomes: "dict[str, Outcome]", runs: "pd.DataFrame", named: bool) -> int:
    """Prints what went wrong and what was left out. Returns the exit status.

    named: whether to print also which artefacts have nothing to show, and to fail for them.
    """
    from .writing import why_nothing

    status = 0
    for name, outcome in outcomes.items():
        for left_out in outcome.left_out:
            _say(f"{name}: left out {left_out.setting}: {left_out.reason}", file=sys.stderr)
        for line in outcome.problem.splitlines():
            _say(f"{name}: {line}", file=sys.stderr)
        nothing = not (outcome.written or outcome.left_out or outcome.problem)
        if nothing and named:
            _say(f"{name}: {why_nothing(ARTEFACTS[name], outcome, runs)}", file=sys.stderr)
        failed = outcome.problem or (named and not outcome.written)
        status = max(status, REFUSED if outcome.unwritten else int(bool(failed)))
    return status


def _check_store(store: Path) -> None:
    """Raises ConfigError if `store` is not a folder that can be read."""
    if not os.path.lexists(store):
        raise StorageError(f"the store {store} does not exist; name another with --store DIR")
    with storing(store, "--store"):
        os.scandir(store).close()


def _check_out(out: Path) -> None:
    """Makes the folder `out`. Raises StorageError if nothing can be written into it."""
    with storing(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()


def _load_for(chosen: list[Artefact], store: Path) -> "pd.DataFrame":
    """The runs that the `chosen` artefacts can show. Raises ConfigError if there are none, and some need runs."""
    import pandas as pd

    from . import load

    if any(artefact.sweep for artefact in chosen):
        return _load(store)
    if any(artefact.of_images for artefact in chosen) and store.is_dir():
        return load(store)
    return pd.DataFrame()


def _load(store: Path) -> "pd.DataFrame":
    """The runs of `store`. Raises ConfigError if there are none."""
    from . import load

    runs = load(store)
    if runs.empty:
        there = len(list(Store(store).runs()))
        why = f"none of its {there} runs can be read" if there else "it holds no runs"
        raise ConfigError(f"the store {origin(store) or store} has nothing to show: {why}")
    return runs


def _show_claims(store: Path) -> int:
    """Prints the scorecard. Returns the exit status. Raises ConfigError."""
    _check_store(store)
    runs = _load(store)
    from simclr_ablate.terminal import make_console

    from .claims import scorecard
    from .claims.printing import show

    show(scorecard(runs), make_console())
    return 0


def _show_more(store: Path, as_json: bool) -> int:
    """Prints what would decide the undecided findings. Returns the exit status. Raises ConfigError."""
    _check_store(store)
    runs = _load(store)
    from . import more
    from .claims import scorecard

    found = more.needs(runs, scorecard(runs))
    if as_json:
        _say(*more.as_json(found).splitlines())
    else:
        more.show(found, runs, terminal.make_console())
    return 0


def _say(*lines: str, file: TextIO | None = None) -> None:
    """Prints each line on a line of its own, whatever characters its folders and labels hold."""
    for line in lines:
        print(terminal.printable(line), file=file)


if __name__ == "__main__":
    sys.exit(main())
