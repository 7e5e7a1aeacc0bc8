"""Hydra's plugins: the sweeper behind `-m`, for sweeps that are unions of grids, and the SLURM launcher.

Hydra's own sweeper composes every job through Hydra and knows products only. PlanSweeper reads the `sweep` section,
multiplies it by the command line's `key=a,b`, checks all experiments, and carries them out as one plan. With another
sweeper (`hydra/sweeper=basic`), `hydra/launcher=slurm` gets its jobs as Hydra hands them out.
"""

import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from simclr_ablate.config import ConfigError
from simclr_ablate.launch.command import OK, Command, execute, refusing
from simclr_ablate.launch.grid import (
    Composer,
    Grids,
    expand,
    experiment_sections,
    resolve,
    split_overrides,
)
from simclr_ablate.launch.selection import Rule, select
from simclr_ablate.paths import config_folder
from simclr_ablate.schema import Experiment

PLUGIN_MODULE = "hydra_plugins.simclr_ablate"
"""The name that the plugins' module has for Hydra, which takes plugins from `hydra_plugins` alone."""


def register_plugins() -> None:
    """Makes them known to Hydra as `hydra/sweeper=plan` and `hydra/launcher=slurm`, without a hydra_plugins folder."""
    module = types.ModuleType(PLUGIN_MODULE)
    for plugin in (PlanSweeper, SlurmPlugin):
        setattr(module, plugin.__name__, plugin)
        plugin.__module__ = PLUGIN_MODULE
        # First the plugins that are installed, which Hydra looks for when it is first asked.
        Plugins.instance().register(plugin)
    package = sys.modules.setdefault("hydra_plugins", types.ModuleType("hydra_plugins"))
    package.__path__ = getattr(package, "__path__", [])
    sys.modules[PLUGIN_MODULE] = module
    store = ConfigStore.instance()
    store.store(group="hydra/sweeper", name="plan", node={"_target_": _target(PlanSweeper)})
    settings = dict(OmegaConf.load(config_folder("conf") / "launcher" / "slurm.yaml"))
    store.store(
        group="hydra/launcher", name="slurm", node={"_target_": _target(SlurmPlugin), **settings}
    )


def _target(plugin: type) -> str:
    return f"{PLUGIN_MODULE}.{plugin.__name__}"


def read_command(app: Mapping[str, Any], hydra: Any) -> Command:
    """The command that `app`, resolved, and Hydra's own section ask for. Raises ConfigError.

    `hydra/launcher=slurm hydra.launcher.partition=gpu` is the same as `launcher=slurm launcher.partition=gpu`.
    """
    chosen = hydra.launcher
    if chosen.get("_target_") != _target(SlurmPlugin):
        return Command.from_config(app)
    settings = OmegaConf.to_container(chosen, resolve=True)
    assert isinstance(settings, dict)
    del settings["_target_"]
    return Command.from_config({**app, "launcher": settings})


class SlurmPlugin(Launcher):
    """`hydra/launcher=slurm` for sweepers that hand out jobs as overrides: all of a batch become one plan."""

    def __init__(self, **settings: Any) -> None:
        """`settings`: see `simclr_ablate.launch.settings.SlurmSettings`. They are read with the rest of the config."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self._config = config
        self._loader = hydra_context.config_loader

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        status = refusing(lambda: self._launch(job_overrides))
        if status != OK:
            sys.exit(status)
        done = JobReturn(status=JobStatus.COMPLETED)
        done.return_value = None  # results come to the store, when the cluster has them
        return [done] * len(job_overrides)

    def _launch(self, job_overrides: Sequence[Sequence[str]]) -> int:
        configs = [self._loader.load_sweep_config(self._config, list(job)) for job in job_overrides]
        command = read_command(resolve(configs[0]), self._config.hydra)
        experiments = [Experiment.from_config(experiment_sections(config)) for config in configs]
        return execute(command, experiments)


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
        app = resolve(self._loader.load_sweep_config(self._config, lines))
        composer = Composer(self._compose(lines), self._is_group)
        fixed = [override.get_key_element().lstrip("+~") for override in plain]
        sweeps: dict[Experiment, list[str]] = {}
        selections = []
        for name, sweep in self._parts(app.get("sweep"), plain):
            grids, rule = Grids.from_config(sweep), Rule.from_config(sweep)
            experiments = expand(composer, grids, swept, fixed)
            if rule is not None:
                selections.append(select(composer, name, rule, grids.seeds, swept, fixed))
                experiments += selections[-1].trials
            for experiment in dict.fromkeys(experiments):
                sweeps.setdefault(experiment, []).append(name)
        return execute(read_command(app, self._config.hydra), sweeps, sweeps, selections)

    def _parts(
        self, sweep: Mapping[str, Any] | None, plain: Sequence[Override]
    ) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
        """The sweep's own name and section; those of each of its parts, where it is a union of sweeps."""
        if sweep is None or "sweeps" not in sweep:
            yield (sweep or {}).get("name", "run"), sweep
            return
        if "grids" in sweep or "select" in sweep:
            raise ConfigError(
                "a sweep has either grids of its own or sweeps that it unites, got both"
            )
        others = [o.input_line for o in plain if o.get_key_element() != "sweep" and o.input_line]
        for name in sweep["sweeps"]:
            config = self._loader.load_sweep_config(self._config, [*others, f"sweep={name}"])
            yield name, resolve(config)["sweep"]

    def _compose(self, lines: list[str]) -> Callable[[list[str]], DictConfig]:
        return lambda more: self._loader.load_sweep_config(self._config, [*lines, *more])

    def _is_group(self, name: str) -> bool:
        return name in self._groups

    @cached_property
    def _groups(self) -> frozenset[str]:
        return frozenset(self._loader.list_groups(""))
