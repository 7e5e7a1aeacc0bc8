"""Worker processes: they end with their parent or by its wish, and ignore all other signals."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

PARENT = """
import multiprocessing, signal, sys, time
from simclr_ablate.data.processes import serve_parent

def child(ready):
    serve_parent()
    ready.set()
    time.sleep(120)

if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: print("handled in a worker", flush=True))
    context = multiprocessing.get_context(sys.argv[1])
    ready = [context.Event() for _ in range(2)]
    children = [context.Process(target=child, args=(event,), daemon=True) for event in ready]
    for process, event in zip(children, ready):
        process.start()
        event.wait()
    print(*(process.pid for process in children), flush=True)
    for line in sys.stdin:
        children[0].terminate()
        children[0].join()
        print("ended", flush=True)
"""

pytestmark = pytest.mark.parametrize("method", ["fork", "spawn"])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.fixture
def parent(method: str, tmp_path):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    (tmp_path / "parent.py").write_text(PARENT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), method],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    process.children = [int(pid) for pid in process.stdout.readline().split()]
    yield process
    process.kill()
    process.communicate()


def test_they_end_when_the_parent_is_killed(parent) -> None:
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(_alive, parent.children)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_others_signals_do_not_reach_them_and_the_parents_does(parent) -> None:
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        os.kill(parent.children[0], number)
    time.sleep(1.5)
    assert _alive(parent.children[0])
    parent.stdin.write("terminate\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "ended\n"
    assert _alive(parent.children[1])
