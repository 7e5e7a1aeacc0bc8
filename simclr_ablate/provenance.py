"""Where a result comes from: the command, the code, the versions and the machine of each attempt at a task.

Nothing here changes a result, and nothing that cannot be found out stops one.
"""

import functools
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NotRequired, TypedDict

from simclr_ablate import __version__
from simclr_ablate.terminal import count

GIT_SECONDS = 10.0
"""How long git may take to say what it knows of a folder."""


class Revision(TypedDict):
    """A commit, and whether files that git tracks have changed since."""

    commit: str
    changed: bool


class Launch(TypedDict):
    """What the processes of one command share.

    command: the words after the name of the interpreter. folder: where it was given. code: the revision of this
    package, if it is a checkout. own: that of the folder, if it belongs to another repository.
    """

    command: list[str]
    folder: str
    version: str
    code: NotRequired[Revision]
    own: NotRequired[Revision]


class Attempt(Launch):
    """One process's work on a task. time: when it began. ranks: how many processes shared it."""

    time: float
    host: str
    python: str
    torch: str
    device: str
    threads: int
    ranks: int
    job: NotRequired[str]


@functools.cache
def launch() -> Launch:
    """The command of this process. It is found out once."""
    package, folder = Path(__file__).parent, os.getcwd()
    found: Launch = {"command": sys.orig_argv[1:], "folder": folder, "version": __version__}
    # An installed package may lie in the repository of a user, which says nothing about it.
    is_checkout = _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None
    code = revision(package) if is_checkout else None
    if code is not None:
        found["code"] = code
    if not is_checkout or _top(Path(folder)) != _top(package):
        own = revision(Path(folder))
        if own is not None:
            found["own"] = own
    return found


def attempt(
    launched: Launch, device: str, threads: int, ranks: int = 1, job: str | None = None
) -> Attempt:
    """An attempt that begins now in this process. device: what `device_name` says. job: the cluster's id of it."""
    found: Attempt = {
        **launched,
        "time": time.time(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "device": device,
        "threads": threads,
        "ranks": ranks,
    }
    if job is not None:
        found["job"] = job
    return found


def revision(folder: Path) -> Revision | None:
    """What is checked out around `folder`; None if it is in no repository, or git is not there."""
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "changed": bool(changes)}


def processor() -> str:
    """The name of the processor, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def told(attempts: Iterable[Attempt]) -> str:
    """The code, the versions and the machines of these attempts, each once, in one line."""
    attempts = list(attempts)

    def each(value: Callable[[Attempt], str]) -> str:
        return " and ".join(dict.fromkeys(value(one) for one in attempts))

    hosts = len({one["host"] for one in attempts})
    return ", ".join(
        [
            each(_code),
            f"Python {each(lambda one: one['python'])}",
            f"torch {each(lambda one: one['torch'])}",
            each(_machine),
            f"host {attempts[0]['host']}" if hosts == 1 else f"{hosts} hosts",
        ]
    )


def _code(attempt: Attempt) -> str:
    own = attempt.get("own")
    parts = [f"simclr_ablate {attempt['version']}{_at(attempt.get('code'))}"]
    return " with own code".join([*parts, _at(own)]) if own else parts[0]


def _at(revision: Revision | None) -> str:
    if revision is None:
        return ""
    return f" at {revision['commit'][:10]}{', changed' * revision['changed']}"


def _machine(attempt: Attempt) -> str:
    ranks = f"{attempt['ranks']} ranks with " * (attempt["ranks"] > 1)
    return f"{attempt['device']} ({ranks}{count(attempt['threads'], 'thread')})"


def _top(folder: Path) -> str | None:
    return _git(folder, "rev-parse", "--show-toplevel")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says in `folder`; None if it fails, is not there, or takes too long."""
    # Without locks: other commands may be at work in the repository.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_SECONDS,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
