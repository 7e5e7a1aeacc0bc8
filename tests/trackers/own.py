"""Trackers of a user's own, which need no package: one that writes a file for each run, and ones that fail."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simclr_ablate.schema import Tracking
from simclr_ablate.store.metrics import Metrics
from simclr_ablate.trackers.tracker import Known, Tracker


class Pages(Tracker):
    """A page of JSON lines for each run, `[WORD, ...]`, in `tracker.folder`. It can be asked what it has."""

    SUFFIX = ".page"

    def begin(self, run_id: str, config: Mapping[str, Any]) -> Known:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{run_id}{self.SUFFIX}"
        words = read(self.path)
        self._add("begin", config.get("seed"))
        lines = [word[1] for word in words if word[0] == "line"]
        results = [word[1] for word in words if word[0] == "result"]
        return Known(
            max((line["step"] for line in lines), default=0),
            frozenset(name for metrics in (*lines, *results) for name in metrics),
        )

    def log(self, lines: Sequence[Metrics]) -> None:
        for line in lines:
            self._add("line", line)

    def conclude(self, metrics: Mapping[str, float], step: int) -> None:
        self._add("result", dict(metrics), step)

    def show(self, pictures: Mapping[str, Path]) -> None:
        for name, path in pictures.items():
            self._add("picture", name, path.read_bytes().hex())

    def end(self, failed: bool) -> None:
        self._add("end", failed)

    def _add(self, *words: object) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps(words) + "\n")


class Forgetful(Pages):
    """The same, but it cannot be asked."""

    SUFFIX = ".forgetful"

    def begin(self, run_id: str, config: Mapping[str, Any]) -> None:  # type: ignore[override]
        super().begin(run_id, config)


class Broken(Pages):
    """Fails as long as a file `broken` lies in its folder."""

    def log(self, lines: Sequence[Metrics]) -> None:
        if (self.folder / "broken").exists():
            raise ConnectionError("no way\nthrough")
        super().log(lines)


class Hanging(Pages):
    """Never comes back."""

    def log(self, lines: Sequence[Metrics]) -> None:
        time.sleep(600)


def read(path: Path) -> list[list[Any]]:
    """The words of a page."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def pages(tracking: Tracking, folder: Path) -> Tracker:
    return Pages(tracking, folder)
