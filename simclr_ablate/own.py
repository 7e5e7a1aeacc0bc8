"""Users' own functions, named as `package.module:function`: finding them, and reporting their errors."""

import importlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simclr_ablate.config import OWN, ConfigError, is_own, nearest, one_of

_NOT_THE_USERS = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    f"{Path(__file__).parent}{os.sep}",
    "<",
)
"""Where code that the user has not written is found."""


class OwnError(ConfigError):
    """An error in a user's own function. The message names the key, the function and the line."""


def look_in(folder: str | Path) -> None:
    """Makes Python look for modules in `folder` too, after all other places.

    `python -m` looks in the current folder anyway; an installed command or a job on another machine does not.
    """
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def find(key: str, name: str, choices: Iterable[str] = ()) -> Callable[..., Any]:
    """The user's function `name`, the value of `key`. choices: the names of our own functions, for the message.

    Raises OwnError with the reason if it cannot be found, and ConfigError if `name` does not have the form of OWN.
    """
    if not is_own(name):
        raise ConfigError(f"{key} must be {one_of(choices, own=True)}, got {name!r}")
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise OwnError(
            f"{key} must name a function that can be imported, got {name!r}: {_why(error, module_name)}"
        ) from error
    if not hasattr(module, function):
        raise OwnError(
            f"{key} must name a function that can be imported, got {name!r}: module {module_name!r} "
            f"has no {function!r}{nearest(function, dir(module))}"
        )
    piece = getattr(module, function)
    if not callable(piece):
        raise OwnError(
            f"{key} must name a function ({OWN}), got {name!r}, which is {type(piece).__name__}"
        )
    return piece


@contextmanager
def blamed(named: str, task: str) -> Iterator[None]:
    """Turns errors raised inside into an OwnError that says what failed, at which task and in which line.

    named: the key and the user's function, e.g. `head.kind=mine:deep`; may be several.
    task: what the user's code should do, e.g. `make a head for h of width 128`.
    """
    try:
        yield
    except OwnError:
        raise
    except (Exception, SystemExit) as error:
        raise OwnError(f"{named} must {task}, and failed: {told(error)}") from error


def told(error: BaseException) -> str:
    """The error's type and message, and the line of the user's code that it came from."""
    text = f"{type(error).__name__}: {error}".strip(": ")
    if isinstance(error, SyntaxError):
        return text  # it names the file and the line itself
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if not frame.filename.startswith(_NOT_THE_USERS):
            return f"{text} ({os.path.basename(frame.filename)}, line {frame.lineno})"
    return text


def _why(error: BaseException, module: str) -> str:
    """Why the module could not be imported."""
    missing = isinstance(error, ModuleNotFoundError) and error.name is not None
    if missing and f"{module}.".startswith(f"{error.name}."):  # type: ignore[attr-defined]
        return f"{error} in the current folder or in those of PYTHONPATH"
    return f"its import fails with {told(error)}"
