"""The simulated accelerator, for tests."""

from collections.abc import Iterator

import pytest
import torch

from simclr_ablate.augment import fused
from tests.device import sim


@pytest.fixture
def fused_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour jitter is one operation, as with Triton on a GPU."""
    monkeypatch.setattr(fused, "DEVICES", ["sim"])
    monkeypatch.setattr(fused, "_has_triton", lambda: True)


@pytest.fixture(params=["fused", "small"])
def jitter(request: pytest.FixtureRequest) -> str:
    """Colour jitter is one operation; then the small ones that it is on other devices."""
    if request.param == "fused":
        request.getfixturevalue("fused_jitter")
    return request.param


@pytest.fixture(scope="package", autouse=True)
def _sim() -> Iterator[None]:
    """Installs it. Networks of later tests in this process change in place again when they move."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    sim.install()
    yield
    torch.__future__.set_overwrite_module_params_on_conversion(before)
