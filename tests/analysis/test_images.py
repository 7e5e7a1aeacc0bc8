"""The images of pictures: which data sets are shown, from where, and how often they are opened."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import analysis
from analysis.__main__ import main
from analysis.artefacts import ARTEFACTS
from analysis.images import Source, sources
from analysis.report import LeftOut

FIGURE3 = ARTEFACTS["figure3"]


@pytest.fixture
def folder(tmp_path):
    """A folder of images, and its pixels."""
    rng, pixels = np.random.default_rng(), []
    for split in ("train", "test"):
        place = tmp_path / "images" / split / "a"
        place.mkdir(parents=True)
        for number in range(6):
            image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(image).save(place / f"{number}.png")
            if split == "test":
                pixels.append(image.transpose(2, 0, 1).tolist())
    return tmp_path / "images", pixels


def of_folder(make, root, **changes):
    data = {"data.name": "image_folder", "data.root": str(root), "data.size": 16}
    return make.experiment(**data, **{"data.validation": 2, "data.label": "mine"}, **changes)


def test_images_are_those_of_the_test_split(folder, tmp_path, make):
    root, pixels = folder
    make.put(tmp_path / "runs", of_folder(make, root), 50.0)
    (source,) = sources(FIGURE3, analysis.load(tmp_path / "runs"))
    found = source.images(6).tolist()
    assert sorted(found) == sorted(pixels)
    assert source.images(2).tolist() == found[:2]
    assert source.images(100).tolist() == found


def test_each_data_set_is_shown_once(folder, tmp_path, make):
    root, _ = folder
    store = tmp_path / "runs"
    for label in ("x", "y", None):
        for limit in (None, 500):
            make.put(store, make.experiment(**{"data.label": label, "data.limit": limit}), 50.0)
    for seed in range(3):
        make.put(store, of_folder(make, root, **{"data.seed": seed, "views.strength": 0.1}), 50.0)
    found = sources(FIGURE3, analysis.load(store))
    assert [(each.name, each.size, each.seed) for each in found] == [
        ("figure3-mine", 16, 0),
        ("figure3-x", 32, 0),
    ]


def test_without_runs_the_embedded_images_are_shown():
    assert sources(FIGURE3, pd.DataFrame()) == []
    (report,) = FIGURE3.reports(pd.DataFrame())
    assert report.title == "Figure 3 on shapes"
    assert report.setting is None


def test_nothing_is_downloaded_for_a_picture(tmp_path, make):
    make.put(tmp_path / "runs", make.experiment(**{"data.name": "cifar10"}), 50.0)
    left_out, report = FIGURE3.reports(analysis.load(tmp_path / "runs"))
    assert isinstance(left_out, LeftOut)
    assert left_out.setting == "cifar10"
    assert left_out.reason.startswith("the images of cifar10 are not at hand: ")
    assert report.title == "Figure 3 on shapes"


def test_images_that_are_gone_are_told(folder, tmp_path, make):
    root, _ = folder
    make.put(tmp_path / "runs", of_folder(make, root), 50.0)
    root.rename(tmp_path / "elsewhere")
    left_out, report = FIGURE3.reports(analysis.load(tmp_path / "runs"))
    assert str(root) in left_out.reason
    assert report.title == "Figure 3 on shapes"


def test_of_several_copies_of_a_folder_one_that_is_there_is_opened(folder, tmp_path, make):
    root, pixels = folder
    stores = {tmp_path / "a": tmp_path / "gone", tmp_path / "b": root}
    for store, place in stores.items():
        make.put(store, of_folder(make, place), 50.0)
    runs = pd.concat(map(analysis.load, stores)).assign(**{"data.fingerprint": "f"})
    for order in (runs, runs[::-1]):
        (source,) = sources(FIGURE3, order)
        assert sorted(source.images(6).tolist()) == sorted(pixels)


def test_what_is_made_of_images_is_made_once(folder, tmp_path, make, monkeypatch):
    root, _ = folder
    make.put(tmp_path / "runs", of_folder(make, root), 50.0)
    runs = analysis.load(tmp_path / "runs")
    # The fingerprint, which a launch sets, tells other images from these.
    first, other = (runs.assign(**{"data.fingerprint": f"{root}{end}"}) for end in "ab")
    (report,) = FIGURE3.reports(first)
    opened = []
    monkeypatch.setattr(Source, "images", lambda source, most: opened.append(most) or 1 / 0)
    (again,) = FIGURE3.reports(first)
    assert report.data.equals(again.data)
    assert not opened
    with pytest.raises(ZeroDivisionError):
        FIGURE3.reports(other)


@pytest.mark.parametrize("name", ["figure3", "figure4", "figure6"])
def test_a_picture_by_itself_shows_the_stores_images_too(folder, tmp_path, make, capsys, name):
    root, _ = folder
    store, out = tmp_path / "the runs", tmp_path / "out"
    make.put(store, of_folder(make, root), 50.0)
    assert main([name, f"store={store}", f"out={out}"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert all(line.startswith("decoding images") for line in said)
    text = (out / f"{name}-mine.md").read_text()
    assert f"Made by `simclr-ablate analyse 'store={store}'`." in text


def test_a_picture_needs_no_store(tmp_path, capsys):
    out = tmp_path / "out"
    for store in (tmp_path / "nowhere", tmp_path):
        assert main(["figure3", f"store={store}", f"out={out}"]) == 0
        assert capsys.readouterr().err == ""
    assert len(list(out.iterdir())) == 5
