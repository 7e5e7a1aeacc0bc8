"""Folders that users name."""

from pathlib import Path

import pytest

from simclr_ablate.config import ConfigError
from simclr_ablate.launch.command import Command
from simclr_ablate.paths import absolute, expanded
from simclr_ablate.plan.grid import resolve
from simclr_ablate.store import Store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


@pytest.mark.parametrize("name", ["runs", "two words", "100%", "%j", "a,b=c", "[x]", "$HOME"])
def test_only_the_home_stands_for_another(home: Path, name: str) -> None:
    assert expanded(f"~/{name}", "store") == home / name
    assert absolute(f"~/{name}", "store") == str(home / name)
    assert expanded(name, "store") == Path(name)
    assert absolute(name, "store") == str(home.parent / "here" / name)
    assert Store(f"~/{name}").root == home / name


@pytest.mark.parametrize("path", ["", "a\0b", 3, None, "~nobody-of-that-name/x"])
def test_what_is_no_folder_is_refused(path: object) -> None:
    with pytest.raises(ConfigError, match="cache must be a folder, got"):
        expanded(path, "cache")  # type: ignore[arg-type]


def test_a_command_treats_its_folders_alike(home: Path, compose_config) -> None:
    config = resolve(compose_config(["store='~/my runs'", "cache='~/my cache'"]))
    command = Command.from_config(config)
    assert command.store.root == home / "my runs"
    assert command.cache == str(home / "my cache")
