"""MLflow, through the client of its tracking server. https://mlflow.org/docs/latest/tracking.html"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from simclr_ablate.config import flatten
from simclr_ablate.store.metrics import Metrics
from simclr_ablate.trackers.registry import uri_of
from simclr_ablate.trackers.tracker import Known, Tracker, measured

# A server that does not answer should cost seconds, not the minutes of MLflow's own settings, which are read on import.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

TAG = "simclr_ablate.run_id"
"""The tag by which a run is found again: MLflow chooses ids itself."""
_MOST_METRICS, _MOST_PARAMS = 1000, 100
"""The most of each that a server takes in one request."""
_LONGEST_PARAM = 500

T = TypeVar("T")


class MLflow(Tracker):
    """A run of the experiment `tracker.project`."""

    def begin(self, run_id: str, config: Mapping[str, Any]) -> Known:
        self._client = MlflowClient(uri_of(self.tracking))
        experiment = self._experiment()
        filtered = f"tags.`{TAG}` = '{run_id}'"
        found = self._client.search_runs([experiment], filtered, max_results=1)
        params = {name: str(v)[:_LONGEST_PARAM] for name, v in flatten(dict(config)).items()}
        if found:
            self._id = found[0].info.run_id
            self._describe(params, found[0].data.params)
            self._client.update_run(self._id, status="RUNNING")
            # A server shows the last value of each metric, but not its step.
            names = frozenset(found[0].data.metrics)
            history = self._client.get_metric_history(self._id, "epoch") if names else []
            return Known(max((each.step for each in history), default=0), names)
        made = self._client.create_run(experiment, run_name=run_id, tags={TAG: run_id})
        self._id = made.info.run_id
        self._describe(params, {})
        return Known()

    def _describe(self, params: Mapping[str, str], known: Mapping[str, str]) -> None:
        """Sends the params that the server does not know: a process may have been killed after it made the run."""
        new = [Param(name, value) for name, value in params.items() if name not in known]
        for some in _parts(new, _MOST_PARAMS):
            self._client.log_batch(self._id, params=some)

    def _experiment(self) -> str:
        project = self.tracking.project
        found = self._client.get_experiment_by_name(project)
        if found is not None:
            return found.experiment_id
        try:
            return self._client.create_experiment(project)
        except MlflowException:  # another process has just made it
            found = self._client.get_experiment_by_name(project)
            if found is None:
                raise
            return found.experiment_id

    def log(self, lines: Sequence[Metrics]) -> None:
        # A line is never split: its step says that all of it is there.
        for some in _parts(list(lines), _MOST_METRICS // max(map(len, lines), default=1)):
            self._client.log_batch(
                self._id,
                metrics=[
                    Metric(name, value, _milliseconds(line.get("time")), int(line["step"]))
                    for line in some
                    for name, value in measured(line).items()
                ],
            )

    def conclude(self, metrics: Mapping[str, float], step: int) -> None:
        now = _milliseconds(None)
        found = [Metric(name, value, now, step) for name, value in metrics.items()]
        for some in _parts(found, _MOST_METRICS):
            self._client.log_batch(self._id, metrics=some)

    def show(self, pictures: Mapping[str, Path]) -> None:
        for path in pictures.values():
            self._client.log_artifact(self._id, str(path), "pictures")

    def end(self, failed: bool) -> None:
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


def _parts(items: list[T], most: int) -> Iterator[list[T]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]


def _milliseconds(when: float | None) -> int:
    return int(1000 * (time.time() if when is None else when))
