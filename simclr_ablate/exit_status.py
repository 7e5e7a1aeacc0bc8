"""The exit status of every command."""

import enum


class ExitStatus(enum.IntEnum):
    """The exit status of a command."""

    OK = 0
    SOME_FAILED = 1
    REFUSED = 2
    STOPPED = 130


TOLD = (
    "Exit status: 0 if all is done, 1 if something failed, 2 if the command is wrong and nothing was started,\n"
    "130 if it was stopped (Ctrl-C)"
)
"""What `--help` says about them."""
