"""The runs of a sweep as Hydra jobs: `hydra.callbacks` hear of each, as they do from Hydra's own launchers."""

import copy
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from simclr_ablate.launch.progress import ProgressView
from simclr_ablate.launch.task import failure_of, objective_of

if TYPE_CHECKING:
    from simclr_ablate.plan.plan import PlannedRun


class Jobs:
    """Calls the callbacks' `on_job_start` and `on_job_end` when a run of the command starts and ends.

    config: the command's composed config, with Hydra's section. Each job gets a copy with its experiment's values and,
    in `hydra.job.num`, its number, counted from `first`. metric: the one that a run returns.
    """

    def __init__(
        self,
        context: HydraContext,
        task: TaskFunction,
        config: DictConfig,
        metric: str,
        first: int = 0,
    ) -> None:
        self._callbacks = context.callbacks
        self._task, self._config, self._metric = task, config, metric
        self._configs: dict[PlannedRun, DictConfig] = {}
        self._started = first

    def started(self, planned: "PlannedRun") -> None:
        config = copy.deepcopy(self._config)
        with read_write(config), open_dict(config):
            config.merge_with(planned.experiment.to_config())
            config.hydra.job.num = self._started
            config.hydra.job.id = planned.run_id
        self._configs[planned] = config
        self._started += 1
        self._callbacks.on_job_start(config=config, task_function=self._task)

    def ended(self, planned: "PlannedRun", status: JobStatus) -> None:
        """Calls `on_job_end`, unless another command carried out the run."""
        config = self._configs.pop(planned, None)
        if config is None:
            return
        completed = status is JobStatus.COMPLETED
        result: Any = objective_of(planned, self._metric) if completed else failure_of(planned)
        done = JobReturn(
            overrides=list(config.hydra.overrides.task),
            cfg=_without_hydra(config),
            hydra_cfg=config,
            working_dir=os.getcwd(),
            task_name=config.hydra.job.name,
            status=status,
        )
        done.return_value = result
        self._callbacks.on_job_end(config=config, job_return=done)


class TellingView(ProgressView):
    """A progress view that also notifies `jobs` when runs start and end."""

    def __init__(self, jobs: Jobs, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._jobs = jobs

    def started(self, planned: "PlannedRun") -> None:
        super().started(planned)
        self._jobs.started(planned)

    def completed(self, planned: "PlannedRun") -> None:
        super().completed(planned)
        self._jobs.ended(planned, JobStatus.COMPLETED)

    def failed(self, planned: "PlannedRun", reason: str) -> None:
        super().failed(planned, reason)
        self._jobs.ended(planned, JobStatus.FAILED)


def _without_hydra(config: DictConfig) -> DictConfig:
    names: Sequence[str] = [str(name) for name in config if name != "hydra"]
    return DictConfig({name: copy.deepcopy(config._get_node(name)) for name in names})
