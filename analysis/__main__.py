"""`python -m analysis [figure5 ...]`: draws what has runs, into reports/; or prints the `claims`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.artefacts import ARTEFACTS, Artefact
from simclr_ablate.schema import nearest

if TYPE_CHECKING:
    import pandas as pd


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
    needing = [artefact for artefact in chosen if artefact.sweep]
    runs = _load(options.store) if needing else None
    without = [artefact for artefact in chosen if not _write(artefact, runs, options.out)]
    if options.artefacts or without == needing:
        for artefact in without:
            print(f"{artefact.name}: no finished runs in {options.store}.", file=sys.stderr)
            print(f"Make them with: {artefact.command}", file=sys.stderr)
        return 1 if without else 0
    if runs is not None:
        _write_claims(runs, options.out)
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
        help="see below; default: all that have runs, and the scorecard. "
        f"`{CLAIMS}` alone prints the scorecard and draws nothing",
    )
    parser.add_argument(
        "--store",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="the run store (default: runs)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("reports"),
        metavar="DIR",
        help="where to write (default: reports)",
    )
    return parser


def _load(store: Path) -> "pd.DataFrame | None":
    if not store.is_dir():
        print(f"The store {store} does not exist.", file=sys.stderr)
        return None
    # Here, so that --help does not wait for pandas.
    import analysis

    return analysis.load(store)


def _write(artefact: Artefact, runs: "pd.DataFrame | None", out: Path) -> bool:
    """Writes and prints every report of `artefact`; False where there is none."""
    if runs is None and artefact.sweep:
        return False
    import pandas as pd

    from analysis.report import write

    reports = artefact.module().reports(pd.DataFrame() if runs is None else runs)
    for report in reports:
        print(report.title, *report.summary, sep="\n  ")
        print(*write(report, out), sep="\n")
    return bool(reports)


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


def _write_claims(runs: "pd.DataFrame", out: Path) -> None:
    """Writes the scorecard, and prints its counts and files."""
    from analysis.claims import scorecard
    from analysis.claims.printing import counts, write

    findings = scorecard(runs)
    print(f"Claims: {counts(findings)}", *write(findings, out), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
