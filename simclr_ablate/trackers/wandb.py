"""Weights & Biases, and Trackio, which has its interface.

https://docs.wandb.ai, https://huggingface.co/docs/trackio
"""

import contextvars
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simclr_ablate.store.metrics import Metrics
from simclr_ablate.trackers.tracker import Known, Tracker, measured

_LONGEST_ID = 128
_SETTINGS: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    # They would be those of the process that sends.
    "x_disable_stats": True,
    # Seconds: a killed process loses what it has not written. Earlier versions do not know the setting.
    "x_transaction_log_flush_interval": 1.0,
}


class WandB(Tracker):
    """A run whose id is ours. Without a network, WANDB_MODE=offline keeps it in files for `wandb sync`."""

    package = "wandb"

    def begin(self, run_id: str, config: Mapping[str, Any]) -> Known | None:
        self._library: Any = importlib.import_module(self.package)
        return self._start(run_id, dict(config))

    def _start(self, run_id: str, config: dict[str, Any]) -> Known | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        known = self._library.Settings.model_fields
        settings = {name: value for name, value in _SETTINGS.items() if name in known}
        self._run: Any = self._library.init(
            project=self.tracking.project,
            # The end of an id is what tells it from others.
            id=run_id[-_LONGEST_ID:],
            name=run_id,
            dir=str(self.folder),
            config=config,
            resume="allow",
            reinit="create_new",
            settings=self._library.Settings(**settings),
        )
        if self._run.settings.mode != "online":
            return None
        return Known(max(0, self._run.step - 1), frozenset(self._run.summary.keys()))

    def log(self, lines: Sequence[Metrics]) -> None:
        for line in lines:
            self._run.log(self._measured(line), step=int(line["step"]))

    def _measured(self, line: Metrics) -> dict[str, float]:
        when = {"_timestamp": line["time"]} if "time" in line else {}
        return {**measured(line), **when}

    def conclude(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.summary.update(dict(metrics))

    def show(self, pictures: Mapping[str, Path]) -> None:
        self._run.log({name: self._library.Image(str(path)) for name, path in pictures.items()})

    def end(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class Trackio(WandB):
    """A run of that name in Trackio's database here, or wherever TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says."""

    package = "trackio"

    def _start(self, run_id: str, config: dict[str, Any]) -> Known | None:
        # In a context of its own: Trackio ends the run of the context when another begins.
        self._run = contextvars.Context().run(
            self._library.init,
            project=self.tracking.project,
            name=run_id,
            config=config,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return None

    def _measured(self, line: Metrics) -> dict[str, float]:
        return measured(line)

    def conclude(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log(dict(metrics), step=step)

    def end(self, failed: bool) -> None:
        self._run.finish()
