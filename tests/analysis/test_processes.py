"""Tasks shared among processes: order, what they get, errors, and the files they leave."""

import os

import pandas as pd
import pytest

from analysis import processes
from analysis.__main__ import main

pytestmark = pytest.mark.slow

RUNS = pd.DataFrame({"run_id": ["a", "b"], "top1": [50.25, None]})


def echo(runs):
    return os.getpid(), runs


def fail(runs):
    raise ValueError(f"no {len(runs)} runs")


@pytest.mark.parametrize("cores", [1, 2])
def test_results_come_in_order_from_as_many_processes_as_cores(monkeypatch, cores):
    monkeypatch.setattr(processes, "available_cores", lambda: cores)
    names = [f"task{k}" for k in range(5)]
    results = list(processes.apply(dict.fromkeys(names, echo), RUNS))
    assert [name for name, _ in results] == names
    for _, (process, runs) in results:
        assert (process == os.getpid()) == (cores == 1)
        pd.testing.assert_frame_equal(runs, RUNS)


@pytest.mark.parametrize("cores", [1, 2])
def test_an_error_is_raised_where_the_results_are_awaited(monkeypatch, cores):
    monkeypatch.setattr(processes, "available_cores", lambda: cores)
    results = processes.apply({"good": echo, "bad": fail}, RUNS)
    assert next(results)[0] == "good"
    with pytest.raises(ValueError, match="no 2 runs"):
        next(results)


def test_several_processes_write_what_one_writes(tmp_path, monkeypatch, make):
    for k, first in enumerate(("crop", "color", "blur")):
        make.put(tmp_path / "runs", make.pair(first, "crop"), 40.0 + k)
        make.put(tmp_path / "runs", make.experiment(**{"loss.temperature": 0.1 + k}), 50.0 + k)
    written = {}
    for cores in (1, 2):
        monkeypatch.setattr(processes, "available_cores", lambda cores=cores: cores)
        out = tmp_path / f"reports{cores}"
        assert main([f"store={tmp_path / 'runs'}", f"out={out}"]) == 0
        written[cores] = {path.name: path.read_bytes() for path in out.iterdir()}
    assert len(written[1]) > 10
    assert written[1] == written[2]
