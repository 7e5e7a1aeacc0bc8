"""Runs with transforms of other libraries, as a user gives them: planned, killed, resumed, and refused."""

import os
import signal
from pathlib import Path

import pytest

from tests.commands import (
    assert_same,
    eventually,
    logs,
    only_run,
    results,
    run,
    run_process,
    start,
    wait_for_step,
)

pytestmark = pytest.mark.slow

VIEWS = [
    "views=pair",
    "views.first=torchvision:RandomAffine(translate=(0.1,0.1), degrees=20)",
    "views.second=torchvision:GaussianNoise",
]
"""As a shell hands them over: nothing is quoted for Hydra."""


@pytest.mark.parametrize("views", [VIEWS, ["views=none", "views.policy=lightly:SimCLRTransform"]])
def test_a_killed_run_goes_on_bit_for_bit(
    views: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    status, output = run(environment, tmp_path / "whole", *views)
    assert status == 0, output
    library = "lightly" if "views=none" in views else "torchvision"
    assert f" of {library} {__import__(library).__version__.partition('+')[0]}" in logs(
        only_run(tmp_path / "whole")
    )
    command = start(environment, tmp_path / "killed", *views)
    killed = wait_for_step(tmp_path / "killed", 7)
    os.kill(killed.holder()["pid"], signal.SIGKILL)
    command.communicate(timeout=120)
    eventually(lambda: killed.state() != "running", "the end of the run")
    status, output = run(environment, tmp_path / "killed", *views)
    assert status == 0, output
    assert "pretraining from step 0 of" in logs(killed)
    assert "pretraining from step 7 of" in logs(killed) or "from step 8 of" in logs(killed)
    assert_same(killed, results(only_run(tmp_path / "whole")))


def test_a_sweep_of_calls_from_yaml_and_the_command_line(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(
        "grids:\n"
        "  - views: pair\n"
        "    views.first: [crop, torchvision:GaussianBlur(kernel_size=3)]\n"
        "    views.second:\n"
        "      - torchvision:RandomRotation(degrees=(0, 30))\n"
        "      - blur\n"
    )
    status, output = run_process(
        environment, tmp_path / "runs", "-m", "sweep=mine.yaml", "dry_run=true", folder=tmp_path
    )
    assert status == 0, output
    assert "mine: 4 experiments, 0 already finished, 4 to run" in output
    assert "torchvision:RandomRotation(degrees=(0, 30))" in output
    told = [line for line in output.splitlines() if "one image at a time" in line]
    assert len(told) == 2, output
    swept = "views.first=blur,torchvision:GaussianBlur(sigma=(1,2),kernel_size=3),noise"
    status, output = run_process(
        environment,
        tmp_path / "runs",
        "-m",
        "views=pair",
        "views.second=crop",
        swept,
        "dry_run=true",
    )
    assert status == 0, output
    assert "3 experiments" in output
    assert "torchvision:GaussianBlur(kernel_size=3, sigma=(1, 2))" in output


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (
            "torchvision:GausianBlur(kernel_size=3)",
            "error: views.first must name a transform of torchvision, got torchvision:GausianBlur(kernel_size=3); "
            "did you mean GaussianBlur?",
        ),
        (
            "torchvision:GaussianBlur(kernel_size=3",
            "error: views.first must be torchvision:NAME or torchvision:NAME(ARGUMENT=VALUE, ...), "
            "got 'torchvision:GaussianBlur(kernel_size=3': '(' was never closed; quote it inside a list",
        ),
        (
            "torchvision:CenterCrop(size=8)",
            "error: views.first=torchvision:CenterCrop(size=8) must return images (3, 32, 32), got (3, 8, 8)",
        ),
    ],
)
def test_a_wrong_call_is_refused_in_one_line_before_any_run(
    value: str, line: str, environment: dict[str, str], tmp_path: Path
) -> None:
    views = ["views=pair", f"views.first={value}", "views.second=blur"]
    status, output = run(environment, tmp_path / "runs", *views)
    assert (status, output.splitlines()) == (2, [line])
    assert not (tmp_path / "runs").exists()
