"""A user who gives commands, and plans of runs that exist in a store but train nothing."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from simclr_ablate.plan.plan import Plan, make_plan
from simclr_ablate.store import Store
from tests.commands import user_environment
from tests.plan.conftest import selection, sweep  # noqa: F401
from tests.shared import warm_cache


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder of decoded images, at first with our own alone."""
    return warm_cache(tmp_path_factory)


@pytest.fixture(scope="session")
def environment(cache: Path) -> dict[str, str]:
    """That user's process environment."""
    return user_environment(cache)


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
