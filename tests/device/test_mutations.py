"""What CUDA would refuse is refused in these tests too: a line of the package that leaves a tensor where it was."""

import json
import os
import subprocess
import sys

import pytest

from tests.device.mutated import MUTATIONS, ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str | None]:
    """How the run with each mutation ended, and with -1, the run without one."""
    folder = tmp_path_factory.mktemp("mutations")
    command = [sys.executable, "-m", "tests.device.mutated", str(folder)]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(map(json.loads, ended.stdout.splitlines()))


def test_the_package_as_it_is_runs(endings: dict[int, str | None]) -> None:
    assert endings[-1] is None
    assert len(MUTATIONS) >= 20


@pytest.mark.parametrize("number", range(len(MUTATIONS)), ids=lambda k: f"{MUTATIONS[k][0]} {k}")
def test_a_tensor_left_where_it_was_is_noticed(endings: dict[int, str | None], number: int) -> None:
    reason = endings[number]
    assert reason is not None, f"{MUTATIONS[number]} went unnoticed"
    assert "same device" in reason
