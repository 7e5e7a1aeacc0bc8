"""`python -m simclr_ablate.status [sweep=NAME] [store=DIR] [--json]`: what the store holds, and how it is going."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from simclr_ablate.launch.progress import columns, duration, make_console
from simclr_ablate.schema import nearest
from simclr_ablate.store import Run, Store

COLORS = {"complete": "green", "running": "cyan", "failed": "red", "interrupted": "yellow"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, or JSON for scripts. Exit status 2 for input that makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m simclr_ablate.status", description=__doc__)
    parser.add_argument("filters", nargs="*", metavar="sweep=NAME|store=DIR")
    parser.add_argument("--json", action="store_true", help="one JSON list of runs")
    options = parser.parse_args(arguments)
    given = dict(item.partition("=")[::2] for item in options.filters)
    for name in given:
        if name not in ("sweep", "store"):
            print(
                f"error: unknown filter {name}{nearest(name, ['sweep', 'store'])}", file=sys.stderr
            )
            return 2
    store = Store(given.get("store", "runs"))
    try:
        runs = select(store, given.get("sweep"))
    except LookupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = [describe(run) for run in runs]
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        print_table(rows, store)
    return 0


def select(store: Store, sweep: str | None) -> list[Run]:
    """All runs, or those of the last launched sweep of that name. Raises LookupError."""
    if sweep is None:
        return list(store.runs())
    records = {record.name: record for record in store.sweeps()}
    if sweep not in records:
        raise LookupError(
            f"sweep {sweep} was not launched on the store {store.root}"
            f"{nearest(sweep, records)} (launched: {', '.join(records) or 'none'})"
        )
    return [store.run(run_id) for run_id in records[sweep].run_ids]


def describe(run: Run) -> dict[str, Any]:
    """One run as plain values: id, state, progress, metrics (percent) by evaluation, failure."""
    return {
        "run_id": run.run_id,
        "state": run.state(),
        "folder": str(run.path),
        "progress": run.progress(),
        "holder": run.holder(),
        "evaluations": {key: found["metrics"] for key, found in run.evaluations().items()},
        "failure": (run.failure() or {}).get("reason"),
        "log": str(run.log_path),
    }


def print_table(rows: list[dict[str, Any]], store: Store) -> None:
    """A line a run, and counts by state."""
    from rich.table import Column, Table
    from rich.text import Text

    console = make_console()
    if not rows:
        console.print(f"the store {store.root}/ holds no runs", highlight=False)
        return
    table = Table(Column("run", no_wrap=True), "state", "top-1", "kNN", "details")
    for row in rows:
        metrics: dict[str, float] = next(iter(row["evaluations"].values()), {})
        cells = [f"{metrics[name]:.1f}" if metrics else "-" for name in ("top1", "knn_top1")]
        state = Text(row["state"], style=COLORS.get(row["state"], ""))
        table.add_row(row["run_id"], state, *cells, Text(_details(row)))
    console.print(table)
    counts = Counter(row["state"] for row in rows)
    console.print(", ".join(f"{n} {state}" for state, n in counts.items()), highlight=False)


def _details(row: dict[str, Any]) -> str:
    if row["state"] == "failed":
        return f"{row['failure']} (log: {row['log']})"
    progress = row["progress"]
    if row["state"] in ("running", "interrupted") and progress:
        since = duration(max(0.0, time.time() - progress["time"]))
        return "  ".join(columns(progress)) + f"  ({since} ago)"
    return ""


if __name__ == "__main__":
    sys.exit(main())
