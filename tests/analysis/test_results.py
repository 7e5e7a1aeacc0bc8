"""docs/results is what its packs give: every file beside a pack is made again from it, and compared."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import analysis
from analysis.__main__ import main
from analysis.artefacts import ARTEFACTS, figure5
from simclr_ablate.store.__main__ import main as store_main

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
PACKS = sorted(REPOSITORY.glob("docs/results/*/*.zip"))
MOST_BYTES = 5_000_000
"""How large a pack in the repository may be."""
ALIKE = 2.0
"""How much pictures may differ in the mean, of 255, where another version of matplotlib or FreeType draws the letters.
Where the same version draws them, they are equal byte for byte."""


def differences(pack: Path, out: Path) -> list[str]:
    """The files beside the pack that the analysis of it does not give. out: a folder to write to."""
    assert main([f"store={os.path.relpath(pack)}", f"out={out}"]) == 0
    return [
        path.name
        for path in sorted(pack.parent.iterdir())
        if path != pack and path.name != "README.md" and not is_same(path, out / path.name)
    ]


def is_same(committed: Path, made: Path) -> bool:
    if not made.exists():
        return False
    if committed.read_bytes() == made.read_bytes():
        return True
    if committed.suffix != ".png":
        return False
    one, other = (np.asarray(Image.open(path).convert("RGB"), float) for path in (committed, made))
    return one.shape == other.shape and float(np.abs(one - other).mean()) < ALIKE


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: pack.parent.name)
def test_what_is_beside_a_pack_comes_from_it(pack, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert pack.stat().st_size < MOST_BYTES
    assert differences(pack, tmp_path / "out") == []


def test_the_grid_beside_that_of_the_embedded_images_is_the_packs() -> None:
    measured = json.loads(figure5.MEASURED.read_text(encoding="utf-8"))
    runs = analysis.load(REPOSITORY / measured["pack"])
    (grid,) = ARTEFACTS["figure5"].comparisons(runs)
    (part,) = grid.parts
    assert {
        (figure5.NAMES[first], figure5.NAMES[second]): top1
        for first, of_row in measured["top1"].items()
        for second, top1 in of_row.items()
    } == {place: round(cell.estimate().mean, 2) for place, cell in part.cells.items()}
    assert {len(cell.values) for cell in part.cells.values()} == {measured["seeds"]}


def test_what_does_not_come_from_its_pack_is_found(tmp_path, make, monkeypatch) -> None:
    for second in ("color", "crop"):
        make.put(tmp_path / "runs", make.pair("crop", second), 50.0)
    results = tmp_path / "results"
    results.mkdir()
    pack = results / "runs.zip"
    assert store_main(["pack", f"store={tmp_path / 'runs'}", f"to={pack}"]) == 0
    monkeypatch.chdir(results)
    assert main(["store=runs.zip", f"out={results}"]) == 0
    (results / "README.md").write_text("words")
    assert differences(pack, tmp_path / "same") == []
    for name in ("table4-shapes.md", "figure5-shapes.csv"):
        (results / name).write_text("nothing of the sort")
    text = (results / "claims.md").read_text()
    (results / "claims.md").write_text(re.sub("undecided", "confirmed", text, count=1))
    picture = Image.open(results / "figure5-shapes.png").convert("RGB")
    picture.rotate(180).save(results / "figure5-shapes.png")
    assert differences(pack, tmp_path / "other") == [
        "claims.md",
        "figure5-shapes.csv",
        "figure5-shapes.png",
        "table4-shapes.md",
    ]
