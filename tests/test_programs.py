"""Tests whose programs are missing: skipped on a user's machine, failed in CI."""

import pytest

from tests.programs import require


def test_what_is_found_is_no_matter() -> None:
    require("/usr/bin/program", "a program")


@pytest.mark.parametrize("value", [None, "", "false"])
def test_a_users_machine_may_lack_it(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("CI", raising=False)
    if value is not None:
        monkeypatch.setenv("CI", value)
    with pytest.raises(pytest.skip.Exception, match=r"^needs a program$"):
        require(None, "a program")


def test_ci_has_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="needs a program; with CI=true"):
        require("", "a program")
