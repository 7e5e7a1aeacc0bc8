"""Exports load into other libraries' own classes with the same features, and come back as the same encoder."""

import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from simclr_ablate.identity import evaluation_key, run_id
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.models.head import build_head
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Run, Store
from simclr_ablate.weights.__main__ import main
from simclr_ablate.weights.importing import fingerprint
from tests.weights.conftest import Importing
from tests.weights.networks import MEAN, STD, assert_alike, normalised, randomised

pytestmark = pytest.mark.slow

Keep = Callable[..., tuple[Run, nn.Module]]


@pytest.fixture
def keep(make_experiment: Callable[..., Experiment], tmp_path: Path) -> Keep:
    """`keep("encoder=resnet18", ...)`: a pretrained run of these overrides in `runs`, and its encoder."""

    def write(*overrides: str, **encoder: Any) -> tuple[Run, nn.Module]:
        experiment = make_experiment(*overrides)
        spec = dataclasses.replace(experiment.encoder, **encoder)
        experiment = dataclasses.replace(experiment, encoder=spec)
        run = Store(tmp_path / "runs").run(run_id(experiment))
        torch.manual_seed(experiment.seed)
        network = build_encoder(spec.architecture, spec.width, spec.stem, spec.mean, spec.std)
        randomised(network, experiment.seed)
        weights = {"encoder": network.state_dict()}
        if experiment.objective == "contrastive":
            weights["head"] = build_head("nonlinear", network.dim, 16).state_dict()
        run.create(experiment.to_config())
        run.write_pretraining({"loss": 4.25, "entropy": 3.0})
        run.write_encoder(weights, {})
        return run, network

    return write


def export(run: Run, to: str, *more: str) -> Path:
    out = run.path.parents[1] / f"out-{to}"
    words = {"run": run.run_id, "store": run.path.parent, "to": to, "out": out}
    words |= dict(word.split("=", 1) for word in more)
    assert main(["export", *(f"{name}={value}" for name, value in words.items())]) == 0
    return out


def of(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        features: Tensor = network.eval()(images)
        return features


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_torchvisions_own_class(
    architecture: str, keep: Keep, imported: Importing, images: Tensor
) -> None:
    run, network = keep(f"encoder={architecture}")
    out = export(run, "torchvision")
    theirs: Any = torchvision.models.get_model(architecture)
    theirs.fc = nn.Identity()
    theirs.load_state_dict(load_file(out / "model.safetensors"))
    assert_alike(of(theirs, images), of(network, images))
    spec, ours = imported(out / "model.safetensors", architecture)
    assert torch.equal(ours(images), of(network, images))
    assert spec.fingerprint == fingerprint(run.weights()["encoder"])


@pytest.mark.parametrize("is_normalised", [False, True])
def test_timms_own_class(
    is_normalised: bool, keep: Keep, imported: Importing, images: Tensor
) -> None:
    more: dict[str, Any] = {"fingerprint": "f" * 24, "mean": MEAN, "std": STD, "label": "theirs"}
    of_import = ("objective=imported", "encoder.weights=w.pt") if is_normalised else ()
    run, network = keep("encoder=resnet18", *of_import, **(more if is_normalised else {}))
    out = export(run, "timm")
    by_file: Any = timm.create_model(
        "resnet18", num_classes=0, checkpoint_path=str(out / "model.safetensors")
    )
    by_folder: Any = timm.create_model(f"local-dir:{out}", pretrained=True)
    given = normalised(images) if is_normalised else images
    for theirs in (by_file, by_folder):
        assert_alike(of(theirs, given), of(network, images))
    told = by_folder.pretrained_cfg
    assert tuple(told["mean"]) == (MEAN if is_normalised else (0, 0, 0))
    assert tuple(told["std"]) == (STD if is_normalised else (1, 1, 1))
    assert by_folder.num_features == 512
    spec, ours = imported(out / "model.safetensors", "resnet18")
    assert torch.equal(ours(images), of(network, images))
    assert (spec.mean, spec.std) == ((MEAN, STD) if is_normalised else (None, None))


@pytest.mark.parametrize("to", ["hf", "npz"])
@pytest.mark.parametrize("stem", ["imagenet", "tensorflow", "cifar", "strided"])
def test_every_encoder_comes_back(
    to: str, stem: str, keep: Keep, imported: Importing, images: Tensor
) -> None:
    run, network = keep("encoder=resnet8", "encoder.width=3", f"encoder.stem={stem}")
    out = export(run, to)
    file = out / ("encoder.npz" if to == "npz" else "model.safetensors")
    spec, ours = imported(file, "resnet8", 3, stem)
    assert torch.equal(ours(images), of(network, images))
    assert spec.fingerprint == fingerprint(run.weights()["encoder"])
    assert spec.label == out.name
    other = "strided" if stem == "cifar" else "cifar"
    with pytest.raises(Exception, match=r"encoder\.stem must be|does not fit"):
        imported(file, "resnet8", 3, other)


def test_the_head_goes_along_if_it_is_asked_for(keep: Keep) -> None:
    run, _ = keep("encoder=resnet8")
    out = export(run, "hf", "head=true")
    head = build_head("nonlinear", 128, 16)
    head.load_state_dict(load_file(out / "head.safetensors"))
    for name, tensor in run.weights()["head"].items():
        assert torch.equal(head.state_dict()[name], tensor)
    assert "projection head" in (out / "README.md").read_text()
    arrays = np.load(export(run, "npz", "head=true") / "head.npz")
    assert np.array_equal(arrays["output.weight"], run.weights()["head"]["output.weight"].numpy())
    plain = out.with_name("plain")
    export(run, "npz", f"out={plain}")
    assert {path.name for path in plain.iterdir()} == {"encoder.npz", "config.json", "README.md"}


def test_the_card_has_the_results_of_all_seeds(
    make_experiment: Callable[..., Experiment], keep: Keep
) -> None:
    scores = {0: 41.5, 1: 44.25, 2: 40.0}
    for seed, score in scores.items():
        overrides = ("encoder=resnet18", f"seed={seed}", "data.label=pets | dogs")
        run, _ = keep(*overrides)
        experiment = make_experiment(*overrides)
        run.write_evaluation(
            evaluation_key(experiment),
            experiment.to_config()["evaluation"],
            {"top1": score, "top5": 80.0, "knn_top1": 30.0, "test_images": 4000},
        )
    keep("encoder=resnet18", "seed=7", "data.label=pets | dogs", "loss.temperature=0.9")
    text = (export(run, "timm") / "README.md").read_text()
    mean = statistics.mean(scores.values())
    # Student's t for two degrees of freedom, from tables.
    half = 4.302653 * statistics.stdev(scores.values()) / math.sqrt(3)
    assert f"top1 {mean:.2f} ± {half:.2f}" in text
    assert "top5 80.00 ± 0.00" in text
    assert "| 0, 1, 2 |" in text
    assert "with seed 2" in text
    assert "| loss.temperature | 0.2 |" in text
    assert "loss 4.25" in text
    assert "timm.create_model" in text
    assert text.startswith("---\nlibrary_name: timm\n")


def test_what_is_loaded_as_the_card_says(
    keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Tensor
) -> None:
    """The card's own lines, run."""
    of_ours = ["encoder=resnet18"]
    of_others = ["objective=imported", "encoder.weights=w.pt", "encoder.architecture=timm:resnet18"]
    for overrides, to in (
        (of_ours, "torchvision"),
        (of_ours, "timm"),
        (of_ours, "hf"),
        (of_others, "hf"),
    ):
        run, network = keep(*overrides)
        export(run, to, f"out={tmp_path}/{to}{len(overrides)}")
        out = tmp_path / f"{to}{len(overrides)}"
        code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0]
        monkeypatch.chdir(out)
        found: dict[str, Any] = {}
        exec(code, found)
        assert_alike(of(found["model"], images), of(network, images))


def test_a_config_of_plain_values(keep: Keep) -> None:
    run, _ = keep("encoder=resnet8")
    config = json.loads((export(run, "hf") / "config.json").read_text())["simclr_ablate"]
    assert config["run"] == run.run_id
    assert config["encoder"] == {
        "architecture": "resnet8",
        "width": 1,
        "stem": "imagenet",
        "mean": None,
        "std": None,
    }


def test_the_installed_script_finds_encoders_in_the_current_folder(
    keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python itself looks in the script's folder instead."""
    (tmp_path / "encoder_of_mine.py").write_text("from tests.weights.networks import tiny\n")
    with monkeypatch.context() as here:
        here.syspath_prepend(tmp_path)
        run, network = keep("encoder.architecture=encoder_of_mine:tiny")
    script = Path(sys.executable).with_name("simclr-ablate")
    words = [f"run={run.run_id}", "to=hf", f"store={run.path.parent}", "out=exported"]
    told = subprocess.run(
        [script, "weights", "export", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    kept = load_file(tmp_path / "exported/model.safetensors")
    ours = {name.split(".", 1)[1]: tensor for name, tensor in network.state_dict().items()}
    assert kept.keys() == ours.keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in ours.items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["to=torchvision"], "to must be hf or npz for an encoder that torchvision does not have"),
        (["to=timm"], "got to=timm for resnet8 with encoder.width=1"),
        (["to=onnx"], "to must be one of torchvision, timm, hf, npz, got onnx"),
        ([], "to must be one of torchvision, timm, hf, npz, got nothing"),
        (["to=hf", "run=nothing"], "run must be the id of a run in"),
        (["to=hf", "run="], "run must have a value, got run="),
        (["to=hf", "head=yes"], "head must be one of false, true, got yes"),
        (["to=hf", "heads=true"], "unknown key heads; did you mean head?"),
        (
            ["to=hf", "--push", "name"],
            "--push must name a repository, as in OWNER/NAME, got 'name'",
        ),
        (["to=hf", "--push", "me/name"], "--push me/name needs a login"),
    ],
)
def test_bad_requests_are_named_and_write_nothing(
    words: list[str],
    said: str,
    keep: Keep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    run, _ = keep("encoder=resnet8")
    out = tmp_path / "out"
    named = [] if any(word.startswith("run=") for word in words) else [f"run={run.run_id}"]
    assert main(["export", *named, f"store={run.path.parent}", f"out={out}", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_overwritten(
    keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = keep("encoder=resnet8")
    out = export(run, "hf")
    before = {path: path.read_bytes() for path in out.iterdir()}
    words = [f"run={run.run_id}", f"store={run.path.parent}", "to=hf", f"out={out}"]
    assert main(["export", *words]) == 2
    assert "out must be a folder that does not exist yet" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_runs_without_what_is_asked_for(keep: Keep, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = keep("encoder=resnet8", "objective=none")
    others, _ = keep(
        "objective=imported", "encoder.weights=w.pt", "encoder.architecture=timm:resnet18"
    )
    assert main(["export", f"run={others.run_id}", f"store={run.path.parent}", "to=npz"]) == 2
    assert "to must be hf for encoder.architecture=timm:resnet18" in capsys.readouterr().err
    words = ["export", f"run={run.run_id}", f"store={run.path.parent}", "to=hf"]
    out = run.path.parents[1] / "out"
    assert main([*words, f"out={out}", "head=true"]) == 2
    assert "has no head: objective=none" in capsys.readouterr().err
    run.encoder_path.unlink()
    assert main([*words, f"out={out}"]) == 2
    assert "has no encoder yet" in capsys.readouterr().err
    assert not out.exists()


def test_the_card_says_how_many_labels_an_encoder_was_trained_on(
    make_experiment: Callable[..., Experiment], keep: Keep
) -> None:
    run, _ = keep("encoder=resnet8")
    for labels in ("0.1", "null"):
        experiment = make_experiment(
            "encoder=resnet8", "evaluation=few_labels", f"evaluation.labels={labels}"
        )
        config = experiment.to_config()["evaluation"]
        run.write_evaluation(evaluation_key(experiment), config, {"top1": 50.0})
    text = (export(run, "hf") / "README.md").read_text()
    assert "few_labels, labels 0.1 on shapes" in text
    assert "few_labels, all labels on shapes" in text
