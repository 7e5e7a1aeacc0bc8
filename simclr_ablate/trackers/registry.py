"""Trackers by name, and whether this machine has what they need."""

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from simclr_ablate import own
from simclr_ablate.config import ConfigError, is_own
from simclr_ablate.paths import expanded
from simclr_ablate.schema import TRACKERS, Tracking
from simclr_ablate.trackers.tracker import Tracker

CLASSES = {
    "tensorboard": "tensorboard:TensorBoard",
    "wandb": "wandb:WandB",
    "trackio": "wandb:Trackio",
    "mlflow": "mlflow:MLflow",
}
"""The class of each tracker, in its module of this package. A tracker needs the package of its own name."""
MLFLOW_URI = "MLFLOW_TRACKING_URI"


def find_tracker(name: str) -> Callable[[Tracking, Path], Tracker]:
    """What makes a run in the tracker `name`. Raises ConfigError if that is a user's own and cannot be found."""
    if is_own(name):
        return own.find("tracker.names", name, TRACKERS)
    module, _, cls = CLASSES[name].partition(":")
    return getattr(importlib.import_module(f"simclr_ablate.trackers.{module}"), cls)


def check_trackers(tracking: Tracking, here: bool = True) -> None:
    """Raises ConfigError for a tracker that cannot be used.

    here: whether runs are carried out by this Python, which must then have the tracker's package.
    """
    for name in tracking.names:
        if is_own(name):
            find_tracker(name)
        elif here and importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"tracker.names={name} needs the package {name}, which is not installed: "
                f"pip install 'simclr-ablate[{name}]'"
            )
    if "mlflow" in tracking.names and uri_of(tracking) is None:
        raise ConfigError(
            f"tracker.uri must be the server of tracker.names=mlflow unless ${MLFLOW_URI} is set, "
            "http://HOST:PORT or sqlite:///FILE, got null"
        )


def uri_of(tracking: Tracking) -> str | None:
    """The address of MLflow's server."""
    return tracking.uri or os.environ.get(MLFLOW_URI) or None


def folder_of(name: str, tracking: Tracking, store: Path) -> Path:
    """The folder of a tracker's files."""
    if tracking.folder is not None:
        return expanded(tracking.folder, "tracker.folder").absolute()
    # Weights & Biases makes a folder `wandb` itself.
    own_folder = store / ".trackers" if name == "wandb" else store / ".trackers" / name
    return own_folder.absolute()


def destination_of(name: str, tracking: Tracking, store: Path) -> str:
    """Where a tracker's runs are, so that what was sent elsewhere does not count as sent."""
    where = {
        "mlflow": uri_of(tracking),
        "tensorboard": str(folder_of(name, tracking, store)),
        "wandb": os.environ.get("WANDB_BASE_URL"),
        "trackio": os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL"),
    }
    own_place = f"{tracking.folder or ''} {tracking.uri or ''}".strip()
    return " ".join(filter(None, [name, tracking.project, where.get(name, own_place)]))
