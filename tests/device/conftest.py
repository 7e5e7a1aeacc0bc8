"""The simulated accelerator, for tests."""

from collections.abc import Iterator

import pytest
import torch

from simclr_ablate.augment import fused
from tests.device import sim


@pytest.fixture(params=["fused", "small"])
def jitter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Colour jitter as one operation, as with Triton, then as the small ones that other devices do."""
    monkeypatch.setattr(fused, "DEVICES", ["sim"] if request.param == "fused" else [])
    monkeypatch.setattr(fused, "_has_triton", lambda: True)
    return request.param


@pytest.fixture(scope="package", autouse=True)
def _sim() -> Iterator[None]:
    """Installs it. Networks of later tests in this process change in place again when they move."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    sim.install()
    yield
    torch.__future__.set_overwrite_module_params_on_conversion(before)
