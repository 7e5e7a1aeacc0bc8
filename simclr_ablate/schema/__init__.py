"""Every key of an experiment, what it means and allows, and whether run ids depend on it.

Values come from the YAML files under `conf/`. Nothing has a default here, so there is one place to look a value up.
`Experiment.from_config` turns nested mappings into checked, frozen dataclasses. Its errors name the key that is wrong.
"""

from simclr_ablate.schema.checks import (
    check_tracking,
)
from simclr_ablate.schema.experiment import (
    DECISIVE,
    KEYS,
    SCHEMA_VERSION,
    Experiment,
    check_ranks,
    counting_keys,
    pretraining_keys,
)
from simclr_ablate.schema.names import (
    COLUMNS,
    LOSS_NAMES,
    METRIC_NAMES,
    METRICS,
    OFFICIAL_VALIDATION,
    OPERATION_NAMES,
    PROTOCOLS,
    RESNETS,
    SHAPES_SIDE,
    SHAPES_VERSION,
    STEMS,
    TIMM,
    TRACKERS,
    TRAINED,
    TRANSFER_SETS,
    WEIGHTS_FORMS,
    WIDTHS,
    main_metric,
)
from simclr_ablate.schema.sections import (
    Compute,
    Data,
    Encoder,
    Evaluation,
    EvaluationData,
    Head,
    Loss,
    Optimizer,
    Tracking,
    Views,
)

__all__ = [
    "COLUMNS",
    "DECISIVE",
    "KEYS",
    "LOSS_NAMES",
    "METRICS",
    "METRIC_NAMES",
    "OFFICIAL_VALIDATION",
    "OPERATION_NAMES",
    "PROTOCOLS",
    "RESNETS",
    "SCHEMA_VERSION",
    "SHAPES_SIDE",
    "SHAPES_VERSION",
    "STEMS",
    "TIMM",
    "TRACKERS",
    "TRAINED",
    "TRANSFER_SETS",
    "WEIGHTS_FORMS",
    "WIDTHS",
    "Compute",
    "Data",
    "Encoder",
    "Evaluation",
    "EvaluationData",
    "Experiment",
    "Head",
    "Loss",
    "Optimizer",
    "Tracking",
    "Views",
    "check_ranks",
    "check_tracking",
    "counting_keys",
    "main_metric",
    "pretraining_keys",
]
