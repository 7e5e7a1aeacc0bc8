"""The model card of an exported encoder: what it was trained on, how, its results, and how to load it."""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simclr_ablate.config import is_own
from simclr_ablate.identity import identity_config, values_of
from simclr_ablate.schema import KEYS, TRAINED, Experiment, pretraining_keys
from simclr_ablate.store import Store

if TYPE_CHECKING:
    from simclr_ablate.weights.exporting import Export

_LEFT_OUT = ("encoder.fingerprint", "data.fingerprint")
"""Keys that say nothing to people."""

_METRICS = ("top1", "top5", "mean_per_class", "map11", "knn_top1", "probe_accuracy")

_LOADING = {
    "torchvision": """import torch, torchvision
from safetensors.torch import load_file

model = torchvision.models.{architecture}()
model.fc = torch.nn.Identity()
model.load_state_dict(load_file("model.safetensors"))""",
    "timm": """import timm

model = timm.create_model("{architecture}", num_classes=0, checkpoint_path="model.safetensors")""",
    "hf": """from safetensors.torch import load_file
from simclr_ablate.models.encoder import build_encoder

model = build_encoder("{architecture}", {width}, "{stem}", {mean}, {std}, size={size})
{network}.load_state_dict(load_file("model.safetensors"))""",
    "npz": """import numpy as np

variables = np.load("encoder.npz")  # named as in google-research/simclr: base_model/conv2d/kernel, ...""",
}

_HEAD = "tags:\n- simclr\n- self-supervised-learning\n"


def card(experiment: Experiment, wanted: "Export", store: Store) -> str:
    """The card as Markdown, with the front matter that the Hugging Face hub reads."""
    encoder, data = experiment.encoder, experiment.data
    library = "library_name: timm\n" if wanted.to == "timm" else ""
    label = data.label or data.name
    parts = [
        f"---\n{library}{_HEAD}---",
        f"# {encoder.architecture} ({encoder.width}x), {_training(experiment)}",
        _about(experiment, wanted, label),
        "## Results\n" + _results(experiment, wanted.run_id, store),
        "## How to load it\n" + _loading(experiment, wanted),
        "## How it was made\n" + _settings(experiment, wanted.run_id, store),
        "The method: Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020.",
    ]
    return "\n\n".join(parts) + "\n"


def _training(experiment: Experiment) -> str:
    ways = {
        "contrastive": "pretrained by SimCLR",
        "supervised": "trained with labels",
        "none": "untrained",
        "imported": f"imported from {experiment.encoder.label}",
    }
    return ways[experiment.objective]


def _about(experiment: Experiment, wanted: "Export", label: str) -> str:
    encoder = experiment.encoder
    text = "An encoder without classifier, from RGB images to h, its pooled features."
    if experiment.objective in TRAINED:
        limit = f", {experiment.data.limit:,} training images" if experiment.data.limit else ""
        text += f" Trained on {label} ({experiment.data.size} pixels{limit})"
        text += f" for {experiment.optimizer.epochs:,} epochs, with seed {experiment.seed}."
    if encoder.mean is not None and encoder.std is not None:
        text += (
            f" It takes images in [0, 1] from which the mean {_triple(encoder.mean)} is subtracted and that are "
            f"divided by {_triple(encoder.std)}."
        )
    else:
        text += " It takes images in [0, 1], not normalised."
    if wanted.head:
        what = "classifier" if experiment.objective == "supervised" else "projection head"
        text += f" The {what} is in a file of its own, `head`."
    return text


def _triple(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"


def _loading(experiment: Experiment, wanted: "Export") -> str:
    spec = experiment.encoder
    code = _LOADING[wanted.to].format(
        architecture=spec.architecture,
        width=spec.width,
        stem=spec.stem,
        mean=spec.mean,
        std=spec.std,
        size=experiment.data.size,
        network="model.own" if is_own(spec.architecture) else "model",
    )
    file = "encoder.npz" if wanted.to == "npz" else "model.safetensors"
    command = (
        f"simclr-ablate objective=imported encoder.weights={file} "
        f"{shlex.quote(f'encoder.architecture={spec.architecture}')} encoder.width={spec.width} "
        f"encoder.stem={spec.stem}"
    )
    text = f"```python\n{code}\n```\n\nOr evaluate it:\n```bash\n{command}\n```"
    if wanted.to == "npz" and spec.stem != "tensorflow":
        text += (
            "\n\nThe released code's own network has other features with these weights: its max pool lies otherwise, "
            "and its first stage always begins with a convolution on the shortcut."
        )
    return text


def _settings(experiment: Experiment, run_id: str, store: Store) -> str:
    values = identity_config(experiment)
    names = pretraining_keys(values_of(experiment.to_config()))
    rows = [
        f"| {name} | {'null' if value is None else value} |"
        for name, value in values.items()
        if name in names and name not in _LEFT_OUT
    ]
    measured = ", ".join(
        f"{name} {value:.4g}" for name, value in store.run(run_id).pretraining().items()
    )
    after = f"\n\nAt the end of training: {measured}." if measured else ""
    return "\n".join(["| key | value |", "|---|---|", *rows]) + after


def _results(experiment: Experiment, run_id: str, store: Store) -> str:
    """A row for each evaluation: its accuracies, over all seeds that the store has."""
    by_key: dict[str, dict[int, Mapping[str, Any]]] = {}
    configs: dict[str, Mapping[str, Any]] = {}
    for seed, name in sorted(seeds_of(experiment, run_id, store).items()):
        for key, content in store.run(name).evaluations().items():
            by_key.setdefault(key, {})[seed] = content["metrics"]
            configs.setdefault(key, content["config"])
    own = store.run(run_id).evaluations()
    rows = []
    for key in own:
        measured = by_key[key]
        rows.append(
            f"| {_described(configs[key], experiment)} | {_accuracies(measured)} | {', '.join(map(str, measured))} |"
        )
    if not rows:
        return "It has not been evaluated."
    heading = "Percent; with several seeds, the mean and a 95% interval (Student's t) over encoders of all seeds."
    return "\n".join(
        [heading, "", "| evaluation | test accuracy | seeds |", "|---|---|---|", *rows]
    )


def seeds_of(experiment: Experiment, run_id: str, store: Store) -> dict[int, str]:
    """The runs that differ from this one in nothing but their seed, by seed; itself included."""
    wanted = _but_seed(experiment.to_config())
    found = {experiment.seed: run_id}
    for run in store.runs():
        record = run.experiment()
        if record is None or not run.is_pretrained():
            continue
        try:
            if _but_seed(record["config"]) == wanted:
                found.setdefault(record["config"]["seed"], run.run_id)
        except ValueError:
            continue  # of another schema
    return found


def _but_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    values = values_of(config)
    counted = pretraining_keys(values)
    names = (key.name for key in KEYS if key.identity and key.name in counted)
    return {
        name: list(value) if isinstance(value := values[name], tuple) else value
        for name in names
        if name != "seed"
    }


def _described(config: Mapping[str, Any], experiment: Experiment) -> str:
    protocol = config.get("protocol", "linear")
    other = config.get("data") or {}
    data = other.get("label") or other.get("name") or experiment.data.label or experiment.data.name
    features = f", {config['features']}" if config.get("features") == "z" else ""
    probe = f" of {config['probe']}" if config.get("probe") else ""
    labels = ""
    if protocol == "few_labels":
        labels = (
            f", labels {config['labels']:g}" if config["labels"] is not None else ", all labels"
        )
    return f"{protocol}{probe}{features}{labels} on {data}"


def _accuracies(measured: Mapping[int, Mapping[str, Any]]) -> str:
    names = [name for name in _METRICS if all(name in metrics for metrics in measured.values())]
    return ", ".join(
        f"{name} {_mean([metrics[name] for metrics in measured.values()])}" for name in names
    )


def _mean(values: Sequence[float]) -> str:
    """`45.2 ± 1.3`: the mean and half of its 95% interval; with one value, that alone."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.2f}"
    from scipy.special import stdtrit

    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = float(stdtrit(len(values) - 1, 0.975)) * math.sqrt(variance / len(values))
    return f"{mean:.2f} ± {half:.2f}"
