"""The task function that Hydra calls with a composed config: it does one run. Also, how a command ends.

With `-m`, our own sweeper takes over (`plugins.py`); other Hydra sweepers call the task once for each of their jobs.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, read_write
from omegaconf.errors import OmegaConfBaseException

from simclr_ablate.config import ConfigError
from simclr_ablate.exit_status import ExitStatus
from simclr_ablate.files import storing
from simclr_ablate.launch.command import (
    NEEDS_A_SWEEP,
    Command,
    execute,
    returns_at_once,
)
from simclr_ablate.overrides import literal
from simclr_ablate.own import look_in
from simclr_ablate.paths import expanded
from simclr_ablate.plan.grid import experiment_sections, resolve
from simclr_ablate.plan.keys import check_scale, objective_metrics
from simclr_ablate.schema import PROTOCOLS, Experiment

if TYPE_CHECKING:
    from simclr_ablate.plan.plan import PlannedRun

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
"""The sweeper that ignores what jobs return."""


REFUSALS = (ConfigError, HydraException, OmegaConfBaseException)
"""Exceptions that mean that the user's input was rejected."""


class JobFailedError(RuntimeError):
    """A Hydra job failed; the message says which run, and why. status: the command's exit status."""

    def __init__(self, message: str, status: int = ExitStatus.SOME_FAILED) -> None:
        super().__init__(message, status)  # pickling needs both
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


def task(config: DictConfig) -> float | None:
    """Carries out one experiment; returns its `objective_metric`, in percent, or None if there is none yet.

    Raises ConfigError if the config is invalid, JobFailedError if the run failed, KeyboardInterrupt if it was stopped.
    """
    from simclr_ablate.launch.plugins import read_command

    _settle_in()
    hydra = HydraConfig.get()
    app = resolve(config)
    command = read_command(app, hydra)
    check_one_experiment(app, config, hydra)
    experiment = Experiment.from_config(experiment_sections(config))
    if hydra.mode == RunMode.MULTIRUN:
        check_objective(command, experiment, hydra)
    status, plan = execute(command, [experiment])
    if status == ExitStatus.STOPPED:
        raise KeyboardInterrupt
    (planned,) = plan.runs
    if status != ExitStatus.OK:
        raise failure_of(planned, status)
    return objective_of(planned, command.objective_metric)


def _settle_in() -> None:
    """Prepares for runs a process that another launcher may have started."""
    look_in(os.getcwd())  # for modules of the user's own
    # joblib's processes report the start method `loky`, which their child processes do not know.
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method("spawn", force=True)


def check_one_experiment(app: Mapping[str, Any], config: DictConfig, hydra: Any) -> None:
    """Raises ConfigError if a Hydra job is not a single experiment, or its scale has unknown keys.

    app: `config`, resolved. hydra: Hydra's own section.
    """
    check_scale(config)
    if app.get("until") is not None:
        raise ConfigError(NEEDS_A_SWEEP)
    if app.get("sweep") is not None:
        needed = "hydra/sweeper=plan" if hydra.mode == RunMode.MULTIRUN else "-m"
        chosen = hydra.runtime.choices.get("sweep")
        raise ConfigError(f"sweep={chosen} holds many experiments: add {needed}")


def check_objective(command: Command, experiment: Experiment, hydra: Any) -> None:
    """Raises ConfigError if the job of a sweeper other than ours cannot return its `objective_metric`."""
    protocol, data = experiment.evaluation.protocol, experiment.evaluated_data
    metrics = objective_metrics(protocol, data.metric, data.has_several_labels)
    if protocol in PROTOCOLS and command.objective_metric not in metrics:
        of_data = "" if data.metric == "top1" else f" on {data.name}"
        raise ConfigError(
            f"objective_metric must be one of {', '.join(metrics)} with evaluation.protocol="
            f"{protocol}{of_data}, got {command.objective_metric!r}"
        )
    if hydra.sweeper.get("_target_") == BASIC_SWEEPER:
        return
    sweeper = hydra.runtime.choices.get("hydra/sweeper")
    if command.dry_run:
        raise ConfigError(
            f"dry_run must be false with hydra/sweeper={sweeper}, which needs the result of each run, got true"
        )
    if returns_at_once(command):
        raise ConfigError(
            f"launcher.follow must be true with hydra/sweeper={sweeper}, "
            "which needs the result of each run, got false"
        )


def objective_of(planned: "PlannedRun", metric: str) -> float | None:
    """The metric of a run's evaluation, or None if it is not complete or has no such metric."""
    evaluation = planned.run.evaluation(planned.evaluation_key)
    value = None if evaluation is None else evaluation["metrics"].get(metric)
    return None if value is None else float(value)


def failure_of(planned: "PlannedRun", status: int = ExitStatus.SOME_FAILED) -> JobFailedError:
    """The error that says why the run failed, or else its state. status: see JobFailedError."""
    failure = planned.failure() or {}
    return JobFailedError(f"{planned.run_id}: {failure.get('reason', planned.state())}", status)


class SweepFolder(Callback):
    """Creates the folder for files of sweepers other than ours. `~` in its path is a home folder, as in `store`.

    In a dry run the folder is temporary.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exits if the folder cannot be created."""
        hydra = config.hydra
        if hydra.runtime.choices.get("hydra/sweeper") == "plan":
            return  # our own sweeper writes nothing there
        try:
            folder = (
                self._of_dry_run() if config.get("dry_run") else expanded(hydra.sweep.dir, "store")
            )
            with storing(folder, "store"):
                folder.mkdir(parents=True, exist_ok=True)
        except ConfigError as error:
            sys.exit(refused(error))
        with read_write(hydra):
            hydra.sweep.dir = str(folder)
            # The jobs' configs are composed again, from these overrides.
            hydra.overrides.hydra.append(f"hydra.sweep.dir={literal(str(folder))}")

    def _of_dry_run(self) -> Path:
        self._temporary = tempfile.TemporaryDirectory()
        return Path(self._temporary.name)


class EndOfRun(Callback):
    """Ends a command without -m with our own message and exit status, once all other callbacks have seen its job.

    Otherwise Hydra would also report a failed job in its own words.
    """

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Exits if the job failed."""
        job_return: JobReturn = kwargs["job_return"]
        if job_return.status is JobStatus.FAILED:
            error = vars(job_return)["_return_value"]  # the property would report the failure
            if isinstance(error, JobFailedError):
                sys.exit(error.status)  # `execute` has reported it
            if isinstance(error, REFUSALS):
                sys.exit(refused(error))


def exit_status(command: Callable[[], object]) -> int:
    """Calls `command` and returns the exit status. Errors that the user caused are printed in one line."""
    try:
        command()
    except KeyboardInterrupt:
        return ExitStatus.STOPPED
    except JobFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except REFUSALS as error:
        return refused(error)
    return ExitStatus.OK


def refused(error: Exception) -> int:
    """Prints why the input was rejected, in one line; returns the exit status."""
    print(f"error: {in_a_line(error)}", file=sys.stderr)
    return ExitStatus.REFUSED


def in_a_line(error: BaseException) -> str:
    """The one-line message of an error of ours, Hydra's or OmegaConf's, with its key."""
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, OmegaConfBaseException):
        message = str(error.msg or error).splitlines()[0].strip()
        return f"{error.full_key}: {message}" if error.full_key else message
    text = str(error).partition("\nConfig search path")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if error.__cause__ is not None and isinstance(
        error.__cause__, (ConfigError, OmegaConfBaseException)
    ):
        lines.append(in_a_line(error.__cause__))
    return " ".join(lines) or type(error).__name__
