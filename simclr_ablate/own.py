"""What users bring along as `package.module:function`: finding it, and telling what is wrong with it."""

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
"""Where code lies that the user has not written."""


class OwnError(ConfigError):
    """What the user brought along is wrong: the message names the key, the function and the line."""


def look_in(folder: str | Path) -> None:
    """Has Python look for modules in `folder` too, after all other places.

    `python -m` looks in the current folder by itself; an installed command, or a job on another machine, does not.
    """
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def find(key: str, name: str, choices: Iterable[str] = ()) -> Callable[..., Any]:
    """The function that `key`, whose value is `name`, means. choices: the names that are ours.

    Raises OwnError where there is none, with the reason, and ConfigError where `name` means no function of the user's.
    """
    if not is_own(name):
        raise ConfigError(f"{key} must be {one_of(choices, own=True)}, got {name!r}")
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise OwnError(
            f"{key} must name what can be imported, got {name!r}: {_why(error, module_name)}"
        ) from error
    if not hasattr(module, function):
        raise OwnError(
            f"{key} must name what can be imported, got {name!r}: module {module_name!r} "
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
    """Errors raised inside come out as an OwnError that says who failed, at what, and in which line.

    named: the key and the user's function, e.g. `head.kind=mine:deep`, or several.
    task: what the user's code was to do, e.g. `make a head for h of width 128`.
    """
    try:
        yield
    except OwnError:
        raise
    except (Exception, SystemExit) as error:
        raise OwnError(f"{named} must {task}, and failed: {told(error)}") from error


def told(error: BaseException) -> str:
    """The error's type and message, and the line of the user's that it came from."""
    text = f"{type(error).__name__}: {error}".strip(": ")
    if isinstance(error, SyntaxError):
        return text  # its message has file and line
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if not frame.filename.startswith(_NOT_THE_USERS):
            return f"{text} ({os.path.basename(frame.filename)}, line {frame.lineno})"
    return text


def _why(error: BaseException, module: str) -> str:
    """Why the module could not be imported."""
    missing = isinstance(error, ModuleNotFoundError) and error.name is not None
    if missing and f"{module}.".startswith(f"{error.name}."):  # type: ignore[attr-defined]
        return f"{error}; it is looked for in the current folder and in those of PYTHONPATH"
    return f"importing it fails with {told(error)}"
