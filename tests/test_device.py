"""How a process computes on a device: what the config asks for is what torch is told."""

import os
from collections.abc import Iterator

import pytest
import torch

from simclr_ablate.config import ConfigError
from simclr_ablate.device import backend_of, free_bytes, has_fused_optimizers, set_arithmetic


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    set_arithmetic()
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("tf32", [None, False, True])
def test_arithmetic_is_what_was_asked_for(deterministic: bool, tf32: bool | None) -> None:
    set_arithmetic(not deterministic)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    set_arithmetic(deterministic, tf32)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.backends.cudnn.deterministic == deterministic
    assert torch.backends.cudnn.benchmark != deterministic
    assert torch.backends.cudnn.allow_tf32 == (not deterministic if tf32 is None else tf32)
    assert torch.get_float32_matmul_precision() == "highest"
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == deterministic


def test_tf32_is_not_deterministic(make_experiment) -> None:
    with pytest.raises(ConfigError, match=r"compute.tf32 must be null or false with compute.det"):
        make_experiment("compute.deterministic=true", "compute.tf32=true")


def test_what_torch_knows_of_devices() -> None:
    assert free_bytes(torch.device("cpu")) == float("inf")
    assert backend_of(torch.device("cpu")) == "gloo"
    assert backend_of(torch.device("cuda", 1)) == "nccl"
    for name in ("cpu", "cuda", "mps", "xpu"):
        assert has_fused_optimizers(torch.device(name))
    assert not has_fused_optimizers(torch.device("meta"))
