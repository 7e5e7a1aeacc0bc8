"""Figure B.4 from a run with weights: its pictures, what is measured, and which run is chosen."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import KNeighborsClassifier

import analysis
from analysis import separation
from analysis.artefacts import ARTEFACTS, figureb4
from analysis.report import LeftOut, write

NAMES = [f"class{number:02}" for number in range(12)]


@pytest.fixture
def images(tmp_path):
    """A folder of twelve classes, each of its own colour, more or less."""
    rng = np.random.default_rng()
    for split, count in (("train", 4), ("test", 6)):
        for label, name in enumerate(NAMES):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 150, (16, 16, 3)) + 8 * np.array([label, 6, 12 - label])
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "images"


def put(store, make, images, top1=50.0, **changes):
    data = {"data.name": "image_folder", "data.root": str(images), "data.label": "dots"}
    data |= {"data.size": 16, "data.validation": 12}
    experiment = make.experiment(**(data | changes))
    run = make.put(store, experiment, top1)
    return run, *make.keep_weights(run, experiment)


def test_what_is_measured_is_of_h_and_z_of_the_test_images(tmp_path, make, images):
    _, encoder, head = put(tmp_path / "runs", make, images)
    (report,) = ARTEFACTS["figureB4"].reports(analysis.load(tmp_path / "runs"))
    of_h = report.data[report.data["representation"] == "h"]
    shown = sorted(set(of_h["class"]))
    assert len(shown) == 10
    assert len(of_h) == 60
    assert (set(report.data["seed"]), report.intervals) == ({0}, "test images")
    files = [path for name in shown for path in sorted((images / "test" / name).iterdir())]
    labels = np.repeat(np.arange(10), 6)
    pixels = np.stack([np.asarray(Image.open(path)) for path in files])
    with torch.no_grad():
        h = encoder.eval()(torch.tensor(pixels).permute(0, 3, 1, 2) / 255)
        z = head.eval()(h)
    for name, x, row in zip("hz", (h.double().numpy(), z.double().numpy()), (0, 1), strict=True):
        right = report.data.loc[report.data["representation"] == name, "neighbours_agree"]
        assert right.mean() == pytest.approx(leave_one_out(x, labels).mean(), abs=0.04)
        silhouette = silhouette_samples(x, labels, metric="cosine").mean()
        assert float(report.tables[0].rows[row][2]) == pytest.approx(silhouette, abs=2e-3)
    assert report.name == "figureb4-dots"
    assert "60 test images of 10 classes" in report.caption
    assert len(write(report, tmp_path / "out")) == 5


def leave_one_out(x, labels):
    others = ~np.eye(len(x), dtype=bool)
    classifiers = (
        KNeighborsClassifier(separation.NEIGHBOURS, metric="cosine").fit(x[rest], labels[rest])
        for rest in others
    )
    predicted = [c.predict(row[None])[0] for c, row in zip(classifiers, x, strict=True)]
    return np.array(predicted) == labels


@pytest.mark.parametrize("count", [8, 120])
def test_neighbours_are_scikit_learns(count):
    rng = np.random.default_rng()
    labels = rng.integers(0, 3, count)
    x = rng.normal(size=(count, 5)) + 1.5 * np.eye(5)[labels]
    if count > separation.NEIGHBOURS:
        assert (separation.neighbours_agree(x, labels) == leave_one_out(x, labels)).all()
    else:
        # All others are neighbours.
        counts = np.bincount(labels, minlength=3) - np.eye(3, dtype=int)[labels]
        assert (separation.neighbours_agree(x, labels) == (counts.argmax(1) == labels)).all()


def test_a_map_keeps_well_parted_classes_apart(tmp_path, make, images, monkeypatch):
    rng = np.random.default_rng()
    labels = np.repeat(np.arange(3), 30)
    apart = 20 * np.eye(6)[labels] + rng.normal(size=(90, 6))
    mixed = rng.normal(size=(90, 6))
    embedded = ({"h": apart, "z": mixed}, labels, ["a", "b", "c"])
    monkeypatch.setattr(separation, "embed", lambda run: embedded)
    put(tmp_path / "runs", make, images)
    (report,) = ARTEFACTS["figureB4"].reports(analysis.load(tmp_path / "runs"))
    maps = {name: rows[["x", "y"]] for name, rows in report.data.groupby("representation")}
    agree = {
        n: separation.neighbours_agree((m - m.mean()).to_numpy(), labels) for n, m in maps.items()
    }
    assert agree["h"].mean() == 1
    assert agree["z"].mean() < 0.7
    assert "100.0% in h" in report.caption
    assert "classes are better separated in h" in report.caption
    assert "t-SNE’s maps of h and of z" in report.alt
    assert "90 test images of 3 classes" in report.alt
    assert "kNN: 100.0% in h" in report.alt
    assert report.alt.endswith("classes are better separated in h.")


def test_the_lead_is_paired_over_images():
    rng = np.random.default_rng()
    h, z = rng.random((2, 400)) < [[0.6], [0.5]]
    mean, half = figureb4.lead({"right_h": h, "right_z": z})
    # McNemar's counts: images that one has right and the other has not.
    gained, lost = (h & ~z).sum(), (z & ~h).sum()
    assert mean == pytest.approx(100 * (gained - lost) / 400)
    variance = ((gained + lost) - (gained - lost) ** 2 / 400) / 399
    assert half == pytest.approx(196 * np.sqrt(variance / 400))


def test_no_lead_within_the_margin_is_undecided(tmp_path, make, images, monkeypatch):
    labels = np.repeat(np.arange(2), 20)
    x = np.random.default_rng().normal(size=(40, 4))
    monkeypatch.setattr(separation, "embed", lambda run: ({"h": x, "z": x}, labels, ["a", "b"]))
    put(tmp_path / "runs", make, images)
    (report,) = ARTEFACTS["figureB4"].reports(analysis.load(tmp_path / "runs"))
    assert "h - z: 0.0 ± 0.0 points (95%): undecided" in report.caption


def test_classes_and_images_are_chosen_by_the_seed():
    labels = np.random.default_rng().integers(0, 30, 9000)
    shown, rows = separation.choose(labels, 3)
    assert len(shown) == 10
    assert np.bincount(labels[rows])[shown].tolist() == [100] * 10
    assert set(labels[rows]) == set(shown)
    again = separation.choose(labels, 3)
    assert (rows == again[1]).all()
    assert set(separation.choose(labels, 4)[0]) != set(shown)


def test_the_setting_with_the_most_seeds_and_then_the_best_is_shown(tmp_path, make, images):
    runs = [(0.1, (0, 1), 60.0), (0.2, (2, 3, 4), 50.0), (0.5, (2, 3, 4), 55.0), (1.0, (0,), 90.0)]
    for temperature, seeds, top1 in runs:
        for seed in seeds:
            changes = {"seed": seed, "loss.temperature": temperature}
            put(tmp_path, make, images, top1, **changes)
    # Without weights, and with other heads and views.
    for seed in range(4):
        make.put(tmp_path, make.experiment(seed=seed, **{"data.label": "dots"}), 99.0)
        put(tmp_path, make, images, 99.0, **{"seed": seed, "head.kind": "linear"})
        put(tmp_path, make, images, 99.0, **{"seed": seed, "views.extra": "noise"})
    put(tmp_path, make, images, 30.0, **{"data.label": "other"})
    dots, other = figureb4.chosen(ARTEFACTS["figureB4"], analysis.load(tmp_path))
    assert (dots.name, other.name) == ("figureb4-dots", "figureb4-other")
    assert dots.config["loss.temperature"] == 0.5
    assert dots.runs["seed"].tolist() == [2]


def left_out(store):
    """Why there is no picture."""
    (found,) = ARTEFACTS["figureB4"].reports(analysis.load(store))
    assert isinstance(found, LeftOut)
    return found.reason


def test_images_that_are_gone_leave_it_out_and_say_so(tmp_path, make, images):
    run, *_ = put(tmp_path / "runs", make, images)
    images.rename(tmp_path / "elsewhere")
    assert run.run_id in left_out(tmp_path / "runs")
    assert str(images) in left_out(tmp_path / "runs")


def test_images_and_weights_that_are_not_the_runs_are_told(tmp_path, make, images):
    run, *_ = put(tmp_path / "runs", make, images, **{"data.fingerprint": "another"})
    assert "have changed since" in left_out(tmp_path / "runs")
    whole = run.encoder_path.read_bytes()
    for broken in (b"", b"no weights", whole[: len(whole) // 2]):
        other, *_ = put(tmp_path / "other", make, images)
        other.encoder_path.write_bytes(broken)
        assert str(other.encoder_path) in left_out(tmp_path / "other")


@pytest.mark.parametrize(("classes", "each"), [(2, 2), (2, 6), (3, 2), (11, 1)])
def test_few_images_have_a_map_with_fewer_neighbours(tmp_path, make, classes, each):
    rng = np.random.default_rng()
    for label in range(classes):
        for split, count in (("train", 4), ("test", each + (label == 0))):
            folder = tmp_path / "images" / split / str(label)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    put(tmp_path / "runs", make, tmp_path / "images", **{"data.validation": 4, "head.dim": 1})
    (report,) = ARTEFACTS["figureB4"].reports(analysis.load(tmp_path / "runs"))
    shown = len(report.data) // 2
    assert report.data[["x", "y"]].notna().all(axis=None)
    assert f"perplexity {min(30, (shown - 1) / 3):.3g}" in report.notes[0]
    assert f"their {min(10, shown - 1)} nearest other images" in report.notes[1]


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ([0] * 9, "9 images of 1 class"),
        ([0, 1, 2, 3, 4], "5 images of 5 classes"),
        ([0, 0, 1], "3 images of 2 classes"),
        ([0], "1 image of 1 class"),
    ],
)
def test_too_little_for_a_map_is_said(tmp_path, make, images, monkeypatch, labels, shown):
    x = np.random.default_rng().normal(size=(len(labels), 4))
    embedded = {"h": x, "z": x}, np.array(labels), list("abcde")
    monkeypatch.setattr(separation, "embed", lambda run: embedded)
    put(tmp_path / "runs", make, images)
    assert f"the test split has {shown}" in left_out(tmp_path / "runs")


def test_features_that_are_no_numbers_leave_it_out(tmp_path, make, images):
    run, encoder, head = put(tmp_path / "runs", make, images)
    for weights in head.parameters():
        torch.nn.init.constant_(weights, np.nan)
    content = {"encoder": encoder.state_dict(), "head": head.state_dict()}
    torch.save(content, run.encoder_path)
    assert "z must be finite" in left_out(tmp_path / "runs")


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_features_that_are_all_alike_have_a_map(value):
    x, labels = np.full((12, 3), value), np.arange(12) % 2
    assert np.isfinite(separation.flat_map(x)).all()
    assert separation.neighbours_agree(x, labels).shape == (12,)


def test_data_sets_of_one_label_have_a_picture_each(tmp_path, make, images):
    for fingerprint, top1 in (("one", 50.0), ("two", 60.0)):
        put(tmp_path, make, images, top1, **{"data.fingerprint": fingerprint})
    chosen = figureb4.chosen(ARTEFACTS["figureB4"], analysis.load(tmp_path))
    assert {setting.config["data.fingerprint"] for setting in chosen} == {"one", "two"}
    assert len({setting.name for setting in chosen}) == 2
