"""Hydra's `-m`, for sweeps that are unions of grids.

Hydra's own sweeper composes every job through Hydra and knows products only. This one reads the `sweep` section,
multiplies it by the command line's `key=a,b`, checks all experiments, and hands them to the launcher as one plan.
"""

import sys
import types
from collections.abc import Callable
from functools import cached_property
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from simclr_ablate.launch.command import Command, execute, refusing
from simclr_ablate.launch.grid import Composer, Grids, expand, resolve, split_overrides

PLUGIN_MODULE = "hydra_plugins.simclr_ablate"
"""The name that the sweeper's module has for Hydra, which takes plugins from `hydra_plugins` alone."""


def register_sweeper() -> None:
    """Makes the sweeper known to Hydra as `hydra/sweeper=plan`, without a hydra_plugins folder."""
    module = types.ModuleType(PLUGIN_MODULE)
    module.PlanSweeper = PlanSweeper  # type: ignore[attr-defined]
    PlanSweeper.__module__ = PLUGIN_MODULE
    # First the plugins that are installed, which Hydra looks for when it is first asked.
    Plugins.instance().register(PlanSweeper)
    package = sys.modules.setdefault("hydra_plugins", types.ModuleType("hydra_plugins"))
    package.__path__ = getattr(package, "__path__", [])
    sys.modules[PLUGIN_MODULE] = module
    target = f"{PLUGIN_MODULE}.{PlanSweeper.__name__}"
    ConfigStore.instance().store(group="hydra/sweeper", name="plan", node={"_target_": target})


class PlanSweeper(Sweeper):
    """Plans a sweep whole, then launches it."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self._config = config
        self._loader = hydra_context.config_loader

    def sweep(self, arguments: list[str]) -> Any:
        sys.exit(refusing(lambda: self._sweep(arguments)))

    def _sweep(self, arguments: list[str]) -> int:
        loader = self._loader
        parser = OverridesParser.create(config_loader=loader)
        swept, plain = split_overrides(parser.parse_overrides(arguments))
        lines = [override.input_line for override in plain if override.input_line]
        composer = Composer(self._compose(lines), self._is_group)
        app = resolve(loader.load_sweep_config(self._config, lines))
        grids = Grids.from_config(app.get("sweep"))
        fixed = [override.get_key_element().lstrip("+~") for override in plain]
        return execute(Command.from_config(app), expand(composer, grids, swept, fixed))

    def _compose(self, lines: list[str]) -> Callable[[list[str]], DictConfig]:
        return lambda more: self._loader.load_sweep_config(self._config, [*lines, *more])

    def _is_group(self, name: str) -> bool:
        return name in self._groups

    @cached_property
    def _groups(self) -> frozenset[str]:
        return frozenset(self._loader.list_groups(""))
