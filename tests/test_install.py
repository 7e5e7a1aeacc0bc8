"""The package as a wheel: configs, sweeps and the analysis travel with it, and it runs from any folder."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from simclr_ablate import __version__

ROOT = Path(__file__).parent.parent


def run(installed: Path, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "200"}
    # -P: not the current folder first, so that nothing of the checkout is taken by chance.
    command = [sys.executable, "-P", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_a_sweep_is_planned_from_any_folder(installed: Path, tmp_path: Path) -> None:
    where = "import simclr_ablate; print(simclr_ablate.__file__)"
    assert run(installed, tmp_path, "-c", where).startswith(str(installed))
    shown = run(
        installed,
        tmp_path,
        *("-m", "simclr_ablate", "-m", "sweep=augmentation_grid", "dry_run=true"),
    )
    assert "augmentation_grid: 50 experiments, 0 already finished, 50 to run" in shown
    assert "figure5" in run(installed, tmp_path, "-m", "simclr_ablate.analysis", "--help")
    assert not list(tmp_path.iterdir()), "planning leaves nothing behind"


def test_users_own_module_and_folder_called_analysis_are_theirs(
    installed: Path, tmp_path: Path
) -> None:
    """The wheel has one name at the top, and nothing in it imports `analysis`."""
    tops = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"simclr_ablate"}
    for own in (tmp_path / "analysis.py", tmp_path / "analysis" / "__init__.py"):
        own.parent.mkdir(exist_ok=True)
        own.write_text("raise SystemExit('this is the analysis of a user')\n")
    shown = subprocess.run(
        [sys.executable, "-m", "simclr_ablate.analysis", "table2", "figure2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert "reports/table2" in shown.stdout
    with pytest.raises(subprocess.CalledProcessError) as theirs:
        run(tmp_path, tmp_path, "-m", "analysis")
    assert "this is the analysis of a user" in theirs.value.stderr


def test_the_version_is_the_same_everywhere_and_types_are_declared(installed: Path) -> None:
    (metadata,) = installed.glob("*.dist-info/METADATA")
    assert f"\nVersion: {__version__}\n" in metadata.read_text()
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert (installed / "simclr_ablate" / "py.typed").is_file()


def test_uv_lock_is_of_these_requirements() -> None:
    """As `uv lock --check` says, without a network."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    (ours,) = (package for package in locked if package["name"] == project["name"])
    known = {
        (each["name"], each.get("marker", ""), each.get("specifier", ""))
        for each in ours["metadata"]["requires-dist"]
    }
    extras = project["optional-dependencies"]
    assert set(ours["metadata"]["provides-extras"]) == set(extras)
    for extra, requirements in {"": project["dependencies"], **extras}.items():
        marker = f"extra == '{extra}'" if extra else ""
        for requirement in map(Requirement, requirements):
            name = canonicalize_name(requirement.name)
            if name != project["name"]:
                assert any(
                    (name, marker) == (one, when) and SpecifierSet(bounds) == requirement.specifier
                    for one, when, bounds in known
                ), requirement


def test_the_page_has_its_template_style_and_script(installed: Path) -> None:
    for path in (ROOT / "analysis" / "web").iterdir():
        there = installed / "simclr_ablate" / "analysis" / "web" / path.name
        assert there.read_bytes() == path.read_bytes()
