"""`simclr-ablate analyse` and `analysis.load` on a pack: what they say of its store, without its weights and images."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import analysis
from analysis.__main__ import main
from analysis.artefacts import ARTEFACTS, figureb4
from analysis.report import LeftOut
from analysis.weights import kept
from simclr_ablate.store import Run, Store, derived
from simclr_ablate.store.__main__ import main as store_main

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
OF_WEIGHTS = ["figureB3", "figureB4", "table6"]
OTHERS = ["figure1", "figure5"]
OWN = {
    "objective": "imported",
    "views.policy": "none",
    "evaluation.protocol": "linear_sgd",
    "encoder.architecture": "mine:network",
    "encoder.weights": "/somewhere",
    "encoder.fingerprint": "f" * 16,
    "encoder.label": "theirs",
}
SQUARE = {"head.kind": "linear", "head.dim": 128}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder, with a cache and a place for temporary files of its own."""
    # In this process: the fork server's have the session's cache.
    monkeypatch.setattr("analysis.processes.available_cores", lambda: 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIMCLR_ABLATE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return tmp_path


@pytest.fixture
def store(folder, make) -> Path:
    """`runs`: of Figures 1, 5, B.3 and B.4 and Table 6, with the weights that these need; and the images of B.4."""
    for number, label in enumerate(["a", "b"] * 12):
        of_class = folder / "images" / ("train" if number < 8 else "test") / label
        of_class.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(of_class / f"{number}.png")
    runs, grid = folder / "runs", []
    for seed in (0, 1):
        for second in ("color", "crop"):
            grid.append(make.put(runs, make.pair("crop", second, seed=seed), 50.0 + seed).run_id)
        make.put(runs, make.random_encoder(seed=seed), 20.0 + seed)
        experiment = make.experiment(**SQUARE, seed=seed)
        make.keep_weights(make.put(runs, experiment, 40.0 + seed), experiment, seed)
    put_dots(runs, make, seed=0)
    numbers = {"top1": 70.0, "top5": 90.0, "validation_top1": 70.0}
    theirs = make.put(runs, make.experiment(**OWN), metrics=numbers)
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5))
    torch.save({"encoder": layer.state_dict()}, theirs.encoder_path)
    Store(runs).record_sweep("augmentation_grid", grid, ["sweep=augmentation_grid", "seed=0,1"])
    return Path("runs")


def put_dots(runs: Path, make, **changes) -> Run:
    data = {"data.name": "image_folder", "data.root": str(Path("images").resolve())}
    data |= {"data.label": "dots", "data.size": 16, "data.validation": 2}
    experiment = make.experiment(**data, **changes)
    run = make.put(runs, experiment, 50.0)
    make.keep_weights(run, experiment)
    return run


def pack(store: Path, to: str, *words: str) -> Path:
    assert store_main(["pack", f"store={store}", f"to={to}", *words]) == 0
    return Path(to)


def without(content: bytes, words: list[bytes]) -> bytes:
    """A file without these words, and without what makes the columns of a Markdown table equally wide."""
    for word in words:
        content = content.replace(word, b"")
    return re.sub(rb" +\|| -+:? ", b"|", content) if content.startswith(b"# ") else content


def written(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_the_reports_of_a_pack_are_those_of_its_store(site, tmp_path, monkeypatch, capsys) -> None:
    """All artefacts, the scorecard and the page, but for the store's name in commands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    runs = site.with_name("runs")
    pack(runs, "study.zip")
    capsys.readouterr()
    assert main(["store=study.zip", "out=of_pack"]) == 0
    assert capsys.readouterr().err == ""
    expected, found = written(site), written(Path("of_pack"))
    assert found.keys() == expected.keys()
    of_store = [f" store={runs}".encode()]
    for name, content in found.items():
        same = without(content, [b" store=study.zip"]) == without(expected[name], of_store)
        assert same, name
    assert b"simclr-ablate analyse store=study.zip" in found["figure5-shapes.md"]
    assert list((tmp_path / "temporary").iterdir()) == []


def test_neither_weights_nor_images_nor_torch_are_needed(store, folder, monkeypatch) -> None:
    names = [*OF_WEIGHTS, *OTHERS]
    assert main([*names, f"store={store}", "out=of_store"]) == 0
    pack(store, "study.zip")
    shutil.rmtree(store)
    shutil.rmtree("images")
    monkeypatch.setenv("SIMCLR_ABLATE_CACHE", str(folder / "another cache"))
    arguments = [*names, "store=study.zip", "out=of_pack"]
    code = f"""
import json, sys, analysis.__main__
from analysis import processes
processes.available_cores = lambda: 1
status = analysis.__main__.main({arguments!r})
print(json.dumps([status, "torch" in sys.modules]))
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stderr, json.loads(done.stdout.splitlines()[-1])) == ("", [0, False])
    expected, found = written(Path("of_store")), written(Path("of_pack"))
    assert found.keys() == expected.keys()
    pictures = [name for name in found if name.endswith((".png", ".pdf", ".csv", ".tex"))]
    assert [name for name in pictures if found[name] != expected[name]] == []
    assert {name.partition("-")[0] for name in pictures} >= {"figureb3", "figureb4", "table6"}


def test_the_scorecard_of_a_pack_is_that_of_its_store(store, capsys) -> None:
    assert main(["claims", f"store={store}"]) == 0
    expected = capsys.readouterr().out
    pack(store, "study.zip")
    capsys.readouterr()
    assert main(["claims", "store=study.zip"]) == 0
    assert capsys.readouterr().out == expected


def test_a_notebook_loads_a_pack(store, folder) -> None:
    expected = analysis.load(store)
    pack(store, "study.zip")
    found = analysis.load("study.zip")
    assert found.drop(columns="path").equals(expected.drop(columns="path"))
    assert list(found["path"]) == [f"study.zip/{run_id}" for run_id in found["run_id"]]
    assert list((folder / "temporary").iterdir()) == []


def test_what_was_never_computed_from_weights_does_not_travel(store, capsys) -> None:
    made = pack(store, "study.zip")
    assert (
        "without what needs weights (Figures B.3 and B.4, sizes in Table 6)"
        in capsys.readouterr().err
    )
    assert main(["figureB3", f"store={made}", "out=out"]) == 1
    assert main(["table6", f"store={made}", "out=out"]) == 0
    lines = Path("out/table6-shapes.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith("| theirs")]
    assert "–" in row


def test_results_of_weights_travel_on_without_them(store, folder) -> None:
    """From machine to machine, none of which has the weights, nor a cache."""
    assert main(["figureB3", "figureB4", f"store={store}", "out=out"]) == 0
    first = pack(store, "first.zip")
    shutil.rmtree("cache")
    assert store_main(["unpack", "first.zip", "store=second"]) == 0
    assert pack(Path("second"), "second.zip").read_bytes() == first.read_bytes()
    # Where weights are, they count.
    assert store_main(["unpack", "first.zip", f"store={store}"]) == 0
    run = next(run for run in Store(store).runs() if list(run.path.glob("derived/eigenvalues.npz")))
    arrays = kept(run, "eigenvalues", lambda run: {"squares": np.ones(3)})
    assert arrays.keys() == {"squares"}
    assert (arrays["squares"] == 1).all()
    run.encoder_path.unlink()
    assert (
        len(kept(run, "eigenvalues", lambda run: pytest.fail("without weights"))["squares"]) == 128
    )


def test_results_of_weights_that_are_damaged_or_anothers_leave_the_run_out(store, caplog) -> None:
    assert main(["figureB3", f"store={store}", "out=out"]) == 0
    pack(store, "study.zip")
    assert store_main(["unpack", "study.zip", "store=there"]) == 0
    one, other = sorted(Path("there").glob("*/derived/eigenvalues.npz"))
    whole = one.read_bytes()
    for content in (other.read_bytes(), whole[:100], b""):
        one.write_bytes(content)
        (found,) = ARTEFACTS["figureB3"].reports(analysis.load("there"))
        assert isinstance(found, LeftOut)
        assert f"{one} is damaged: " in found.reason
        # A pack leaves them out as well.
        again = pack(Path("there"), "again.zip")
        again.unlink()
        assert f"{one} cannot be read and counts as absent" in caplog.text


def test_the_run_that_the_store_shows_is_the_one_that_its_pack_shows(store, make) -> None:
    """Also where the cache has results of a run that was shown before there were others."""
    artefact = ARTEFACTS["figureB4"]
    assert len(artefact.reports(analysis.load(store))) == 1
    for seed in (3, 4):
        put_dots(Path("runs"), make, seed=seed, **{"loss.temperature": 0.5})
    artefact.reports(analysis.load(store))
    (expected,) = figureb4.chosen(artefact, analysis.load(store))
    assert expected.config["loss.temperature"] == 0.5
    pack(store, "study.zip")
    assert store_main(["unpack", "study.zip", "store=there"]) == 0
    assert len(list(Path("there").glob("*/derived/separation.npz"))) == 2
    (found,) = figureb4.chosen(artefact, analysis.load("there"))
    assert found.runs["run_id"].tolist() == expected.runs["run_id"].tolist()


def test_a_file_that_is_no_pack_is_told(folder, capsys) -> None:
    Path("cut.zip").write_bytes(b"PK\x03\x04 and no more")
    assert main(["store=cut.zip"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "error: cut.zip cannot be used as a pack: it is no zip archive, or is cut short"
    )
    Path("notes.txt").write_text("runs")
    assert main(["store=notes.txt"]) == 2
    assert "notes.txt is a file, not a folder" in capsys.readouterr().err
    assert not Path("reports").exists()


def test_the_cache_of_a_copy_is_that_of_the_original(store, make, folder) -> None:
    """The digest of weights tells what was computed from them, wherever they are."""
    run = next(run for run in Store(store).runs() if run.is_pretrained())
    weights = run.weights()
    run.write_encoder(weights, {})
    first = kept(run, "parameters", _count)
    shutil.copytree(store, "copy")
    copy = Store("copy").run(run.run_id)
    assert derived.of_weights(copy) == derived.of_weights(run)
    again = derived.Found().of(copy)
    assert list(again) == ["parameters"]
    assert derived.parsed(again["parameters"], run.run_id, "parameters") == first


def _count(run: Run) -> dict[str, np.ndarray]:
    return {"parameters": np.asarray(7)}
