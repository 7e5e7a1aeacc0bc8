"""`simclr-ablate analyse [ARTEFACT ...]` writes the artefacts that have runs to reports/."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from simclr_ablate import terminal
from simclr_ablate.config import ConfigError, nearest
from simclr_ablate.exit_status import ExitStatus
from simclr_ablate.files import storing
from simclr_ablate.manner import is_quiet
from simclr_ablate.paths import expanded
from simclr_ablate.words import Parser, Values, Vocabulary, ended

from . import findings, processes
from .artefacts import ARTEFACTS, Artefact
from .own import artefacts_of
from .packs import opened
from .stores import check_store, runs_of

if TYPE_CHECKING:
    import pandas as pd

    from .writing import Outcome

CLAIMS = "claims"
"""The name of the scorecard's files."""
EARLIER = {CLAIMS: findings.show_findings, findings.MORE: findings.show_more}
"""Words that `simclr-ablate findings` has replaced."""

WORDS = Vocabulary({"store": Values.FOLDER, "out": Values.FOLDER}, alone=tuple(ARTEFACTS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the artefacts that `arguments` name, or all, and prints their files.

    Returns the exit status: 1 if a named artefact, or every artefact, has no runs or cannot be made; 2 if the store
    cannot be read or the folder cannot be written.
    """
    terminal.prepare()
    options = parser().read(arguments)
    return ended(lambda: _carry_out(options))


def parser() -> Parser:
    """The options of `analyse`."""
    known = "\n".join(
        f"  {a.name:<10} {a.title} ({f'sweep={a.sweep}' if a.sweep else 'needs no runs'})"
        for a in ARTEFACTS.values()
    )
    made = Parser(
        "analyse",
        "[ARTEFACT ...] [store=DIR|FILE] [out=DIR]",
        "The SimCLR paper's tables and figures, rebuilt from the runs of a store.\n\n"
        "simclr-ablate analyse                      every artefact that has runs, the scorecard of the paper's\n"
        "                                           findings, and reports/index.html, the page with all of them\n"
        "simclr-ablate analyse figure5 table1       only these, and not the page\n"
        "simclr-ablate analyse SWEEP                the artefact that a sweep of your own defines\n"
        "simclr-ablate analyse store=DIR out=DIR    of another store, or a pack of one, into another folder",
        f"artefacts:\n{known}",
    )
    made.add_argument(
        "--json", action="store_true", help="print the files of each artefact as JSON"
    )
    # Earlier spellings of store=DIR and out=DIR.
    made.add_argument("--store", help=argparse.SUPPRESS)
    made.add_argument("--out", help=argparse.SUPPRESS)
    return made


def _carry_out(options: argparse.Namespace) -> int:
    """Raises ConfigError."""
    earlier = {"store": options.store, "out": options.out}
    spelled = [f"{key}={value}" for key, value in earlier.items() if value is not None]
    names, given = WORDS.read([*options.words, *spelled])
    for name in names:
        if name in EARLIER and len(names) > 1:
            raise ConfigError(f"{name} must be given alone, got {' '.join(names)}")
    out = expanded(given.get("out", "reports"), "out")
    with opened(expanded(given.get("store", "runs"), "store")) as store:
        if names and names[0] in EARLIER:
            EARLIER[names[0]](store, options.json)
            return ExitStatus.OK
        artefacts: dict[str, Artefact] = ARTEFACTS
        if not names or any(name not in ARTEFACTS for name in names):
            check_store(store)
            artefacts = artefacts_of(store)
        for name in names:
            if name not in artefacts:
                raise ConfigError(f"unknown artefact {name}{nearest(name, artefacts)}")
        chosen = [artefacts[name] for name in dict.fromkeys(names or artefacts)]
        return _write(chosen, store, out, whole=not names, as_json=options.json)


def _write(chosen: list[Artefact], store: Path, out: Path, whole: bool, as_json: bool) -> int:
    """Writes the reports of the `chosen` artefacts and prints their files. Returns the exit status.

    whole: whether they are all the artefacts; the scorecard and the page are then written too, unless none has runs.
    as_json: prints the files of each artefact as JSON, at the end. Raises ConfigError.
    """
    if any(artefact.sweep for artefact in chosen):
        check_store(store)
    _check_out(out)
    modules = [f"{__package__}.writing", *(artefact.module_name for artefact in chosen)]
    processes.prepare(len(chosen), modules)
    # Imported here to keep --help from waiting for pandas.
    from . import writing
    from .claims import scorecard
    from .claims.printing import tallies

    runs = _load_for(chosen, store)
    tasks: dict[str, processes.Task] = {
        artefact.name: partial(writing.write_artefact, artefact, out) for artefact in chosen
    }
    if whole:
        tasks[CLAIMS] = scorecard
    outcomes, judged = {}, []
    files: dict[str, list[Path]] = {}
    for name, result in processes.apply(tasks, runs):
        if name == CLAIMS:
            judged = result
            continue
        outcomes[name] = result
        for report in result.written:
            files.setdefault(name, []).extend(report.files)
            if not as_json:
                _say(*report.heading, *map(str, report.files))
    made = [outcomes[artefact.name] for artefact in chosen if artefact.sweep]
    some = any(outcome.written or outcome.problem for outcome in made)
    status = _tell_missing(outcomes, runs, named=not (whole and some))
    if whole and any(outcome.written for outcome in made):
        files |= writing.write_scorecard_and_page(outcomes, judged, runs, out)
        if not as_json:
            counts = "; ".join(tallies(judged))
            _say(f"Claims: {counts}", *map(str, [*files[CLAIMS], *files[writing.PAGE]]))
    if as_json:
        _say(
            *json.dumps(
                {n: [*map(str, paths)] for n, paths in files.items()}, indent=1
            ).splitlines()
        )
    return status


def _tell_missing(outcomes: "dict[str, Outcome]", runs: "pd.DataFrame", named: bool) -> int:
    """Prints what went wrong and what was left out. Returns the exit status.

    named: whether to print also which artefacts have nothing to show, and to fail for them.
    """
    from .writing import why_nothing

    status = 0
    for name, outcome in outcomes.items():
        for left_out in outcome.left_out if not is_quiet() else ():
            _say(f"{name}: left out {left_out.setting}: {left_out.reason}", file=sys.stderr)
        for line in outcome.problem.splitlines():
            _say(f"{name}: {line}", file=sys.stderr)
        nothing = not (outcome.written or outcome.left_out or outcome.problem)
        if nothing and named:
            _say(f"{name}: {why_nothing(outcome, runs)}", file=sys.stderr)
        failed = outcome.problem or (named and not outcome.written)
        status = max(status, ExitStatus.REFUSED if outcome.unwritten else int(bool(failed)))
    return status


def _check_out(out: Path) -> None:
    """Makes the folder `out`. Raises StorageError if nothing can be written into it."""
    with storing(out, "out"):
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()


def _load_for(chosen: list[Artefact], store: Path) -> "pd.DataFrame":
    """The runs that the `chosen` artefacts can show. Raises ConfigError if there are none, and some need runs."""
    import pandas as pd

    from . import load

    if any(artefact.sweep for artefact in chosen):
        return runs_of(store)
    if any(artefact.of_images for artefact in chosen) and store.is_dir():
        return load(store)
    return pd.DataFrame()


def _say(*lines: str, file: TextIO | None = None) -> None:
    """Prints each line on a line of its own, whatever characters its folders and labels hold."""
    for line in lines:
        print(terminal.printable(line), file=file)


if __name__ == "__main__":
    sys.exit(main())
