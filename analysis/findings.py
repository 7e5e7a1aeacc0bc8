"""A verdict on each finding of the paper, and what would decide those that are undecided.

simclr-ablate findings                        the scorecard of the runs in runs/
simclr-ablate findings more                   the undecided findings, and what would decide them
simclr-ablate findings store=DIR --json       of another store, or a pack of one; for scripts
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simclr_ablate import terminal
from simclr_ablate.exit_status import ExitStatus
from simclr_ablate.paths import expanded
from simclr_ablate.words import Parser, Values, Vocabulary, ended

from .packs import opened
from .stores import check_store, runs_of

MORE = "more"
WORDS = Vocabulary({"store": Values.FOLDER}, alone=(MORE,))


def parser() -> Parser:
    """The options of `findings`."""
    made = Parser("findings", "[more] [store=DIR|FILE]", __doc__)
    made.add_argument("--json", action="store_true", help="print them as one JSON list")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the scorecard, or what would decide more. Returns the exit status."""
    terminal.prepare()
    options = parser().read(arguments)
    return ended(lambda: _carry_out(options))


def _carry_out(options: argparse.Namespace) -> int:
    """Raises ConfigError."""
    alone, given = WORDS.read(options.words)
    show = show_more if WORDS.action(alone) else show_findings
    with opened(expanded(given.get("store", "runs"), "store")) as store:
        show(store, options.json)
    return ExitStatus.OK


def show_findings(store: Path, as_json: bool) -> None:
    """Prints the scorecard. Raises ConfigError."""
    check_store(store)
    runs = runs_of(store)
    # Imported here to keep --help from waiting for pandas.
    from .claims import scorecard
    from .claims.printing import data, show

    findings = scorecard(runs)
    if as_json:
        print(json.dumps([_record(row) for row in data(findings).to_dict("records")], indent=1))
    else:
        show(findings, terminal.make_console())


def _record(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of `claims.csv` for JSON, which has no NaN, and has lists."""
    import pandas as pd

    plain = {name: None if pd.isna(value) else value for name, value in row.items()}
    return {"finding": plain.pop("claim"), **plain, "run_ids": row["run_ids"].split()}


def show_more(store: Path, as_json: bool) -> None:
    """Prints what would decide the undecided findings. Raises ConfigError."""
    check_store(store)
    runs = runs_of(store)
    from . import more
    from .claims import scorecard

    found = more.needs(runs, scorecard(runs))
    if as_json:
        print(more.as_json(found))
    else:
        more.show(found, runs, terminal.make_console())


if __name__ == "__main__":
    sys.exit(main())
