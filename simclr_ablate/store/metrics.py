"""The metrics of a run's steps, `metrics.jsonl`: a line of JSON for each step that was asked for, in order.

A line is written whole or, if the process is killed or the disk is full, cut short; then the next attempt removes it.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from simclr_ablate.files import report_damage, report_unreadable, storing, write_atomically

Metrics = dict[str, float]
"""A line: `step` and `epoch`, counted from 1, `time` (seconds since 1970), and what was measured, by name."""


class MetricsFile:
    """The file of one run. Only the holder of the run's lease writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, lines: Iterable[Mapping[str, float]], durably: bool = False) -> None:
        """Adds lines, all at once. Raises StorageError.

        durably: whether they have to reach the disk before this returns.
        """
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        if not text and not (durably and self.path.exists()):
            return
        with storing(self.path), open(self.path, "ab") as file:
            file.write(text.encode())
            if durably:
                file.flush()
                os.fsync(file.fileno())

    def cut(self, step: int) -> None:
        """Removes lines after `step`, and damaged ones. Raises StorageError."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            report_unreadable(self.path, error)
            return
        lines = content.splitlines(keepends=True)
        kept = [line for line in lines if (read := parsed(line)) and read["step"] <= step]
        if kept != lines:
            write_atomically(self.path, lambda file: file.write(b"".join(kept)))

    def read(self) -> list[Metrics]:
        """All lines, without damaged ones, which are reported; none if there is no such file."""
        try:
            content = self.path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            report_unreadable(self.path, error)
            return []
        lines = list(map(parsed, whole_lines(content)))
        if None in lines:
            report_damage(self.path, f"line {lines.index(None) + 1} is none of metrics")
        return [line for line in lines if line is not None]


def whole_lines(content: bytes) -> list[bytes]:
    """The lines of `content`, without a last one that is still being written."""
    return content[: content.rfind(b"\n") + 1].splitlines(keepends=True)


def parsed(line: bytes) -> Metrics | None:
    """The metrics in a whole line, or None if it holds none."""
    try:
        read: Any = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(read, dict) or type(read.get("step")) is not int:
        return None
    numbers = all(type(value) in (int, float) and math.isfinite(value) for value in read.values())
    return read if numbers else None
