"""docs/tutorial.md is true: every line as it is written, with the wheel, in a folder where a user has an `analysis`.

Its output is as it is shown, but for numbers, which a machine rounds in its own way.
"""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.commands import user_environment

pytestmark = pytest.mark.slow

TEXT = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"```(console|yaml)\n(.*?)```", TEXT, re.S)
OWN = "raise SystemExit('this is the analysis of a user')\n"


def commands(block: str) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the lines that it prints."""
    lines = block.splitlines()
    starts = [k for k, line in enumerate(lines) if line.startswith("$ ")]
    return [
        (lines[begin].removeprefix("$ "), lines[begin + 1 : end])
        for begin, end in pairwise([*starts, len(lines)])
    ]


def plain(line: str) -> str:
    """A line without its numbers, ids and the width of its columns."""
    line = re.sub(r"\b[0-9a-f]{10}\b", "ID", line)
    return re.sub(r"[\s│–]+", " ", re.sub(r"[-+−]?\d[\d,.]*", "N", line)).strip()


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether what was printed is what is shown; `...` stands for any text, or on a line of its own for any lines."""
    pattern = ""
    for line in shown:
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, plain(line).split("..."))) + r"\n"
    return re.fullmatch(pattern, "".join(f"{plain(line)}\n" for line in printed)) is not None


def test_every_line_does_what_the_tutorial_says(
    installed: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path / "study"
    (folder / "analysis").mkdir(parents=True)
    theirs = [folder / "analysis.py", folder / "analysis" / "__init__.py"]
    for path in theirs:
        path.write_text(OWN)
    program = tmp_path / "bin" / "simclr-ablate"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfrom simclr_ablate.__main__ import main\n"
        'if __name__ == "__main__":\n    sys.exit(main())\n'
    )
    program.chmod(0o755)
    # A link would lose the virtual environment: Python looks for it beside the name it is called by.
    python = program.parent / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    environment = user_environment(tmp_path_factory.mktemp("cache")) | {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(installed),
    }
    files = iter(re.findall(r"Save this as `([\w.]+)`", TEXT))
    for kind, block in BLOCKS:
        if kind == "yaml":
            (folder / next(files)).write_text(block)
            continue
        for line, shown in commands(block):
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, (line, done.stdout)
            assert matches(shown, done.stdout.splitlines()), (line, done.stdout)
    assert next(files, None) is None
    assert all(path.read_text() == OWN for path in theirs), "they are untouched"


def test_what_is_elided_and_what_is_not() -> None:
    assert matches(["a 1.5", "...", "z"], ["a 27", "b", "c", "z"])
    assert matches(["a (...)"], ["a (0.6 MB)"])
    assert not matches(["a 1.5", "z"], ["a 27", "b", "z"])
    assert not matches(["a", "..."], ["b", "c"])
