"""The documentation site: it builds without a network, all links lead somewhere, and it has every key and artefact."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.artefacts import ARTEFACTS
from simclr_ablate.config import keys
from simclr_ablate.plan.keys import CommandKeys, launcher_keys
from simclr_ablate.schema import Experiment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_key_and_artefact_is_there(site: Path) -> None:
    page = (site / "keys.html").read_text()
    for info in (*keys(Experiment), *keys(CommandKeys), *launcher_keys()):
        assert f"<code>{info.name}</code>" in page, info.name
    page = (site / "artefacts.html").read_text()
    for artefact in ARTEFACTS.values():
        assert f"{artefact.label}: " in page
        if artefact.sweep is None:
            assert f'src="artefacts/{artefact.name.lower()}' in page, "it needs no runs"


def test_nothing_is_fetched(site: Path) -> None:
    """Scripts, styles, fonts and pictures are files of the site."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for path in pages:
        for tag in re.findall(r"<(?:script|img|link)\b[^>]*>", path.read_text()):
            fetched = re.search(r"""(?:src|href)=["']?(?:https?:)?//""", tag)
            assert fetched is None or "canonical" in tag, f"{path.name}: {tag}"
