"""What is wrong with weights is said in one line, which names the file and what is wrong with it."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from simclr_ablate.config import ConfigError
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.schema import Encoder, Experiment
from simclr_ablate.weights.importing import complete_weights, import_weights

Tensors = dict[str, torch.Tensor]


def encoder(architecture: str = "resnet8", width: int = 1, stem: str = "cifar") -> Tensors:
    return dict(build_encoder(architecture, width, stem).state_dict())


def spec(source: object, architecture: str = "resnet8", **more: Any) -> Encoder:
    keys = {"width": 1, "stem": "cifar", **dict.fromkeys(("fingerprint", "mean", "std", "label"))}
    return Encoder(architecture=architecture, weights=str(source), **(keys | more))


def refusal(source: object, *given: Any, **more: Any) -> str:
    """What is said of weights. It is one line, and names the file."""
    with pytest.raises(ConfigError) as raised:
        complete_weights(spec(source, *given, **more), 32)
    message = str(raised.value)
    assert "\n" not in message
    assert str(source) in message
    return message


class Code:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


WRITERS: dict[str, Callable[[Any, Path], Any]] = {
    "w.pt": torch.save,
    "w.safetensors": save_file,
    "w.npz": lambda content, path: np.savez(path, **{k: t.numpy() for k, t in content.items()}),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_cut_short(name: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](encoder(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert refusal(path).endswith("is damaged: it is cut short or changed")


def test_no_file_of_weights(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("version https://git-lfs.github.com/spec/v1")
    (tmp_path / "model.ckpt-7.index").write_text("not ours to read")
    (tmp_path / "folder").mkdir()
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    assert "there is no such file" in refusal(tmp_path / "absent.pt")
    assert "got an empty file" in refusal(tmp_path / "empty.pt")
    assert "got a folder" in refusal(tmp_path / "folder")
    assert "in safetensors, torch's (.pt, .pth, .ckpt) or NumPy's (.npz)" in refusal(
        tmp_path / "text.pt"
    )
    assert "docs/weights.md" in refusal(tmp_path / "model.ckpt-7.index")
    assert "holds no tensors" in refusal(tmp_path / "none.pt")
    assert "torchvision:NAME.WEIGHTS, timm:NAME, hf:REPO or a file" in refusal(
        "torchvison:resnet50"
    )


@pytest.mark.parametrize(
    "save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))]
)
def test_code_is_not_run(save: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    save({"state_dict": encoder(), "more": Code()}, tmp_path / "code.pt")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert "is not loaded: it could run code" in refusal(tmp_path / "code.pt")
    finally:
        os.chdir(before)
    assert not (tmp_path / "ran").exists()


def test_an_altered_encoder_of_ours(tmp_path: Path) -> None:
    from simclr_ablate.store import tensors

    path = tmp_path / "encoder.pt"
    tensors.save(path, {"encoder": encoder(), "head": {"w": torch.ones(3)}}, "run/encoder")
    assert complete_weights(spec(path), 32).fingerprint
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "its content does not match its digest" in refusal(path)


@pytest.mark.slow
def test_what_is_missing_or_left_over_is_listed(tmp_path: Path) -> None:
    state = encoder()
    del state["layer2.0.bn1.bias"], state["layer3.0.conv2.weight"]
    torch.save({f"net.{k}": t for k, t in state.items()}, tmp_path / "less.pt")
    assert (
        "lacks 2 tensors of the encoder: net.layer2.0.bn1.bias, net.layer3.0.conv2.weight"
        in refusal(tmp_path / "less.pt")
    )
    more = {
        "layer1.0.se.weight": torch.ones(3),
        "conv1.bias": torch.ones(16),
        "fc.bias": torch.ones(9),
    }
    torch.save(encoder() | more, tmp_path / "more.pt")
    assert "has 2 tensors that the encoder lacks: layer1.0.se.weight, conv1.bias" in refusal(
        tmp_path / "more.pt"
    )
    torch.save({"neck.weight": torch.ones(3), "a": encoder()}, tmp_path / "neck.pt")
    assert "has 1 tensor that the encoder lacks: neck.weight" in refusal(tmp_path / "neck.pt")


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    state = encoder()
    state["layer2.0.bn1.running_var"][3] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    assert "has values that are not finite, in layer2.0.bn1.running_var" in refusal(
        tmp_path / "nan.pt"
    )


def test_what_is_left_out_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heads = {
        "projector.0.weight": torch.ones(3),
        "projector.0.bias": torch.ones(3),
        "queue": torch.ones(2),
    }
    torch.save({f"backbone.{k}": t for k, t in encoder().items()} | heads, tmp_path / "a.pt")
    complete_weights(spec(tmp_path / "a.pt"), 32)
    assert "left out, as no part of the encoder: projector, queue" in caplog.text


@pytest.mark.parametrize(
    ("architecture", "width", "stem"),
    [("resnet18", 1, "imagenet"), ("resnet8", 3, "cifar"), ("resnet34", 2, "cifar")],
)
def test_of_another_shape_with_the_encoder_that_fits(
    architecture: str, width: int, stem: str, tmp_path: Path
) -> None:
    with torch.device("meta"):
        shapes = build_encoder(architecture, width, stem).state_dict()
    torch.save({k: torch.zeros(()).expand(t.shape) for k, t in shapes.items()}, tmp_path / "a.pt")
    message = refusal(tmp_path / "a.pt")
    assert message.endswith(
        f"; encoder={architecture} encoder.width={width} encoder.stem={stem} would fit"
    )


def test_two_encoders_of_which_none_follows_the_other(tmp_path: Path) -> None:
    torch.save({"left": encoder(), "right": encoder()}, tmp_path / "two.pt")
    assert "must hold one encoder, and holds 2: left., right." in refusal(tmp_path / "two.pt")


def test_weights_that_change_after_planning(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(encoder(), path)
    planned = complete_weights(spec(path), 32)
    torch.save(encoder(), path)
    with pytest.raises(ConfigError, match="holds other weights than when the run was planned"):
        import_weights(planned, 32)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["objective=imported"], "encoder.weights must be torchvision:NAME.WEIGHTS"),
        (
            ["encoder.weights=a.pt"],
            "encoder.weights must be null unless objective=imported, got a.pt",
        ),
        (["encoder.mean=[0.5,0.5,0.5]"], "encoder.mean must be null unless objective=imported"),
        (
            ["objective=imported", "encoder.weights=a.pt", "evaluation.features=z"],
            "evaluation.features must be h for objective=imported",
        ),
        (
            [
                "objective=imported",
                "encoder.weights=a.pt",
                "encoder.mean=[1,2]",
                "encoder.std=[1,2,3]",
            ],
            "encoder.mean must be three numbers, got 2",
        ),
        (
            ["objective=imported", "encoder.weights=a.pt", "encoder.std=[1,2,3]"],
            "encoder.mean must be three numbers with encoder.std set, got null",
        ),
        (
            [
                "objective=imported",
                "encoder.weights=a.pt",
                "encoder.mean=[0,0,0]",
                "encoder.std=[1,0,3]",
            ],
            "encoder.std must be > 0",
        ),
        (["encoder.architecture=resnet5"], "did you mean resnet50?"),
    ],
)
def test_keys_that_do_not_fit(
    overrides: list[str], said: str, make_experiment: Callable[..., Experiment]
) -> None:
    with pytest.raises(ConfigError) as raised:
        make_experiment(*overrides)
    assert said in str(raised.value)
