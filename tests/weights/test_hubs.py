"""Sources that download, from what their libraries have in their caches; and networks that are not ours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from simclr_ablate.config import ConfigError
from simclr_ablate.models.encoder import build_encoder
from tests.weights.conftest import Importing
from tests.weights.networks import MEAN, STD, assert_alike, normalised, randomised

REVISION = "0" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`hub(repository, tensors, config)`: a repository as huggingface_hub keeps it once it is downloaded."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def keep(repository: str, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
        home = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        snapshot = home / "snapshots" / REVISION
        snapshot.mkdir(parents=True)
        (home / "refs").mkdir()
        (home / "refs/main").write_text(REVISION)
        save_file(tensors, snapshot / "model.safetensors")
        (snapshot / "config.json").write_text(json.dumps(config))

    return keep


def timm_features(model: Any, images: Tensor) -> Tensor:
    """Those before timm's own classifier."""
    with torch.no_grad():
        features: Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
        return features


def test_timm_brings_its_preprocessing(
    hub: Callable[..., None],
    imported: Importing,
    images: Tensor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    theirs: Any = randomised(timm.create_model("resnet18.a1_in1k"))
    hub(theirs.pretrained_cfg["hf_hub_id"], theirs.state_dict(), {})
    spec, ours = imported("timm:resnet18.a1_in1k", "resnet18")
    assert_alike(ours(images), timm_features(theirs, normalised(images)))
    assert spec.mean == MEAN
    assert spec.std == STD
    assert "made for images of 224 pixels, resized by bicubic interpolation" in caplog.text


@pytest.mark.slow
def test_a_network_with_the_same_weights_and_other_features_is_refused(
    hub: Callable[..., None], imported: Importing
) -> None:
    """resnetblur50 has the names and shapes of a ResNet-50, and blurs before it strides."""
    theirs: Any = randomised(timm.create_model("resnetblur50.bt_in1k"))
    hub(theirs.pretrained_cfg["hf_hub_id"], theirs.state_dict(), {})
    with pytest.raises(
        ConfigError, match=r"is of another network than encoder.architecture=resnet50"
    ):
        imported("timm:resnetblur50.bt_in1k", "resnet50")
    spec, ours = imported("timm:resnetblur50.bt_in1k", "timm:resnetblur50")
    draw = torch.rand(2, 3, 64, 64)
    scaled = torchvision.transforms.functional.normalize(draw, list(spec.mean), list(spec.std))
    assert_alike(ours(draw), timm_features(theirs, scaled))


@pytest.mark.parametrize("says", [True, False])
def test_a_repository_of_the_hub(
    says: bool, hub: Callable[..., None], imported: Importing, images: Tensor
) -> None:
    theirs: Any = randomised(timm.create_model("resnet18"))
    told = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 64, 64]}
    hub("someone/resnet", theirs.state_dict(), {"pretrained_cfg": told} if says else {})
    spec, ours = imported("hf:someone/resnet", "resnet18")
    scaled = images
    if says:
        scaled = torchvision.transforms.functional.normalize(images, told["mean"], told["std"])
    assert_alike(ours(images), timm_features(theirs, scaled))
    assert spec.label == "resnet"


def test_a_vision_transformer_of_timms(tmp_path: Path, imported: Importing) -> None:
    name = "test_vit"
    theirs: Any = randomised(timm.create_model(name))
    size = theirs.default_cfg["input_size"][-1]
    torch.save({"model": theirs.state_dict()}, tmp_path / "vit.pth")
    spec, ours = imported(tmp_path / "vit.pth", f"timm:{name}", size=size)
    images = torch.rand(3, 3, size, size)
    assert_alike(ours(images), timm_features(theirs, images))
    assert spec.fingerprint
    with pytest.raises(ConfigError, match=f"timm:{name} must take images \\(2, 3, 50, 50\\)"):
        imported(tmp_path / "vit.pth", f"timm:{name}", size=50)


MINE = """
from torch import nn

def network(width, stem):
    stride = {"imagenet": 4, "cifar": 1}[stem]
    return nn.Sequential(nn.Conv2d(3, 8 * width, 5, stride), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def flat(width, stem):
    return nn.Conv2d(3, 8, 3)

def none(width, stem):
    return 3
"""


def test_a_network_of_the_users_own(
    own_module: Callable[[str], str], tmp_path: Path, imported: Importing
) -> None:
    module, images = own_module(MINE), torch.rand(3, 3, 20, 20)
    theirs = nn.Sequential(nn.Conv2d(3, 16, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.save({f"net.{k}": t for k, t in theirs.state_dict().items()}, tmp_path / "own.pt")
    _, ours = imported(tmp_path / "own.pt", f"{module}:network", 2, "cifar", size=20)
    with torch.no_grad():
        assert_alike(ours(images), theirs(images))
    with pytest.raises(ConfigError, match=r"net\.0.weight is"):
        imported(tmp_path / "own.pt", f"{module}:network", 1, "cifar", size=20)
    with pytest.raises(ConfigError, match=r"must map images \(2, 3, 20, 20\) to h, \(2, D\)"):
        imported(tmp_path / "own.pt", f"{module}:flat", size=20)
    with pytest.raises(ConfigError, match=r"must make a torch\.nn\.Module, got int"):
        imported(tmp_path / "own.pt", f"{module}:none", size=20)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("torchvision:resnet5.X", "must name a model of torchvision"),
        ("torchvision:resnet18", "must be one of torchvision:resnet18.IMAGENET1K_V1"),
        ("torchvision:resnet18.IMAGENET1K_V9", "must be one of torchvision:resnet18.IMAGENET1K_V1"),
        ("timm:resnet18.a1_in2k", "did you mean resnet18.a1_in1k?"),
        ("hf:resnet18", "must name a repository, as in hf:OWNER/NAME"),
        ("hf:someone/absent", "could not be fetched"),
    ],
)
def test_sources_that_do_not_exist(
    source: str, said: str, hub: Callable[..., None], imported: Importing
) -> None:
    with pytest.raises(ConfigError) as raised:
        imported(source, "resnet18")
    assert said in str(raised.value)
    assert f"encoder.weights={source}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_architecture_of_timms() -> None:
    with pytest.raises(
        ConfigError, match="must name a model of timm, got 'timm:resnet19'; did you mean"
    ):
        build_encoder("timm:resnet19", 1, "imagenet")
