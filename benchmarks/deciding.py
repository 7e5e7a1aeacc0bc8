"""How many findings an hour decides: with `until=decided`, and with whole seeds of the same sweeps, one by one.

`python -m benchmarks.deciding FOLDER [HOURS]` keeps the stores in FOLDER. It does both, twice, with other seeds; so it
takes four times HOURS, on the embedded images. What is there already is not done again: remove FOLDER/NAME.json and
FOLDER/NAME to do a part anew.
"""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.measure import print_table
from simclr_ablate.exit_status import ExitStatus
from simclr_ablate.files import read_json, write_json

SWEEPS = "color_strength,temperature,projection_head,transformation_probe"
"""Sweeps of which an hour has several seeds: thirteen findings."""
FIRST_SEEDS = (0, 50)
"""Of the two times."""
MOST_SEEDS = 21
"""Of `until=decided`, whose last look has as many."""
GRACE_SECONDS = 120.0
"""How long an interrupted command may take to end."""

COMMAND = [sys.executable, "-m", "simclr_ablate"]


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit("error: give a folder for the stores, and the hours of each part if it is not one")
    folder = Path(sys.argv[1])
    hours = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for first in FIRST_SEEDS:
        for name, spend in (("until=decided", _until_decided), ("whole seeds", _whole_seeds)):
            store = folder / f"{name.replace('=', '-').replace(' ', '-')}-from-{first}"
            record = store.with_suffix(".json")
            if not record.exists():
                begin = time.monotonic()
                spend(store, first, hours)
                write_json(record, {"seconds": time.monotonic() - begin, "hours": hours})
            took = read_json(record)["seconds"] / 60  # type: ignore[index]
            rows.append([name, str(first), f"{took:.0f} min", *_verdicts(store)])
    header = [
        "how",
        "first seed",
        "time",
        "decided",
        "confirmed",
        "refuted",
        "undecided",
        "not run",
    ]
    print_table(header, rows)


def _until_decided(store: Path, first: int, hours: float) -> None:
    words = ["until=decided", f"budget_hours={hours}", f"max_seeds={MOST_SEEDS}"]
    _launch(store, [first], *words).wait()


def _whole_seeds(store: Path, first: int, hours: float) -> None:
    """Adds a seed of everything until the time is up."""
    deadline = time.monotonic() + 3600 * hours
    for count in range(1, MOST_SEEDS + 1):
        command = _launch(store, range(first, first + count))
        try:
            command.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            command.send_signal(signal.SIGINT)
            command.wait(GRACE_SECONDS)
            return
        if command.returncode != ExitStatus.OK:
            sys.exit(f"error: {store.name}: the sweep ended with status {command.returncode}")


def _launch(store: Path, seeds: "range | list[int]", *words: str) -> subprocess.Popen[bytes]:
    own = [f"sweep={SWEEPS}", f"store={store}", f"scale.seeds={list(seeds)}".replace(" ", "")]
    return subprocess.Popen([*COMMAND, "-m", *own, *words])


def _verdicts(store: Path) -> list[str]:
    """How many findings of the sweeps are decided; confirmed, refuted, undecided and not run."""
    told = subprocess.run(
        [*COMMAND, "findings", f"store={store}", "--json"], capture_output=True, check=True
    )
    counts = Counter(finding["verdict"] for finding in json.loads(told.stdout))
    decided = counts["confirmed"] + counts["refuted"]
    return [
        str(decided),
        *(str(counts[v]) for v in ("confirmed", "refuted", "undecided", "not run")),
    ]


if __name__ == "__main__":
    main()
