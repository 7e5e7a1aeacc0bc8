"""Each library's own files, made by itself: our encoder's features are its own network's, on the same images."""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning
import timm
import torch
import torchvision
from lightly.models import ResNetGenerator
from lightly.models.modules import MoCoProjectionHead, SimCLRProjectionHead
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn

from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.weights.importing import complete_weights
from tests.weights.conftest import Importing
from tests.weights.networks import MEAN, STD, assert_alike, normalised, randomised

pytestmark = pytest.mark.slow

SETTINGS = {"mean": MEAN, "std": STD}


def resnet(architecture: str = "resnet18", seed: int = 0, **more: Any) -> nn.Module:
    torch.manual_seed(seed)
    return randomised(torchvision.models.get_model(architecture, **more), seed)


def features_of(network: nn.Module, images: Tensor) -> Tensor:
    """Those of a torchvision ResNet, without its classifier."""
    headless = copy.deepcopy(network)
    headless.fc = nn.Identity()
    with torch.no_grad():
        return headless.eval()(images)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_state_dict_of_torchvision(
    architecture: str, ending: str, tmp_path: Path, imported: Importing, images: Tensor
) -> None:
    theirs = resnet(architecture)
    path = tmp_path / f"weights{ending}"
    if ending == ".pt":
        torch.save(theirs.state_dict(), path)
    else:
        save_file(theirs.state_dict(), path)
    spec, ours = imported(path, architecture, **SETTINGS)
    assert_alike(ours(images), features_of(theirs, normalised(images)))
    assert spec.label == "weights"


def test_half_precision_and_the_old_format_of_torch(
    tmp_path: Path, imported: Importing, images: Tensor
) -> None:
    theirs = resnet().half()
    torch.save(theirs.state_dict(), tmp_path / "half.pt", _use_new_zipfile_serialization=False)
    _, ours = imported(tmp_path / "half.pt", "resnet18")
    assert_alike(ours(images), features_of(theirs.float(), images))


def test_without_a_classifier_and_without_counts_of_batches(
    tmp_path: Path, imported: Importing, images: Tensor
) -> None:
    theirs = resnet()
    kept = {
        name: tensor
        for name, tensor in theirs.state_dict().items()
        if not name.startswith("fc") and "num_batches" not in name
    }
    torch.save(kept, tmp_path / "backbone.pt")
    _, ours = imported(tmp_path / "backbone.pt", "resnet18")
    assert_alike(ours(images), features_of(theirs, images))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_state_dict_of_timm(name: str, tmp_path: Path, imported: Importing, images: Tensor) -> None:
    theirs = randomised(timm.create_model(name))
    training: dict[str, Any] = {
        "arch": name,
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, out=Path("x")),
    }
    training["cfg"] = OmegaConf.create({"optimizer": {"lr": 0.3, "betas": [0.9, 0.99]}})
    averaged = randomised(timm.create_model(name), seed=1).state_dict()
    torch.save(
        {**training, "state_dict": theirs.state_dict(), "state_dict_ema": averaged},
        tmp_path / "model_best.pth.tar",
    )
    _, ours = imported(tmp_path / "model_best.pth.tar", name, **SETTINGS)
    with torch.no_grad():
        reference = theirs.forward_head(
            theirs.forward_features(normalised(images)), pre_logits=True
        )
    assert_alike(ours(images), reference)


class SimCLR(pytorch_lightning.LightningModule):
    """As in lightly's example: the ResNet's layers in a sequence, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"settings": argparse.Namespace(batch=256)})
        self.backbone = nn.Sequential(*list(resnet().children())[:-1])
        self.projection_head = SimCLRProjectionHead(512, 512, 128)


class MoCo(pytorch_lightning.LightningModule):
    """As in lightly's example: a second encoder follows the first."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*list(resnet().children())[:-1])
        self.projection_head = MoCoProjectionHead(512, 512, 128)
        self.backbone_momentum = nn.Sequential(*list(resnet(seed=1).children())[:-1])
        self.projection_head_momentum = copy.deepcopy(self.projection_head)


@pytest.mark.parametrize("kind", [SimCLR, MoCo])
def test_checkpoint_of_lightly_and_lightning(
    kind: Any, tmp_path: Path, imported: Importing, images: Tensor
) -> None:
    module = kind().eval()
    trainer = pytorch_lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, barebones=False
    )
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    _, ours = imported(tmp_path / "last.ckpt", "resnet18", **SETTINGS)
    with torch.no_grad():
        reference = module.backbone(normalised(images)).flatten(1)
    assert_alike(ours(images), reference)


@pytest.mark.parametrize("name", ["resnet-18", "resnet-34"])
def test_lightlys_own_resnet(
    name: str, tmp_path: Path, imported: Importing, images: Tensor
) -> None:
    theirs = randomised(ResNetGenerator(name))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "own.ckpt")
    _, ours = imported(tmp_path / "own.ckpt", name.replace("-", ""), stem="cifar")
    theirs.linear = nn.Identity()
    small = images[..., :32, :32]  # its pool is made for 32 pixels
    with torch.no_grad():
        assert_alike(ours(small), theirs(small))


@pytest.mark.parametrize(
    ("online", "others"),
    [
        ("backbone.", ("momentum_backbone.",)),  # solo-learn
        ("module.encoder_q.", ("module.encoder_k.",)),  # MoCo
        ("module.base_encoder.", ("module.momentum_encoder.",)),  # MoCo v3
        ("student.backbone.", ("teacher.backbone.",)),  # DINO
    ],
)
def test_the_trained_one_of_two_encoders(
    online: str, others: tuple[str], tmp_path: Path, imported: Importing, images: Tensor
) -> None:
    """solo-learn's and MoCo's layouts, as their code documents them; they cannot be installed here."""
    theirs = resnet()
    state = {online + name: tensor for name, tensor in theirs.state_dict().items()}
    for number, other in enumerate(others, 1):
        state |= {other + name: t for name, t in resnet(seed=number).state_dict().items()}
    state |= {"queue": torch.rand(128, 64), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    state |= {"projector.0.weight": torch.rand(8, 8), "momentum_projector.0.weight": torch.rand(8)}
    state |= {online + "fc.0.weight": torch.rand(4, 512), "predictor.0.bias": torch.rand(3)}
    optimizer = {"state": {0: {"momentum_buffer": torch.rand(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save(
        {"state_dict": state, "optimizer": optimizer, "best_acc1": torch.rand(())},
        tmp_path / "a.pth",
    )
    _, ours = imported(tmp_path / "a.pth", "resnet18", **SETTINGS)
    assert_alike(ours(images), features_of(theirs, normalised(images)))


def test_checkpoint_of_vissl(tmp_path: Path, imported: Importing, images: Tensor) -> None:
    """VISSL's layout, as its conversion scripts document it; it cannot be installed here."""
    theirs = resnet()
    trunk = {
        f"_feature_blocks.{name}": tensor
        for name, tensor in theirs.state_dict().items()
        if not name.startswith("fc")
    }
    model = {"trunk": trunk, "heads": {"0.clf.0.weight": torch.rand(128, 512)}}
    content = {"phase_idx": 1, "classy_state_dict": {"base_model": {"model": model}}}
    torch.save({**content, "loss": {"temperature": torch.rand(())}}, tmp_path / "vissl.torch")
    _, ours = imported(tmp_path / "vissl.torch", "resnet18", **SETTINGS)
    assert_alike(ours(images), features_of(theirs, normalised(images)))


def test_the_fingerprint_is_that_of_the_weights_whatever_the_file(
    tmp_path: Path, imported: Importing
) -> None:
    theirs = resnet()
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    bare = {
        k: v for k, v in theirs.state_dict().items() if "num_batches" not in k and "fc" not in k
    }
    save_file({f"module.{k}": v for k, v in bare.items()}, tmp_path / "b.safetensors")
    torch.save(resnet(seed=1).state_dict(), tmp_path / "c.pt")
    first, second, third = (
        imported(tmp_path / name, "resnet18")[0].fingerprint
        for name in ("a.pt", "b.safetensors", "c.pt")
    )
    assert first == second != third


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)},
        {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
    ],
)
def test_torchvision_brings_its_preprocessing(
    given: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    imported: Importing,
    images: Tensor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    weights = torchvision.models.get_model_weights("resnet18")["IMAGENET1K_V1"]
    theirs, folder = resnet(), tmp_path / "hub/checkpoints"
    folder.mkdir(parents=True)
    # Where torchvision keeps what it has downloaded.
    torch.save(theirs.state_dict(), folder / weights.url.rpartition("/")[2])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    spec, ours = imported("torchvision:resnet18.IMAGENET1K_V1", "resnet18", **given)
    transforms = weights.transforms()
    mean, std = given.get("mean", transforms.mean), given.get("std", transforms.std)
    reference = torchvision.transforms.functional.normalize(images, list(mean), list(std))
    assert_alike(ours(images), features_of(theirs, reference))
    assert spec.label == "resnet18.IMAGENET1K_V1"
    assert complete_weights(spec, 64) == spec, "what is complete stays as it is"
    assert (
        "made for images of 224 pixels, resized by bilinear interpolation; here they have 64"
        in caplog.text
    )


def test_safetensors_whose_header_looks_like_a_pickle(tmp_path: Path, imported: Importing) -> None:
    """The file begins with the header's length, whose lowest byte may be any: also the first of a pickle."""
    path = tmp_path / "w.safetensors"
    state = build_encoder("resnet8", 1, "cifar").state_dict()
    told = {"encoder": {"stem": "cifar", "mean": MEAN, "std": STD}}
    for padding in range(0, 256, 8):
        metadata = {"simclr_ablate": json.dumps(told), "padding": " " * padding}
        save_file(state, path, metadata)
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    assert imported(path, "resnet8", stem="cifar")[0].mean == MEAN
