"""Text for a terminal or a pipe, which may not know a character, and may close before all is said."""

import codecs
import errno
import io
import os
import stat
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

JOINERS = "\u200c\u200d"
"""Invisible, and part of how some scripts and emoji are spelt."""
STAND_INS = str.maketrans(
    {
        **{"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "−": "-", "…": "..."},
        **{"×": "x", "±": "+-", "√": "sqrt ", "≤": "<=", "≥": ">=", "Σ": "sum ", "²": "^2"},
        **{"ρ": "rho", "τ": "tau", "○": "o", "⁺": "+", "⁻": "-", "ᵀ": "^T"},
    }
)
"""What our own texts say where a character of theirs cannot be shown."""
FALLBACK = "simclr_ablate.fallback"


def printable(text: str) -> str:
    """`text` on one line, without effect on a terminal.

    Control characters, line breaks, marks that turn the direction of writing and bytes that are no text come out as
    Python spells them: `\\x1b`, `\\n`, `\\u202e`.
    """
    if text.isprintable():
        return text
    return "".join(_spelt(character) if _has_effect(character) else character for character in text)


def count(number: int, noun: str) -> str:
    """`1 seed`, `1,000 epochs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def prepare() -> None:
    """Makes standard output and error take any text, and go on when nobody reads them any more.

    A character that the encoding does not have is spelt with others, and `| head -1` ends no work. Does nothing to
    streams that somebody else has put in their place.
    """
    codecs.register_error(FALLBACK, _spell)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            continue
        _flush(stream)
        lasting = io.TextIOWrapper(
            io.BufferedWriter(_Lasting(stream.fileno())),
            encoding=stream.encoding,
            errors=FALLBACK,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, lasting)


def make_console(quiet: bool = False) -> "Console":
    """The terminal; for a file or a pipe, lines wide enough that run ids stay whole."""
    from rich.console import Console  # slow to import

    prepare()
    # What users chose is text, and what is in brackets is not for rich to read.
    look: dict[str, Any] = {"quiet": quiet, "markup": False, "emoji": False}
    console = Console(**look)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=200, **look)


class _Lasting(io.FileIO):
    """A file that drops what is written to it once nobody reads it, because its pipe or its terminal is closed."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        # On a file, EIO means a failing disk and must be reported. A closed terminal is still a character device.
        is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
        self._gone = {errno.EPIPE, errno.EIO} if is_device else {errno.EPIPE}

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in self._gone:
                raise
            return memoryview(content).nbytes


def _flush(stream: io.TextIOWrapper) -> None:
    try:
        stream.flush()
    except BrokenPipeError:
        # Python would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _has_effect(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") or (kind == "Cf" and character not in JOINERS)


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _spell(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(STAND_INS)
    try:
        text.encode(error.encoding)
    except UnicodeEncodeError:
        text = text.encode("ascii", "backslashreplace").decode()
    return text, error.end
