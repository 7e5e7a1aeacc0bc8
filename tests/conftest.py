"""What tests share: the composed default config, and a way to change it."""

from collections.abc import Callable
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from simclr_ablate.__main__ import CONFIG_FOLDER, register
from simclr_ablate.launch.grid import experiment_sections
from simclr_ablate.schema import Experiment


@pytest.fixture(scope="session")
def compose_config() -> Callable[[list[str]], Any]:
    """Override strings -> the app's config, composed by Hydra as the command does."""
    register()

    def build(overrides: list[str]) -> Any:
        GlobalHydra.instance().clear()
        with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
            return compose("config", overrides, return_hydra_config=False)

    return build


@pytest.fixture(scope="session")
def make_experiment(compose_config: Callable[[list[str]], Any]) -> Callable[..., Experiment]:
    """`make_experiment("seed=1", ...)`: the checked experiment of those overrides."""

    def build(*overrides: str) -> Experiment:
        return Experiment.from_config(experiment_sections(compose_config(list(overrides))))

    return build
