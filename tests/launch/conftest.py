"""A user who gives commands, and plans of runs that exist in a store but train nothing."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from simclr_ablate.launch.grid import Composer, Grids
from simclr_ablate.launch.plan import Plan, make_plan
from simclr_ablate.launch.selection import Rule, select
from simclr_ablate.store import Store
from simclr_ablate.tasks.choose import Choose
from tests.commands import SELECTING, user_environment


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder of decoded images, empty at first."""
    return tmp_path_factory.mktemp("cache")


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


@pytest.fixture
def sweep():
    """The section `sweep`, to be changed."""
    return OmegaConf.to_container(OmegaConf.create(SELECTING))


@pytest.fixture
def selection(compose_config):
    """`selection(sweep, swept, fixed)`: as the command makes it of the section and its own line."""

    def build(sweep, swept=None, fixed=()) -> Choose:
        lines = [f"{name}={value}" for name, value in dict(fixed).items()]
        composer = Composer(
            lambda more: compose_config([*lines, *more]), {"head", "loss", "views"}.__contains__
        )
        rule = Rule.from_config(sweep)
        seeds = Grids.from_config(sweep).seeds
        return select(composer, sweep["name"], rule, seeds, swept or {}, list(dict(fixed)))

    return build
