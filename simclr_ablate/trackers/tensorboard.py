"""TensorBoard: a folder of event files for each run. https://www.tensorflow.org/tensorboard"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from simclr_ablate.config import flatten
from simclr_ablate.store.metrics import Metrics
from simclr_ablate.trackers.tracker import Known, Tracker, measured

_COLOUR_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}


class TensorBoard(Tracker):
    """Writes with TensorBoard's own writer: PyTorch's needs torch, which takes longer to load than a run's end."""

    def begin(self, run_id: str, config: Mapping[str, Any]) -> Known:
        folder = self.folder / run_id
        known = known_in(folder)
        self._writer = EventFileWriter(str(folder))
        if config and not known.names:
            values = {name: _plain(value) for name, value in flatten(dict(config)).items()}
            self._add(hparams.hparams_pb(values, trial_id=run_id))
        return known

    def log(self, lines: Sequence[Metrics]) -> None:
        for line in lines:
            self._add(_scalars(measured(line)), int(line["step"]), line.get("time"))
        self._writer.flush()

    def conclude(self, metrics: Mapping[str, float], step: int) -> None:
        self._add(_scalars(metrics), step)
        self._writer.flush()

    def show(self, pictures: Mapping[str, Path]) -> None:
        for name, path in pictures.items():
            with Image.open(path) as image:
                kind = Summary.Image(
                    height=image.height,
                    width=image.width,
                    colorspace=_COLOUR_CHANNELS.get(image.mode, 3),
                    encoded_image_string=path.read_bytes(),
                )
            self._add(Summary(value=[Summary.Value(tag=name, image=kind)]))
        self._writer.flush()

    def end(self, failed: bool) -> None:
        self._writer.close()

    def _add(self, summary: Any, step: int = 0, when: float | None = None) -> None:
        self._writer.add_event(Event(wall_time=when or time.time(), step=step, summary=summary))


def known_in(folder: Path) -> Known:
    """What the event files in `folder` hold."""
    step, names = 0, set[str]()
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            names.update(value.tag for value in event.summary.value)
            step = max(step, event.step)
    return Known(step, frozenset(names))


def _scalars(metrics: Mapping[str, float]) -> Any:
    values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
    return Summary(value=values)


def _plain(value: Any) -> bool | float | str:
    """A value of the config as TensorBoard has them."""
    return value if isinstance(value, bool | int | float | str) else str(value)
