"""How a process computes on its device: torch is told what the config asks for."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from simclr_ablate import device as device_module
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


class Streams:
    """A device's module that writes down what is asked of it, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def Stream(self, device: torch.device) -> "FakeStream":  # noqa: N802
        return FakeStream("side", self.asked)

    def current_stream(self, device: torch.device) -> "FakeStream":
        return FakeStream("current", self.asked)

    @contextmanager
    def stream(self, stream: "FakeStream") -> Iterator[None]:
        self.asked.append(f"on {stream.name}")
        yield
        self.asked.append(f"off {stream.name}")


class FakeStream:
    def __init__(self, name: str, asked: list[str]) -> None:
        self.name, self.asked, self.events = name, asked, itertools.count(1)

    def record_event(self) -> str:
        event = f"arrival {next(self.events)}"
        self.asked.append(event)
        return event

    def wait_event(self, event: str) -> None:
        self.asked.append(f"{self.name} waits for {event}")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_batches_travel_one_ahead(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """On a stream of their own; the one that computes waits for the arrival of what it gets."""
    streams = Streams()
    batches = [(torch.full((2,), k), f"labels {k}") for k in range(count)]
    monkeypatch.setattr(device_module, "_PINNING", ("meta",))
    monkeypatch.setattr(torch, "get_device_module", lambda _: streams)
    monkeypatch.setattr(
        device_module, "send", lambda batch, _: streams.asked.append("send") or batch
    )
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda _, s: streams.asked.append(f"kept for {s.name}")
    )
    received = []
    for batch, labels in device_module.send_ahead(iter(batches), torch.device("meta")):
        received.append((batch, labels))
        streams.asked.append("step")
    assert [labels for _, labels in received] == [labels for _, labels in batches]
    assert all(one is other for (one, _), (other, _) in zip(received, batches, strict=True))

    def sent(k: int) -> list[str]:
        return ["on side", "send", f"arrival {k}", "off side"]

    def worked_on(k: int) -> list[str]:
        return [f"current waits for arrival {k}", "kept for current", "step"]

    expected = {
        0: [],
        1: [*sent(1), *worked_on(1)],
        3: [*sent(1), *sent(2), *worked_on(1), *sent(3), *worked_on(2), *worked_on(3)],
    }
    assert streams.asked == expected[count]


@pytest.mark.parametrize(
    ("name", "expected"), [("cuda:3", ["cuda:3"]), ("xpu:1", ["xpu:1"]), ("mps:0", []), ("cpu", [])]
)
def test_a_process_enters_its_gpu(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: list[str]
) -> None:
    entered: list[str] = []

    class Module:
        @staticmethod
        def set_device(device: torch.device) -> None:
            entered.append(str(device))

    monkeypatch.setattr(torch, "get_device_module", lambda _: Module)
    device_module.enter(torch.device(name))
    assert entered == expected


def test_nothing_is_sent_to_the_cpu() -> None:
    batch = torch.ones(2)
    ((same, rest),) = device_module.send_ahead([(batch, "labels")], torch.device("cpu"))
    assert same is batch
    assert rest == "labels"
