"""Our Hydra plugins: the sweeper behind `-m`, for sweeps that are unions of grids, and the SLURM launcher.

Hydra's own sweeper composes every job through Hydra and only knows products. PlanSweeper reads the `sweep` section,
multiplies it by the command line's `key=a,b`, checks all experiments, and carries them out as one plan. With another
sweeper (`hydra/sweeper=basic`), `task.py` carries out each job, or `hydra/launcher=slurm` carries out a batch of jobs.
"""

import dataclasses
import functools
import itertools
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from simclr_ablate.config import ConfigError
from simclr_ablate.exit_status import ExitStatus
from simclr_ablate.launch.command import Command, Ended, execute
from simclr_ablate.launch.task import (
    check_objective,
    check_one_experiment,
    failure_of,
    objective_of,
)
from simclr_ablate.manner import is_json
from simclr_ablate.paths import config_folder
from simclr_ablate.plan.artefacts import Defined
from simclr_ablate.plan.grid import (
    Composer,
    Grids,
    check_command,
    expand,
    experiment_sections,
    resolve,
    split_overrides,
    value_of,
)
from simclr_ablate.plan.keys import (
    COMMAND,
    DATA_GROUP,
    EXPERIMENT_SECTIONS,
    check_scale,
    check_swept,
    leaves,
    told_of_experiments,
    top_level,
)
from simclr_ablate.plan.plan import complete, planned_run
from simclr_ablate.plan.selection import Rule, select
from simclr_ablate.plan.sweeps import Sections, checked, chosen, parts
from simclr_ablate.schema import Experiment
from simclr_ablate.tasks.choose import Choose

if TYPE_CHECKING:
    from simclr_ablate.launch.jobs import Jobs

OWN_CALLBACKS = {"sweep_folder", "end_of_run"}
"""The names of `task.SweepFolder` and `task.EndOfRun` in `hydra.callbacks`."""

PLUGIN_MODULE = "hydra_plugins.simclr_ablate"
"""The module that Hydra believes the plugins are in: it instantiates only those of the package `hydra_plugins`."""

_BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def register_plugins() -> None:
    """Registers the plugins as `hydra/sweeper=plan` and `hydra/launcher=slurm`, without a hydra_plugins folder."""
    for plugin in (PlanSweeper, SlurmPlugin):
        # Only while registering: launchers that start processes pickle plugins by their real module.
        module, plugin.__module__ = plugin.__module__, PLUGIN_MODULE
        Plugins.instance().register(plugin)
        plugin.__module__ = module
    store = ConfigStore.instance()
    store.store(group="hydra/sweeper", name="plan", node={"_target_": _target(PlanSweeper)})
    options = dict(OmegaConf.load(config_folder("conf") / "launcher" / "slurm.yaml"))
    store.store(
        group="hydra/launcher", name="slurm", node={"_target_": _target(SlurmPlugin), **options}
    )


def _target(plugin: type) -> str:
    return f"{PLUGIN_MODULE}.{plugin.__name__}"


def read_command(app: Mapping[str, Any], hydra: Any) -> Command:
    """The command that the resolved config `app` and Hydra's own section ask for. Raises ConfigError.

    `hydra/launcher=slurm hydra.launcher.partition=gpu` is the same as `launcher=slurm launcher.partition=gpu`.
    """
    launcher, sweeper = (hydra[name].get("_target_") for name in ("launcher", "sweeper"))
    choices = hydra.runtime.choices
    if hydra.mode != RunMode.MULTIRUN and sweeper != _target(PlanSweeper):
        raise ConfigError(
            f"hydra/sweeper={choices['hydra/sweeper']} has no effect without -m: add -m"
        )
    if is_json() and hydra.mode == RunMode.MULTIRUN and sweeper != _target(PlanSweeper):
        raise ConfigError(
            f"--json prints one plan; hydra/sweeper={choices['hydra/sweeper']} makes one for each job"
        )
    if launcher == _target(SlurmPlugin):
        _check_options_of(hydra)
        options = OmegaConf.to_container(hydra.launcher, resolve=True)
        assert isinstance(options, dict)
        del options["_target_"]
        return Command.from_config({**app, "launcher": options})
    if launcher != _BASIC_LAUNCHER and sweeper == _target(PlanSweeper):
        raise ConfigError(
            "hydra/launcher must be basic or slurm with hydra/sweeper=plan, which hands runs to "
            f"launcher=local or launcher=slurm, got {choices['hydra/launcher']}: "
            "to use it, give -m hydra/sweeper=basic"
        )
    return Command.from_config(app)


def _jobs(
    context: HydraContext, task: TaskFunction, config: DictConfig, command: Command, first: int = 0
) -> "Jobs | None":
    """The `Jobs` that notify the user's callbacks of each run; None if there are no callbacks."""
    if set(config.hydra.callbacks) <= OWN_CALLBACKS:
        return None
    from simclr_ablate.launch.jobs import Jobs

    return Jobs(context, task, config, command.objective_metric, first)


def _check_options_of(hydra: Any) -> None:
    """Raises ConfigError if keys of `launcher` are given with `hydra/launcher=slurm`, which has its own."""
    for override in hydra.overrides.task:
        name = override.partition("=")[0].lstrip("+~")
        if top_level(name) == "launcher":
            remedy = "leave it out" if name == "launcher" else f"give hydra.{name}"
            raise ConfigError(
                f"{name} means nothing with hydra/launcher=slurm: {remedy}, got {override}"
            )
    sections = re.compile(rf"\b({'|'.join(EXPERIMENT_SECTIONS)})\b")
    options = OmegaConf.to_container(hydra.launcher, resolve=False)
    assert isinstance(options, dict)
    for name, value in options.items():
        if isinstance(value, str) and "${" in value and sections.search(value):
            raise ConfigError(
                f"hydra.launcher.{name!s} holds for the whole command and cannot refer to a key of an "
                f"experiment, got {value}: give some runs other resources with launcher.resources"
            )


class SlurmPlugin(Launcher):
    """`hydra/launcher=slurm`, for sweepers that hand out jobs as overrides: each batch becomes one plan."""

    def __init__(self, **options: Any) -> None:
        """options: see `launchers.SlurmOptions`; they are read later, with the rest of the config."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self._config = config
        self._context, self._task = hydra_context, task_function
        self._loader = hydra_context.config_loader

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """The result of each job, with the return value None if the command leaves it to the cluster."""
        configs = [self._loader.load_sweep_config(self._config, list(job)) for job in job_overrides]
        command = self._command(configs)
        experiments = [Experiment.from_config(experiment_sections(config)) for config in configs]
        for experiment in experiments:
            check_objective(command, experiment, self._config.hydra)
        completed = complete(experiments, command.cache)
        jobs = _jobs(self._context, self._task, self._config, command, initial_job_idx)
        status, _ = execute(command, completed.values(), jobs=jobs)
        if status == ExitStatus.STOPPED:
            raise KeyboardInterrupt
        returned = []
        for overrides, config, experiment in zip(job_overrides, configs, experiments, strict=True):
            planned = planned_run(completed[experiment], command.store)
            value: Any = objective_of(planned, command.objective_metric)
            failed = status != ExitStatus.OK and planned.state() != "complete"
            done = JobReturn(overrides=list(overrides), cfg=config)
            done.status = JobStatus.FAILED if failed else JobStatus.COMPLETED
            done.return_value = failure_of(planned) if failed else value
            returned.append(done)
        return returned

    def _command(self, configs: Sequence[DictConfig]) -> Command:
        """The command of all jobs. Raises ConfigError if they differ in keys of the command, or contain sweeps."""
        apps = [resolve(config) for config in configs]
        for app, config in zip(apps, configs, strict=True):
            check_one_experiment(app, config, config.hydra)
        for name in COMMAND:
            values = {repr(app.get(name)): app.get(name) for app in apps}
            if len(values) > 1:
                check_swept(name, list(values.values()))
        return read_command(apps[0], self._config.hydra)


class PlanSweeper(Sweeper):
    """Plans a whole sweep, then launches it."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self._config = config
        self._context, self._task = hydra_context, task_function
        self._loader = hydra_context.config_loader
        self._composed = functools.cache(self._compose)
        folders = [
            source.path for source in self._loader.get_sources() if source.scheme() == "file"
        ]
        chosen_sweep = config.hydra.runtime.choices.get("sweep")
        self._sections = Sections(self._composed, chosen_sweep, folders)

    def sweep(self, arguments: list[str]) -> None:
        """Exits with the command's status unless everything is done. Raises ConfigError."""
        status, _ = self._sweep(arguments)
        if status != ExitStatus.OK:
            sys.exit(status)  # everything has been printed

    def _sweep(self, arguments: list[str]) -> Ended:
        asked = Asked.read(arguments, self._loader)
        app = self._sections.config(asked.lines)
        command = read_command(app, self._config.hydra)
        names = asked.sweeps
        if names is None:
            names = [self._sections.chosen] if app.get("sweep") is not None else []
        if len(names) == 1:
            section = checked(self._sections.read(names[0], asked.lines), names[0])
            artefact = section.get("artefact")
            shown = artefact if isinstance(artefact, str | None) else section["name"]
            command = dataclasses.replace(
                command, sweep=section["name"], asked=names[0], artefact=shown
            )
        command = dataclasses.replace(command, overrides=told_of_experiments(arguments))
        own = self._expanded(names, asked, app)
        command = dataclasses.replace(command, defined=own.defined)
        jobs = _jobs(self._context, self._task, self._composed(asked.lines), command)
        if command.until is None:
            named = own.sweeps if names else {}
            return execute(command, own.sweeps, named, own.chooses, jobs)
        from simclr_ablate.launch.until import Widened, decide

        def widen(seeds: Sequence[int] | None) -> Widened:
            wide = self._expanded(names, asked.at_seeds(seeds), app) if seeds else own
            return Widened(wide.sweeps if names else dict.fromkeys(wide.sweeps, ()), wide.chooses)

        return decide(command, widen, jobs)

    def _expanded(self, names: Sequence[str], asked: "Asked", app: Mapping[str, Any]) -> "Expanded":
        """The experiments that are asked for. app: the resolved config of the command. Raises ConfigError."""
        expanded = Expanded()
        for one in self._combinations(names, asked):
            check_command(self._sections.config(one.lines), app, one.lines[len(asked.lines) :])
            self._add(expanded, names, one)
        # The random encoder comes first: a picture then has its reference line while the sweep goes on.
        order = sorted(expanded.sweeps.items(), key=lambda item: item[0].objective != "none")
        return dataclasses.replace(expanded, sweeps=dict(order))

    def _combinations(self, names: Sequence[str], asked: "Asked") -> Iterator["Asked"]:
        """Splits what is asked for until no sweep takes its values from a key that is still swept.

        A value of one such key may bring in a reference to another.
        """
        shaping = self._shaping(names, asked)
        if not shaping:
            yield asked
        else:
            for one in asked.combinations(shaping):
                yield from self._combinations(names, one)

    def _shaping(self, names: Sequence[str], asked: "Asked") -> list[str]:
        """The keys that the command line sweeps and from which the sweeps take their values.

        These are keys of the scale, of the user's own groups, and those that a sweep refers to.
        """
        shaping = [name for name in asked.texts if top_level(name) not in EXPERIMENT_SECTIONS]
        rest = {name: values for name, values in asked.swept.items() if name not in shaping}
        for name in self._sections.all(names, asked.lines):
            shaping += self._sections.referred(name, asked.lines, rest)
        return shaping

    def _add(self, expanded: "Expanded", names: Sequence[str], asked: "Asked") -> None:
        """Adds the experiments and choices of the sweeps. Raises ConfigError."""
        read, lines, given = self._sections, asked.lines, [*asked.fixed, *asked.texts]
        for name in (asked_for := read.all(names, lines)):
            read.check_values(name, lines, given)
            expanded.define(checked(read.read(name, lines), name), name, read.file(name), given)
        check_scale(self._composed(lines), read.references(asked_for, lines))
        composer = Composer(lambda more: self._composed((*lines, *more)), self._is_group)
        fixed, sections = asked.fixed, dict[str, Mapping[str, Any] | None]()
        for name, section in parts(lambda name: read.read(name, lines), names):
            if sections.setdefault(name, section) != section:
                raise ConfigError(f"sweep.name must be unique, got {name!r} for different sweeps")
        for name, held in (sections or {"": None}).items():
            grids, rule = Grids.from_config(held), Rule.from_config(held)
            experiments = expand(composer, grids, asked.swept, fixed)
            if rule is not None:
                choose = select(composer, name, rule, grids.seeds, asked.swept, fixed)
                expanded.chooses.append(choose)
                experiments += choose.tried
            if not experiments:
                raise ConfigError(f"sweep={name} holds no experiments")
            for experiment in dict.fromkeys(experiments):
                its_sweeps = expanded.sweeps.setdefault(experiment, [])
                its_sweeps.extend({name}.difference(its_sweeps))

    def _compose(self, lines: tuple[str, ...]) -> DictConfig:
        return self._loader.load_sweep_config(self._config, list(lines))

    def _is_group(self, name: str) -> bool:
        return name in self._groups or name == DATA_GROUP

    @cached_property
    def _groups(self) -> frozenset[str]:
        return frozenset(self._loader.list_groups(""))


@dataclass
class Expanded:
    """Experiments, each with the sweeps it belongs to, and the choices of sweeps with `select`.

    defined: the artefacts that sweeps define, by the sweep's name.
    """

    sweeps: dict[Experiment, list[str]] = field(default_factory=dict)
    chooses: list[Choose] = field(default_factory=list)
    defined: dict[str, Defined] = field(default_factory=dict)

    def define(
        self, section: Mapping[str, Any], sweep: str, file: Path | None, given: Collection[str]
    ) -> None:
        """Adds the artefact that a sweep's section defines, if it does. Raises ConfigError. See `Defined.read`."""
        if isinstance(section.get("artefact"), str | None):
            return
        defined = Defined.read(section, sweep, file, given)
        name = section["name"]
        before = self.defined.setdefault(name, defined)
        if before.definition != defined.definition:
            raise ConfigError(
                f"sweep={sweep}: sweep.artefact must be the same whatever the command line sweeps, "
                "since it is one artefact of all runs"
            )
        self.defined[name] = before.with_values_of(defined)


@dataclass(frozen=True)
class Asked:
    """What a command line asks for.

    sweeps: their names, if it names several. texts: the values of the keys that it sweeps, as text. lines: its plain
    overrides. fixed: the keys that these set.
    """

    sweeps: list[str] | None
    texts: Mapping[str, list[str]]
    lines: tuple[str, ...]
    fixed: tuple[str, ...]

    @classmethod
    def read(cls, arguments: list[str], loader: ConfigLoader) -> Self:
        """Reads a command line. Raises ConfigError if it sweeps a key that cannot be swept."""
        overrides = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
        named = [each for each in overrides if each.get_key_element().lstrip("+") == "sweep"]
        sweeps = chosen(named[-1]) if named else None
        if sweeps is not None:
            overrides = [each for each in overrides if each not in named]
        texts, plain = split_overrides(overrides)
        for name, values in texts.items():
            check_swept(name, values)
        lines = tuple(override.input_line for override in plain if override.input_line)
        return cls(sweeps, texts, lines, tuple(itertools.chain(*map(_set_by, plain))))

    @cached_property
    def swept(self) -> dict[str, list[Any]]:
        """The swept keys and their values."""
        return {name: list(map(value_of, texts)) for name, texts in self.texts.items()}

    def at_seeds(self, seeds: Sequence[int]) -> Self:
        """The same with these seeds, whatever it says of seeds."""
        return dataclasses.replace(self, texts={**self.texts, "seed": list(map(str, seeds))})

    def combinations(self, shaping: Collection[str]) -> Iterator[Self]:
        """One for each combination of values of the keys in `shaping`, which then are among its plain overrides."""
        outer = [name for name in self.texts if name in shaping]
        rest = {name: texts for name, texts in self.texts.items() if name not in outer}
        for values in itertools.product(*(self.texts[name] for name in outer)):
            own = (f"{name}={value}" for name, value in zip(outer, values, strict=True))
            lines, fixed = (*self.lines, *own), (*self.fixed, *outer)
            yield dataclasses.replace(self, texts=rest, lines=lines, fixed=fixed)


def _set_by(override: Override) -> list[str]:
    """The keys that an override sets; `views={strength: 1}` sets `views` and `views.strength`."""
    name = override.get_key_element().lstrip("+~")
    value = None if override.is_delete() else override.value()
    return [name, *leaves(value, name)] if isinstance(value, Mapping) else [name]
