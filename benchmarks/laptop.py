"""The default experiment and its images, for the benchmarks."""

from functools import cache

from hydra import compose, initialize_config_dir

from simclr_ablate.__main__ import CONFIG_FOLDER, register
from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.data.shapes import SHAPE_CLASSES, make_shapes
from simclr_ablate.launch.grid import experiment_sections
from simclr_ablate.schema import Experiment


def default_experiment(*overrides: str) -> Experiment:
    """What `python -m simclr_ablate` runs."""
    register()
    with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
        config = compose("config", list(overrides))
    return Experiment.from_config(experiment_sections(config))


@cache
def ready_images() -> ImageSet:
    """As many training images as a default run has."""
    return ImageSet(*make_shapes(11_000, seed=0), list(SHAPE_CLASSES))
