"""Programs that some tests need, which a machine may lack."""

import os

import pytest


def require(found: object, what: str) -> None:
    """Where `what` is not `found`, skips the test; with CI=true, fails it: there, nothing goes untested in silence."""
    if found:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs {what}; with CI=true, no test is skipped for want of it", pytrace=False)
    pytest.skip(f"needs {what}")
