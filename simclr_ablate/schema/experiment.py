"""An experiment: all sections together, checked, and which of its keys its ids depend on."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from simclr_ablate.config import UNSET, ConfigError, build, flatten, is_own, key, keys
from simclr_ablate.schema.checks import (
    check_compute,
    check_data,
    check_encoder,
    check_loss,
    check_optimizer,
    check_spaced,
    check_tracking,
    check_views,
)
from simclr_ablate.schema.names import OFFICIAL_VALIDATION, PROTOCOLS, TRAINED, implied_protocol
from simclr_ablate.schema.sections import (
    Compute,
    Data,
    Encoder,
    Evaluation,
    Head,
    Loss,
    Optimizer,
    Tracking,
    Views,
    first_version,
)

SCHEMA_VERSION = 3
"""Part of every run id. It is raised when the meaning of a key or metric changes, so that old runs are not mistaken for
new ones. A new key needs no new version, only `key(before=...)`.

2: `views.color` replaces `views.brightness`; the entropy and accuracy of pretraining are over the other view's images,
no longer over all views. 3: a key is part of an id only where it counts. `old_schemas.py` says which earlier runs are
as good as new ones."""


def _as_json(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in pairs}


@dataclass(frozen=True)
class Experiment:
    """All that one run depends on: frozen at submission and stored beside its results."""

    objective: str = key(
        "how the encoder is trained: contrastive, supervised (one view and a linear classifier on h), none "
        "(the random encoder), or not here: imported (encoder.weights)",
        choices=(*TRAINED, "none", "imported"),
    )
    seed: int = key("seed of weights, order and views", at_least=0)
    precision: str = key("precision of the encoder", choices=("float32", "bfloat16"))
    data: Data = key("the images")
    views: Views = key("how views are made", when={"objective": TRAINED})
    encoder: Encoder = key("the encoder f")
    head: Head = key(
        "the projection head g",
        when=(
            {"objective": ("contrastive",)},
            {"objective": ("none",), "evaluation.features": ("z",)},
        ),
    )
    loss: Loss = key("the loss", when={"objective": ("contrastive",)})
    optimizer: Optimizer = key("the optimiser", when={"objective": TRAINED})
    evaluation: Evaluation = key("how the encoder is evaluated")
    compute: Compute = key("how the machine does the work")
    tracker: Tracking = key("what becomes of a run's metrics while it trains", before={})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The experiment of `config` (nested mappings), checked. Raises ConfigError.

        A transformation in `evaluation.probe` implies the protocol `probe`. Embedded images without a version are of
        the first.
        """
        experiment = build(cls, _with_versions(_with_protocol(config)))
        check_experiment(experiment)
        return experiment

    def to_config(self) -> dict[str, Any]:
        """Nested dictionaries and lists, as JSON has them: the inverse of `from_config`."""
        return dataclasses.asdict(self, dict_factory=_as_json)

    @property
    def evaluated_data(self) -> Data:
        """The data set that the encoder is evaluated on."""
        other = self.evaluation.data
        if other.name is None:
            return self.data
        return Data(**{**dataclasses.asdict(other), "exact": other.exact is not False})


def _with_protocol(config: Mapping[str, Any]) -> Mapping[str, Any]:
    evaluation = config.get("evaluation") if isinstance(config, Mapping) else None
    if not isinstance(evaluation, Mapping) or evaluation.get("protocol", "linear") != "linear":
        return config
    implied = implied_protocol({"evaluation.probe": evaluation.get("probe")})
    return {**config, "evaluation": {**evaluation, "protocol": implied}}


def _with_versions(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`config` with `version`, of embedded images that have none."""

    def add(section: Any) -> Any:
        if not isinstance(section, Mapping) or "version" in section:
            return section
        return {**section, "version": first_version("name", section)}

    config = {**config, "data": add(config["data"])} if "data" in config else config
    evaluation = config.get("evaluation")
    if isinstance(evaluation, Mapping) and "data" in evaluation:
        return {**config, "evaluation": {**evaluation, "data": add(evaluation["data"])}}
    return config


KEYS = tuple(keys(Experiment))
"""Every key of an experiment."""

DECISIVE = tuple(sorted(set().union(*(info.depends_on for info in KEYS))))
"""The keys that decide which others count."""


def counting_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """The names of the keys that count in an experiment. values: those of DECISIVE by full name; more may be there."""
    return _split(values)[0]


def pretraining_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """Those of `counting_keys` that count in pretraining, whatever is evaluated.

    The random encoder's z comes from an untrained head, which is not part of its run.
    """
    return _split(values)[1]


def _split(values: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    try:
        return _split_by(tuple(values[name] for name in DECISIVE))
    except TypeError:  # a list, say, in a file that somebody has edited
        raise ValueError(f"each of {', '.join(DECISIVE)} must be a plain value") from None


@functools.lru_cache(4096)
def _split_by(decisive: tuple[Any, ...]) -> tuple[frozenset[str], frozenset[str]]:
    value_of = dict(zip(DECISIVE, decisive, strict=True))
    counted = frozenset(info.name for info in KEYS if info.counts(value_of.__getitem__))
    # With the evaluation unset, no condition on it holds: what still counts does so for all evaluations.
    of_any = {n: UNSET if _is_evaluation(n) else value for n, value in value_of.items()}
    pretraining = {info.name for info in KEYS if info.counts(of_any.__getitem__)}
    return counted, frozenset(name for name in pretraining if not _is_evaluation(name))


def _is_evaluation(name: str) -> bool:
    return name.startswith("evaluation.")


def check_experiment(experiment: Experiment) -> None:
    """Raises ConfigError if keys that are valid one by one do not fit together."""
    value_of = flatten(experiment.to_config()).__getitem__
    for info in KEYS:
        info.check(value_of)
    _check_data(experiment)
    check_encoder(experiment.encoder, experiment.objective)
    if experiment.objective in TRAINED:
        check_views(experiment.views, experiment.data)
        check_optimizer(experiment.optimizer)
    if experiment.objective == "contrastive":
        check_loss(experiment.loss)
    _check_evaluation(experiment)
    check_tracking(experiment.tracker)
    check_compute(experiment.compute)
    if experiment.compute.ranks is not None:
        check_ranks(experiment, experiment.compute.ranks)


def check_ranks(experiment: Experiment, ranks: int) -> None:
    """Raises ConfigError if `ranks` processes cannot share the pretraining evenly, or the evaluation at all."""
    optimizer, device = experiment.optimizer, experiment.compute.device
    evaluation = experiment.evaluation
    named = {
        "optimizer.batch_size": optimizer.batch_size,
        "optimizer.micro_batch": optimizer.micro_batch,
    }
    for name, images in named.items():
        if images is not None and images % ranks:
            raise ConfigError(f"{name} must be a multiple of compute.ranks ({ranks}), got {images}")
    if "batch_size" in PROTOCOLS.get(evaluation.protocol, ()) and evaluation.batch_size < ranks:
        raise ConfigError(
            f"evaluation.batch_size must be >= compute.ranks ({ranks}), got {evaluation.batch_size}"
        )
    if ranks > 1 and experiment.compute.compile != "off":
        raise ConfigError(
            f"compute.compile must be off with compute.ranks={ranks}, whose batch norm communicates, "
            f"got {experiment.compute.compile!r}"
        )
    if ranks > 1 and ":" in device:
        raise ConfigError(
            f"compute.device must name no single one with compute.ranks={ranks}, got {device!r}"
        )


def _check_data(experiment: Experiment) -> None:
    check_data(experiment.data, "data")
    other = experiment.evaluation.data
    if other.name is None:
        given = {
            name: value for name, value in dataclasses.asdict(other).items() if value is not None
        }
        for name, value in given.items():
            raise ConfigError(
                f"evaluation.data.{name} must be null unless evaluation.data.name is set, got {value}"
            )
    else:
        needed = {"size", "validation", "on_error", "seed", "metric"}
        if other.name in OFFICIAL_VALIDATION:
            needed.remove("validation")
        missing = [
            field.name
            for field in dataclasses.fields(Data)
            if field.name in needed and getattr(other, field.name) is None
        ]
        if missing:
            raise ConfigError(
                f"evaluation.data.{missing[0]} must not be null with evaluation.data.name="
                f"{other.name}; evaluation.data=NAME sets all keys of a data set"
            )
        check_data(experiment.evaluated_data, "evaluation.data")


def _check_evaluation(experiment: Experiment) -> None:
    evaluation, protocol = experiment.evaluation, experiment.evaluation.protocol
    _check_several_labels(experiment)
    _check_online(experiment)
    if experiment.objective in ("supervised", "imported") and evaluation.features != "h":
        raise ConfigError(
            f"evaluation.features must be h for objective={experiment.objective}, which has no head, "
            f"got {evaluation.features!r}"
        )
    if evaluation.probe is not None and protocol != "probe" and not is_own(protocol):
        raise ConfigError(
            "evaluation.probe must be null unless evaluation.protocol=probe, "
            f"got {evaluation.probe}"
        )
    if protocol == "probe" and evaluation.probe is None:
        raise ConfigError(
            "evaluation.probe must name a transformation with evaluation.protocol=probe, got null"
        )
    if evaluation.labels is not None and evaluation.labels >= 1 and evaluation.labels % 1:
        raise ConfigError(
            "evaluation.labels must be a share below 1 or a whole number of labels per class, "
            f"got {evaluation.labels}"
        )
    if protocol == "finetune" and not evaluation.no_decay and not evaluation.decay_count:
        raise ConfigError(
            "evaluation.decay_count must be >= 1 with evaluation.no_decay=false, got 0"
        )
    for name in ("l2", "lr", "decay"):
        check_spaced(evaluation, name)


def _check_several_labels(experiment: Experiment) -> None:
    """Raises ConfigError for what needs one label an image, if the images have several."""
    evaluated = experiment.evaluated_data
    if experiment.objective == "supervised" and experiment.data.has_several_labels:
        raise ConfigError(
            "objective must be contrastive or none with "
            f"data={experiment.data.name}, whose images have several labels, got 'supervised'"
        )
    if experiment.evaluation.protocol == "few_labels" and evaluated.has_several_labels:
        raise ConfigError(
            "evaluation.protocol must be linear, linear_sgd, finetune, knn or probe on "
            f"{evaluated.name}, whose images have several labels and no balanced part, got 'few_labels'"
        )


def _check_online(experiment: Experiment) -> None:
    """Raises ConfigError if a classifier is to learn beside training, but images have no label, or several."""
    data = experiment.data
    if not experiment.evaluation.online or experiment.objective != "contrastive":
        return
    lacking = "several labels" if data.has_several_labels else "no labels" * (data.name == "stl10")
    if lacking:
        raise ConfigError(
            f"evaluation.online must be false with data={data.name}, whose training images have {lacking}, got true"
        )
