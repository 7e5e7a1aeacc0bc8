"""`python -m analysis [figure5 ...]`: draws what has runs, into reports/; or prints the `claims`."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import processes
from analysis.artefacts import ARTEFACTS, Artefact
from simclr_ablate.config import ConfigError, nearest
from simclr_ablate.paths import expanded

if TYPE_CHECKING:
    import pandas as pd

    from analysis.writing import Written


CLAIMS = "claims"
"""Asks for the scorecard of the paper's findings, on the terminal."""


def main(arguments: list[str] | None = None) -> int:
    """Writes the artefacts asked for and prints their files. Returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.artefacts == [CLAIMS]:
        return _show_claims(options.store)
    if CLAIMS in options.artefacts:
        parser.error(f"{CLAIMS} stands alone, with no artefact beside it")
    for name in options.artefacts:
        if name not in ARTEFACTS:
            parser.error(f"unknown artefact {name}{nearest(name, [*ARTEFACTS, CLAIMS])}")
    chosen = [ARTEFACTS[name] for name in dict.fromkeys(options.artefacts or ARTEFACTS)]
    written = _write(chosen, options.store, options.out, whole=not options.artefacts)
    needing = [artefact for artefact in chosen if artefact.sweep]
    without = [artefact for artefact in needing if not written.get(artefact.name)]
    if options.artefacts or without == needing:
        for artefact in without:
            print(f"{artefact.name}: no finished runs in {options.store}.", file=sys.stderr)
            print(f"Make them with: {artefact.command}", file=sys.stderr)
        return 1 if without else 0
    return 0


def _parser() -> argparse.ArgumentParser:
    known = "\n".join(
        f"  {a.name:<10} {a.title} ({f'sweep={a.sweep}' if a.sweep else 'no runs'})"
        for a in ARTEFACTS.values()
    )
    parser = argparse.ArgumentParser(
        prog="python -m analysis",
        description="Tables and figures from the runs of a store, beside the SimCLR paper's.",
        epilog=f"artefacts:\n{known}\n  {CLAIMS:<10} the paper's findings: confirmed, refuted or undecided",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "artefacts",
        nargs="*",
        metavar="ARTEFACT",
        help="see below; default: all that have runs, the scorecard, and index.html, the page of "
        f"them all. `{CLAIMS}` alone prints the scorecard and draws nothing",
    )
    parser.add_argument(
        "--store",
        type=_folder,
        default=Path("runs"),
        metavar="DIR",
        help="the run store (default: runs)",
    )
    parser.add_argument(
        "--out",
        type=_folder,
        default=Path("reports"),
        metavar="DIR",
        help="where to write (default: reports)",
    )
    return parser


def _folder(text: str) -> Path:
    try:
        return expanded(text, "it")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _write(
    chosen: list[Artefact], store: Path, out: Path, whole: bool
) -> "dict[str, list[Written]]":
    """Writes and prints the reports of each artefact, by its name; of the `whole` of them, also the
    scorecard and the page, unless none has runs.
    """
    modules = ["analysis.writing", *(artefact.module_name for artefact in chosen)]
    processes.prepare(len(chosen), modules)
    runs = _load(store) if any(artefact.sweep for artefact in chosen) else None
    found = [artefact for artefact in chosen if runs is not None or not artefact.sweep]
    # Here, so that --help does not wait for pandas.
    import pandas as pd

    from analysis import writing
    from analysis.claims import scorecard

    shared = pd.DataFrame() if runs is None else runs
    tasks: dict[str, processes.Task] = {
        artefact.name: partial(writing.write_artefact, artefact, out) for artefact in found
    }
    if whole and runs is not None:
        tasks[CLAIMS] = scorecard
    written, findings = {}, []
    for name, result in processes.apply(tasks, shared):
        if name == CLAIMS:
            findings = result
            continue
        written[name] = result
        for report in result:
            print(*report.lines, sep="\n")
    if whole and any(written[artefact.name] for artefact in found if artefact.sweep):
        print(*writing.write_scorecard_and_page(written, findings, shared, out), sep="\n")
    return written


def _load(store: Path) -> "pd.DataFrame | None":
    if not store.is_dir():
        print(f"The store {store} does not exist.", file=sys.stderr)
        return None
    import analysis

    return analysis.load(store)


def _show_claims(store: Path) -> int:
    """Prints the scorecard. Returns the exit status."""
    runs = _load(store)
    if runs is None:
        return 1
    from analysis.claims import scorecard
    from analysis.claims.printing import show
    from simclr_ablate.launch.progress import make_console

    show(scorecard(runs), make_console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
