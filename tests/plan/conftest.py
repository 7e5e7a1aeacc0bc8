"""A sweep that selects, and what is chosen in it."""

import pytest
from omegaconf import OmegaConf

from simclr_ablate.plan.grid import Composer, Grids
from simclr_ablate.plan.selection import Rule, select
from simclr_ablate.tasks.choose import Choose
from tests.commands import SELECTING


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
