"""The manner in which a command speaks: `--quiet` and `--json`.

It is kept in the environment. Between our command line and the task, Hydra passes on only overrides, and the processes
that its launchers start inherit the environment.
"""

import os

QUIET, JSON = "SIMCLR_ABLATE_QUIET", "SIMCLR_ABLATE_JSON"


def set_manner(quiet: bool, as_json: bool = False) -> None:
    """Sets the manner of this process and of those that it starts. quiet: whether to print only results and errors."""
    for name, given in ((QUIET, quiet), (JSON, as_json)):
        if given:
            os.environ[name] = "1"
        else:
            os.environ.pop(name, None)


def is_quiet() -> bool:
    """Whether only results and errors are printed."""
    return QUIET in os.environ


def is_json() -> bool:
    """Whether tables are printed as JSON."""
    return JSON in os.environ
