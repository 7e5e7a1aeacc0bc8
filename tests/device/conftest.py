"""The simulated accelerator, for tests."""

from collections.abc import Iterator

import pytest
import torch

from tests.device import sim


@pytest.fixture(scope="package", autouse=True)
def _sim() -> Iterator[None]:
    """Installs it. Networks of later tests in this process change in place again when they move."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    sim.install()
    yield
    torch.__future__.set_overwrite_module_params_on_conversion(before)
