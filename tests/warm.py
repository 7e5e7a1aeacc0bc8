"""The command in processes of its own that start at once: each is a fork of one that has loaded everything.

A new Python needs seconds of a core for torch, and the command's fork server needs them again. Here, both are forks;
all else is as with `python -m simclr_ablate`: signals, kills, and which process is whose child.
"""

import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import util
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

MODULE = "simclr_ablate"


class Command:
    """`python -m simclr_ablate` with these arguments, with the part of subprocess.Popen's interface that tests use."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        ours, theirs = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_be_command,
            args=(list(arguments), dict(environment), str(folder or Path.cwd()), theirs),
            daemon=False,
        )
        self._process.start()
        theirs.close()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.stdout = os.fdopen(os.dup(ours.fileno()), encoding="utf-8")
        ours.close()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[str, None]:
        """What it has printed, once it has ended. Raises TimeoutExpired, and kills it then."""
        printed: list[str] = []
        reader = threading.Thread(target=lambda: printed.append(self.stdout.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        self._process.join(0 if reader.is_alive() else timeout)
        if reader.is_alive() or self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired(MODULE, timeout)
        self.stdout.close()
        return printed[0], None


def _be_command(
    arguments: list[str], environment: dict[str, str], folder: str, output: Connection
) -> None:
    for number in (1, 2):
        os.dup2(output.fileno(), number)
    output.close()
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    util.spawnv_passfds = _started  # type: ignore[assignment]
    sys.argv = [MODULE, *arguments]
    sys.modules.pop(f"{MODULE}.__main__", None)  # it is run, not imported
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


_spawnv_passfds = util.spawnv_passfds


def _started(path: bytes, args: Sequence[str], passfds: Sequence[int]) -> int:
    """Stands for multiprocessing's own: a fork server is a fork of this process, and what else it starts a Python."""
    if "forkserver" not in args[-1]:
        return _spawnv_passfds(path, args, passfds)
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        _be_fork_server(args[-1], passfds)
    return pid


def _be_fork_server(code: str, passfds: Sequence[int]) -> NoReturn:
    try:
        gc.freeze()  # what is dropped later would close files of the same numbers
        kept = {0, 1, 2, *passfds}
        for number in map(int, os.listdir("/proc/self/fd")):
            if number not in kept:
                with suppress(OSError):
                    os.close(number)
        util.spawnv_passfds = _spawnv_passfds
        exec(code, {})
    finally:
        os._exit(0)
