"""Text for a terminal or a pipe, which may lack a character, and may close early."""

import codecs
import errno
import io
import os
import stat
import sys
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simclr_ablate.manner import is_quiet

if TYPE_CHECKING:
    from rich.console import Console

JOINERS = "\u200c\u200d"
"""Invisible characters that some scripts and emoji need."""
STAND_INS = str.maketrans(
    {
        **{"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "−": "-", "…": "..."},
        **{"×": "x", "±": "+-", "√": "sqrt ", "≤": "<=", "≥": ">=", "Σ": "sum ", "²": "^2"},
        **{"ρ": "rho", "τ": "tau", "○": "o", "⁺": "+", "⁻": "-", "ᵀ": "^T"},
    }
)
"""Substitutes for characters of our own texts that an encoding lacks."""
FALLBACK = "simclr_ablate.fallback"


def printable(text: str) -> str:
    """`text` on one line, harmless to a terminal.

    Control characters, line breaks, marks that change the direction of writing and bytes that are not text are written
    as Python escapes: `\\x1b`, `\\n`, `\\u202e`.
    """
    if text.isprintable():
        return text
    return "".join(_spelt(character) if _has_effect(character) else character for character in text)


def count(number: int, noun: str) -> str:
    """`1 seed`, `1,000 epochs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def prepare() -> None:
    """Makes standard output and error accept any text, and survive the end of their reader.

    A character that the encoding lacks is written with others, and `| head -1` ends no work. Streams that somebody else
    has put in their place stay as they are.
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


def make_console(quiet: bool = False, stderr: bool = False) -> "Console":
    """A console for the terminal, or for a file or pipe, with lines wide enough to keep run ids whole.

    stderr: for all that is no result. quiet: prints nothing.
    """
    from rich.console import Console  # slow to import

    prepare()
    # Users' texts may contain brackets, which rich must not interpret.
    look: dict[str, Any] = {"quiet": quiet, "stderr": stderr, "markup": False, "emoji": False}
    console = Console(**look)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=200, **look)


def make_message_console(quiet: bool = False) -> "Console":
    """A console for progress, hints and warnings, of which `--quiet` prints nothing."""
    return make_console(quiet=quiet or is_quiet(), stderr=True)


def sayer(console: "Console") -> Callable[[str], None]:
    """Prints a line of text as it is."""
    return lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True)


def tell(text: str) -> None:
    """Prints a result, as it is."""
    sayer(make_console())(text)


def complain(text: str) -> None:
    """Prints what went wrong, as it is, also with `--quiet`."""
    sayer(make_console(stderr=True))(text)


class _Lasting(io.FileIO):
    """A file that drops its output once nobody reads it, because its pipe or terminal is closed."""

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
        # Otherwise Python would try again on exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _has_effect(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") or (kind == "Cf" and character not in JOINERS)


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Replaces characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(STAND_INS)
    try:
        text.encode(error.encoding)
    except UnicodeEncodeError:
        text = text.encode("ascii", "backslashreplace").decode()
    return text, error.end
