"""The options of launchers: the keys under `launcher`."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simclr_ablate.config import ConfigError, build, key, nearest

LAUNCHER_NAMES = ("local", "slurm")


@dataclass(frozen=True)
class LocalOptions:
    """launcher=local: this machine."""

    name: str = key("launcher", choices=LAUNCHER_NAMES)
    parallel: int | None = key(
        "runs side by side; null: as many as cores and memory allow", at_least=1
    )
    memory_gb: float = key("memory that one run is assumed to need, GiB", above=0)
    runs_per_gpu: int | None = key(
        "runs that share one GPU; null: one, or as many as cores and its memory allow if all are small",
        at_least=1,
    )


@dataclass(frozen=True)
class Resources:
    """The resources of one run. Runs with equal resources are submitted as one job array."""

    nodes: int = key("nodes of one run", at_least=1)
    gpus: int = key("GPUs of one run, over all its nodes; each has a rank", at_least=0)
    cpus: int = key("CPUs of each rank", at_least=1)
    memory_gb: float | None = key(
        "memory on each node, GiB; null: the partition's default", above=0
    )
    time_minutes: int = key("time limit; a run that needs longer is requeued", at_least=1)


@dataclass(frozen=True)
class ResourceRule:
    """Other resources for some runs: `{when: {KEY: CONDITION}, gpus: 8, ...}`."""

    when: dict[str, Any] = key("config key -> value, list of values, or '>= 1024', '< 256'")
    nodes: int | None = key("as launcher.nodes", at_least=1, default=None)
    gpus: int | None = key("as launcher.gpus", at_least=0, default=None)
    cpus: int | None = key("as launcher.cpus", at_least=1, default=None)
    memory_gb: float | None = key("as launcher.memory_gb", above=0, default=None)
    time_minutes: int | None = key("as launcher.time_minutes", at_least=1, default=None)


@dataclass(frozen=True)
class SlurmOptions(Resources):
    """launcher=slurm: a cluster, through submitit."""

    name: str = key("launcher", choices=LAUNCHER_NAMES)
    cluster: str = key(
        "slurm; local: processes on this machine; debug: the command's own process",
        choices=("slurm", "local", "debug"),
    )
    follow: bool = key("stay and show the runs' progress, instead of returning at once")
    max_parallel: int | None = key("runs of one array at a time; null: no limit", at_least=1)
    resources: tuple[ResourceRule, ...] = key("other resources for some runs; later rules win")
    partition: str | None = key("partition; null: the cluster's default")
    account: str | None = key("account to charge")
    qos: str | None = key("quality of service")
    constraint: str | None = key("features that a node must have")
    signal_seconds: int = key(
        "how long before the time limit a run is signalled to save, seconds", at_least=10
    )
    setup: tuple[str, ...] = key("shell lines before the run, such as 'module load cuda'")
    sbatch: dict[str, Any] = key("any other sbatch option: {mail-type: END}")
    # Records of submissions from before these keys existed do not have them.
    python: str | None = key(
        "command that runs Python in a job, such as 'apptainer exec --nv image.sif python'; "
        "null: the interpreter of the command",
        before=None,
    )
    use_srun: bool = key("start runs with srun; false: only runs of one rank", before=True)
    srun_args: tuple[str, ...] = key(
        "more arguments for srun, such as '--container-image=image.sqsh'", before=()
    )


LauncherOptions = LocalOptions | SlurmOptions
LAUNCHERS: dict[str, type[LauncherOptions]] = {"local": LocalOptions, "slurm": SlurmOptions}

_ONLY_SLURM: dict[str, Any] = {
    "partition": None,
    "account": None,
    "qos": None,
    "constraint": None,
    "setup": (),
    "sbatch": {},
    "python": None,
    "use_srun": True,
    "srun_args": (),
}
"""Options that only SLURM understands, with the values by which they ask for nothing."""


def read_launcher(config: Mapping[str, Any]) -> LauncherOptions:
    """The options of the launcher named by `config`. Raises ConfigError."""
    name = config.get("name")
    if name not in LAUNCHERS:
        accepted = ", ".join(LAUNCHERS)
        raise ConfigError(
            f"launcher.name must be one of {accepted}, got {name!r}{nearest(str(name), LAUNCHERS)}"
        )
    options = build(LAUNCHERS[name], config, "launcher")
    if isinstance(options, SlurmOptions):
        _check(options)
    return options


def _check(options: SlurmOptions) -> None:
    """Raises ConfigError if the options do not fit together."""
    if options.gpus % options.nodes:
        raise ConfigError(
            f"launcher.gpus must be a multiple of launcher.nodes ({options.nodes}), "
            f"got {options.gpus}"
        )
    if options.cluster != "slurm":
        for option, nothing in _ONLY_SLURM.items():
            if (value := getattr(options, option)) != nothing:
                raise ConfigError(
                    f"launcher.{option} is for SLURM and means nothing with "
                    f"launcher.cluster={options.cluster}: leave it out, got {_given(value)}"
                )
    if options.python is not None and not _is_command(options.python):
        raise ConfigError(
            "launcher.python must be null or a command that runs Python, quoted as for a shell, "
            f"got {options.python!r}"
        )
    if options.srun_args and not options.use_srun:
        raise ConfigError(
            "launcher.srun_args must be [] with launcher.use_srun=false, which starts runs without "
            f"srun, got {_given(options.srun_args)}"
        )


def _given(value: Any) -> str:
    """A value for a message, as YAML has it: a list for a tuple, `false` for False."""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(list(value) if isinstance(value, tuple) else value)


def _is_command(text: str) -> bool:
    try:
        return bool(shlex.split(text))
    except ValueError:  # a quotation that does not end
        return False
