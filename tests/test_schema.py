"""Wrong input is refused by name; what makes a run itself is in its id, and nothing else."""

import copy
import dataclasses
import itertools
import json
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from simclr_ablate import schema
from simclr_ablate.config import ConfigError, KeyInfo, flatten, keys
from simclr_ablate.identity import evaluation_key, evaluation_key_of, run_id, run_id_of
from simclr_ablate.paths import config_folder
from simclr_ablate.schema import Experiment

ALL_KEYS = list(keys(Experiment))


def changed(config: dict, name: str, value: object) -> dict:
    """`config` with one dotted key set."""
    config = copy.deepcopy(config)
    *parents, last = name.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    node[last] = value
    return config


def another_value(info: KeyInfo, old: object) -> object:
    """A value of the key's type that differs from `old`; whether it is sensible does not matter for an id."""
    if info.type.startswith("bool"):
        return not old
    if info.type.startswith("int"):
        return 7 if old is None else int(old) + 1
    if info.type.startswith("float"):
        return 0.5 if old is None else float(old) * 1.5 + 0.1
    return "something else"


def unchecked(config: dict) -> Experiment:
    """The experiment without validation: ids must tell apart what is not accepted today, too."""
    kinds = {f.name: f.type for f in dataclasses.fields(Experiment)}
    return Experiment(
        **{
            name: kinds[name](**value) if isinstance(value, dict) else value
            for name, value in config.items()
        }
    )


JITTER = ("views.strength", "views.color")
PAIR = ("views.first", "views.second")
SEMI_HARD = ("loss.margin", "loss.reduction")
OF_FOLDERS = ("data.on_error", "data.fingerprint", "data.exact")
FITTED = ("evaluation.l2_count", "evaluation.l2_min", "evaluation.l2_max")
TRAINED = ("evaluation.lr", "evaluation.batch_size", "evaluation.crop_area")
GRID = (
    *("evaluation.lr_count", "evaluation.lr_min", "evaluation.lr_max", "evaluation.steps"),
    *("evaluation.decay_count", "evaluation.decay_min", "evaluation.decay_max"),
    "evaluation.no_decay",
)
OF_LABELS = ("evaluation.labels",)
TO_TRAIN = (*TRAINED, *GRID, *OF_LABELS, "evaluation.epochs")
PATIENCE = ("evaluation.patience",)
OTHER_DATA = tuple(
    f"evaluation.data.{name}"
    for name in (
        "size",
        "limit",
        "validation",
        "on_error",
        "exact",
        "seed",
        "label",
        "fingerprint",
        "metric",
        "version",
    )
)
SINCE = (*TO_TRAIN, *PATIENCE, *OTHER_DATA)
"""What came with protocols, and linear evaluation has no use for."""
USUAL = (*PAIR, *SEMI_HARD, *OF_FOLDERS)
"""What does not count in the default experiment, besides."""

OF_IMPORTED = ("encoder.fingerprint", "encoder.mean", "encoder.std")
IMPORTED = ("objective=imported", "encoder.weights=weights.pt")

UNUSED_IN_PRETRAINING = {
    (): USUAL,
    ("objective=none",): (*OF_FOLDERS, "views", "head", "loss", "optimizer"),
    ("objective=none", "evaluation.features=z"): (*OF_FOLDERS, "views", "loss", "optimizer"),
    IMPORTED: (*OF_FOLDERS, "views", "head", "loss", "optimizer"),
    ("objective=supervised",): (*PAIR, *OF_FOLDERS, "head", "loss", *FITTED),
    ("views=crop",): (*USUAL, *JITTER, "views.blur", "views.extra"),
    ("views=autoaugment",): (*USUAL, *JITTER, "views.blur", "views.extra"),
    ("views=none",): (
        *USUAL,
        *JITTER,
        "views.blur",
        "views.extra",
        "views.crop_area",
        "views.flip",
    ),
    ("views=pair", "views.first=crop", "views.second=sobel"): (
        *(*SEMI_HARD, *OF_FOLDERS, *JITTER, "views.blur", "views.extra"),
    ),
    ("views=pair", "views.first=crop", "views.second=color"): (
        *(*SEMI_HARD, *OF_FOLDERS, "views.blur", "views.extra"),
    ),
    ("views=pair", "views.first=my:change", "views.second=crop"): (
        *(*SEMI_HARD, *OF_FOLDERS, "views.blur", "views.extra"),
    ),
    ("views.policy=my:views",): (*SEMI_HARD, *OF_FOLDERS),
    ("head=none",): (*USUAL, "head.dim"),
    ("loss=margin_triplet",): (*PAIR, *OF_FOLDERS, "loss.reduction"),
    ("loss=nt_logistic",): (*PAIR, *OF_FOLDERS, "loss.margin"),
    ("loss=nt_logistic", "loss.semi_hard=true"): (*PAIR, *OF_FOLDERS, "loss.reduction"),
    ("loss.name=my:loss",): (*PAIR, *OF_FOLDERS),
    ("data=image_folder", "data.root=images"): (*PAIR, *SEMI_HARD, "data.exact", "data.version"),
    ("data=imagenet", "data.root=images"): (*PAIR, *SEMI_HARD, "data.version"),
    ("data.name=my:images",): (*PAIR, *SEMI_HARD),
}
UNUSED_IN_EVALUATION = {
    ("evaluation.probe=color",): (*FITTED, *TO_TRAIN, *OTHER_DATA, "evaluation.knn"),
    ("evaluation=knn",): (*FITTED, *SINCE),
    ("evaluation=linear_sgd",): (
        *(*FITTED, *GRID, *OF_LABELS, *PATIENCE, *OTHER_DATA, "evaluation.knn"),
    ),
    ("evaluation=few_labels",): (
        *(*FITTED, *GRID, *PATIENCE, *OTHER_DATA, "evaluation.knn", "evaluation.features"),
    ),
    ("evaluation=finetune",): (
        *(*FITTED, *OF_LABELS, *PATIENCE, *OTHER_DATA, "evaluation.knn", "evaluation.features"),
        *("evaluation.lr", "evaluation.epochs"),
    ),
    ("evaluation.protocol=my:protocol",): OTHER_DATA,
    ("data@evaluation.data=cifar10",): (
        *(*TO_TRAIN, *PATIENCE, "data.metric"),
        *("evaluation.data.on_error", "evaluation.data.fingerprint", "evaluation.data.exact"),
        "evaluation.data.version",
    ),
    # The classifier that it brings along is for its own classes.
    ("data@evaluation.data=cifar10", "objective=supervised"): (
        *(*TO_TRAIN, *PATIENCE, "data.metric", "head", "loss"),
        *("evaluation.data.on_error", "evaluation.data.fingerprint", "evaluation.data.exact"),
        "evaluation.data.version",
    ),
}
UNUSED = {
    **{overrides: (*names, *SINCE) for overrides, names in UNUSED_IN_PRETRAINING.items()},
    **{overrides: (*USUAL, *names) for overrides, names in UNUSED_IN_EVALUATION.items()},
}
"""The keys, or sections of them, that change nothing in an experiment, by what it has that is not usual."""


@pytest.mark.parametrize("overrides", UNUSED, ids=" ".join)
def test_an_id_holds_exactly_the_keys_that_count(overrides, make_experiment):
    config = make_experiment(*overrides).to_config()
    values = flatten(config)
    before = unchecked(config)
    counted = set()
    for info in ALL_KEYS:
        after = unchecked(changed(config, info.name, another_value(info, values[info.name])))
        same_run = run_id(after) == run_id(before)
        # The random encoder's z is a head's, which its pretraining does not have.
        untrained = info.name.startswith("head.") and "objective=none" in overrides
        if info.name.startswith("evaluation.") or untrained:
            assert same_run, "an evaluation must not change the pretraining it belongs to"
        if not same_run or evaluation_key(after) != evaluation_key(before):
            counted.add(info.name)
    names = {*UNUSED[overrides], *(() if overrides == IMPORTED else OF_IMPORTED)}
    unused = {name for name in values if {name, name.partition(".")[0]} & names}
    assert counted == {info.name for info in ALL_KEYS if info.identity} - unused


def test_config_survives_the_round_trip(make_experiment):
    experiment = make_experiment("views=pair", "seed=3")
    assert Experiment.from_config(experiment.to_config()) == experiment


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("loss.temperature", -0.1, "loss.temperature must be > 0, got -0.1"),
        ("loss.temperature", float("nan"), "loss.temperature must be finite, got nan"),
        ("loss.temperature", "hot", "loss.temperature must be float, got 'hot'"),
        (
            "loss.name",
            "nt_xnet",
            "or package.module:function, got 'nt_xnet'; did you mean nt_xent?",
        ),
        ("loss.margin", -0.1, "loss.margin must be >= 0, got -0.1"),
        (
            "loss.margin",
            0.4,
            "loss.margin must be null unless loss.name=margin_triplet, or loss.semi_hard=true, got 0.4",
        ),
        ("encoder.width", 0, "encoder.width must be >= 1, got 0"),
        ("encoder.width", True, "encoder.width must be int, got True"),
        ("optimizer.epochs", 2.5, "optimizer.epochs must be int, got 2.5"),
        ("encoder.architecture", "resnet51", "did you mean resnet"),
        ("views.first", "crop", "views.first must be null unless views.policy=pair, got crop"),
        ("views.fingerprint", "1", "unknown key views.fingerprint"),
        ("optimizer.warmup_epochs", 1000, "optimizer.warmup_epochs must be <= optimizer.epochs"),
        ("optimizer.micro_batch", 1, "optimizer.micro_batch must be >= 2, got 1"),
        (
            "optimizer.micro_batch",
            100,
            "micro_batch must divide optimizer.batch_size (256), got 100",
        ),
        ("compute.ranks", 0, "compute.ranks must be >= 1, got 0"),
        (
            "compute.ranks",
            3,
            "optimizer.batch_size must be a multiple of compute.ranks (3), got 256",
        ),
        (
            "compute.device",
            "gpu",
            "compute.device must be auto, cpu, cuda (ROCm too), mps, xpu, cuda:N or xpu:N, got 'gpu'",
        ),
        ("evaluation.l2_max", 1e-9, "evaluation.l2_max must be >= evaluation.l2_min"),
        (
            "evaluation.l2_count",
            1,
            "evaluation.l2_max must equal evaluation.l2_min (1e-06) if evaluation.l2_count is 1, got 100.0",
        ),
        ("data", 3, "data must be a mapping of keys, got 3"),
    ],
)
def test_wrong_values_are_named(name, value, message, make_experiment):
    config = changed(make_experiment().to_config(), name, value)
    with pytest.raises(ConfigError, match=re.escape(message)):
        Experiment.from_config(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["optimizer.micro_batch=2", "compute.ranks=4"],
            "optimizer.micro_batch must be a multiple of compute.ranks (4), got 2",
        ),
        (
            ["evaluation=linear_sgd", "evaluation.batch_size=2", "compute.ranks=4"],
            "evaluation.batch_size must be >= compute.ranks (4), got 2",
        ),
        (
            ["compute.device=cuda:1", "compute.ranks=2"],
            "compute.device must name no single one with compute.ranks=2, got 'cuda:1'",
        ),
    ],
)
def test_ranks_share_evenly_and_each_has_its_device(overrides, message, make_experiment):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_experiment(*overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["loss=nt_logistic", "loss.margin=0.4"],
            "loss.margin must be null unless loss.name=margin_triplet, or loss.semi_hard=true, got 0.4",
        ),
        (
            ["loss=nt_logistic", "loss.semi_hard=true", "loss.margin=0"],
            "loss.margin must be > 0 with loss.semi_hard=true, got 0",
        ),
        (
            ["loss=nt_logistic", "loss.semi_hard=true", "loss.reduction=mean"],
            "loss.reduction must be sum unless loss.name=nt_logistic and loss.semi_hard=false, got mean",
        ),
        (
            ["loss=nt_xent", "loss.reduction=mean"],
            "loss.reduction must be sum unless loss.name=nt_logistic and loss.semi_hard=false, got mean",
        ),
        (
            ["loss=margin_triplet", "loss.margin=null"],
            "loss.margin must be >= 0 with loss.name=margin_triplet, got null",
        ),
        (
            ["loss=margin_triplet", "loss.semi_hard=true", "loss.margin=0"],
            "loss.margin must be > 0 with loss.semi_hard=true, got 0",
        ),
    ],
)
def test_a_loss_has_the_keys_that_it_uses(overrides, message, make_experiment):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_experiment(*overrides)


def test_supervised_training_has_no_z(make_experiment):
    with pytest.raises(ConfigError, match=r"features must be h for objective=supervised.*got 'z'"):
        make_experiment("objective=supervised", "evaluation.features=z")


def test_what_an_experiment_does_not_use_is_not_checked(make_experiment):
    """A sweep's random encoder has the keys of its other runs."""
    unused = ["loss.margin=0.4", "views.first=crop", "optimizer.warmup_epochs=1000"]
    make_experiment("objective=none", *unused)
    for wrong in unused:
        with pytest.raises(ConfigError, match=wrong.partition("=")[0]):
            make_experiment(wrong)


def test_unknown_operation_names_the_nearest(make_experiment):
    config = make_experiment("views=pair").to_config()
    with pytest.raises(ConfigError, match=r"got 'colour'; did you mean color\?"):
        Experiment.from_config(changed(config, "views.first", "colour"))


def test_unknown_and_missing_keys_are_named(make_experiment):
    config = make_experiment().to_config()
    with pytest.raises(ConfigError, match=r"unknown key loss\.temprature; did you mean loss\.temp"):
        Experiment.from_config(changed(config, "loss.temprature", 0.1))
    del config["data"]["limit"]
    with pytest.raises(ConfigError, match=r"data\.limit is missing"):
        Experiment.from_config(config)


GROUPS = ("data", "views", "encoder", "head", "loss", "optimizer", "evaluation", "scale")
CHOICES = [
    f"{group}={path.stem}"
    for group in GROUPS
    for path in sorted((Path(config_folder("conf")) / group).glob("*.yaml"))
]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_group_option_composes_to_a_valid_experiment(choice, make_experiment):
    make_experiment(choice, "data.root=somewhere")


@pytest.mark.parametrize(
    "overrides",
    [[], ["data@evaluation.data=shapes"], ["data=cifar10", "data@evaluation.data=shapes"]],
)
def test_embedded_images_without_a_version_are_of_the_first(overrides, make_experiment):
    now = make_experiment(*overrides)
    config = now.to_config()
    for data in (config["data"], config["evaluation"]["data"]):
        data.pop("version")
    earlier = Experiment.from_config(config)
    for before, after in ((earlier.data, now.data), (earlier.evaluated_data, now.evaluated_data)):
        assert (before.version, after.version) == (
            (1, 2) if after.name == "shapes" else (None, None)
        )
    assert (run_id(earlier) == run_id(now)) == (now.data.name != "shapes")
    assert evaluation_key(earlier) != evaluation_key(now) or not overrides
    # Such a config has the id that it had before there were versions.
    assert run_id_of(config) == run_id(earlier)
    assert evaluation_key_of(config) == evaluation_key(earlier)
    assert Experiment.from_config(earlier.to_config()) == earlier


def test_a_version_to_come_is_refused(make_experiment):
    for version in ("3", "null"):
        with pytest.raises(ConfigError, match=f"version must be 2 for data=shapes, got {version}"):
            make_experiment(f"data.version={version}")


def test_a_key_of_before_is_refused_with_the_one_in_its_place(make_experiment):
    config = make_experiment().to_config()
    config["views"]["brightness"] = "additive"
    with pytest.raises(
        ConfigError, match=r"unknown key views\.brightness; it is now views\.color=pytorch"
    ):
        Experiment.from_config(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["views.strength=3"], "views.strength must be >= 0 and <= 2.5, got 3.0"),
        (["data.size=64"], "data.size must be 32 for data=shapes, got 64"),
        (["data=imagenet", "data.root=x", "views=none"], "views.policy must begin with a crop"),
        (
            ["encoder=resnet18", "encoder.width=3"],
            "encoder.width must be one of 1, 2, 4 for encoder.architecture=resnet18, got 3",
        ),
    ],
)
def test_bounds_of_the_code_are_known_beforehand(overrides, message, make_experiment):
    with pytest.raises(ConfigError, match=re.escape(message)):
        make_experiment(*overrides)


@pytest.mark.slow
def test_the_bounds_are_those_of_the_code(make_experiment):
    from simclr_ablate.augment.operations import MAX_STRENGTH
    from simclr_ablate.data.shapes import SIDE
    from simclr_ablate.models.encoder import build_encoder
    from simclr_ablate.schema import names

    assert MAX_STRENGTH == names.MAX_STRENGTH
    assert SIDE == schema.SHAPES_SIDE
    architectures = dataclasses.fields(schema.Encoder)[0].metadata["choices"]
    for architecture, width in itertools.product(architectures, range(1, 6)):
        for accept in (
            lambda a, w: build_encoder(a, w, "cifar"),
            lambda a, w: make_experiment(f"encoder={a}", f"encoder.width={w}"),
        ):
            allowed = architecture == "resnet8" or width in schema.WIDTHS
            expected = nullcontext() if allowed else pytest.raises(ValueError, match="width")
            with torch.device("meta"), expected:
                accept(architecture, width)


def test_a_config_is_as_json_gives_it_back(make_experiment):
    """A job's config is found again among those that were written down."""
    config = make_experiment("tracker=tensorboard").to_config()
    config["encoder"] |= {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}
    config["objective"], config["encoder"]["weights"] = "imported", "weights.safetensors"
    again = Experiment.from_config(config).to_config()
    assert again == config == json.loads(json.dumps(again))
    assert Experiment.from_config(again) == Experiment.from_config(config)
