"""Plans of runs that exist in a store but train nothing."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from simclr_ablate.launch.plan import Plan, make_plan
from simclr_ablate.store import Store


@pytest.fixture
def make_runs(make_experiment, tmp_path: Path) -> Callable[..., Plan]:
    """`make_runs(3, ...)`: a plan of as many seeds, created in the store, with more overrides."""

    def build(count: int, *overrides: str) -> Plan:
        one = make_experiment(*overrides)
        experiments = [dataclasses.replace(one, seed=seed) for seed in range(count)]
        plan = make_plan(experiments, Store(tmp_path / "store"), "seeds")
        for planned in plan.runs:
            planned.run.create(planned.experiment.to_config())
        return plan

    return build
