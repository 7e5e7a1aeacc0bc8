"""What depends on the data is refused while a sweep is planned, whichever of its experiments it is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_ablate.config import ConfigError
from simclr_ablate.plan.plan import complete, make_plan, plan_completed
from simclr_ablate.store import Store


def photos(root: Path, *classes: str) -> str:
    """Twelve images of each class to train on, and two to test."""
    rng = np.random.default_rng()
    for split, count in (("train", 12), ("test", 2)):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return str(root)


@pytest.mark.parametrize(
    ("classes", "overrides", "message"),
    [
        ("ab", ["evaluation.knn=21"], "evaluation.knn must be <= 20, the training images with"),
        ("ab", ["evaluation.knn=9", "data.limit=8"], "evaluation.knn must be <= 8"),
        ("a", [], "must have at least two classes for a classifier, got 1"),
        ("a", ["objective=supervised", "evaluation.probe=color"], "at least two classes"),
        ("ab", ["optimizer.batch_size=21"], "optimizer.batch_size must be <= 20"),
        ("ab", ["data.limit=1"], "data.limit must be >= 2, one image of each class"),
        ("ab", ["data.validation=13"], "data.validation must be <= 12, half of each class's"),
    ],
)
def test_what_the_data_cannot_give_is_refused(
    tmp_path, make_experiment, classes, overrides, message
) -> None:
    root = f"data.root={photos(tmp_path, *classes)}"
    usual = ["data=image_folder", root, "data.size=8", "data.validation=4", "evaluation.knn=5"]
    fine = make_experiment(*usual, "optimizer.batch_size=8", "evaluation.probe=color")
    wrong = make_experiment(*usual, "optimizer.batch_size=8", *overrides)
    with pytest.raises(ConfigError, match=message):
        complete([fine, wrong], str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "overrides", [["data.version=1"], ["data@evaluation.data=shapes", "evaluation.data.version=1"]]
)
def test_images_that_are_no_longer_drawn_are_refused(tmp_path, make_experiment, overrides) -> None:
    earlier = make_experiment(*overrides)
    with pytest.raises(ConfigError, match="version must be 2 for data=shapes, got 1: earlier"):
        complete([earlier], str(tmp_path))


def test_what_needs_no_neighbours_has_no_bound_of_them(tmp_path, make_experiment) -> None:
    root = f"data.root={photos(tmp_path, 'a')}"
    usual = ["data=image_folder", root, "data.size=8", "data.validation=4", "evaluation.knn=500"]
    probe = make_experiment(*usual, "optimizer.batch_size=8", "evaluation.probe=color")
    assert len(complete([probe], str(tmp_path / "cache"))) == 1


def test_experiments_that_differ_in_what_does_not_count_are_one_and_it_is_said(
    tmp_path, make_experiment
) -> None:
    strengths = [make_experiment("views=crop", f"views.strength={s}") for s in (0.5, 1)]
    others = [make_experiment(f"views.strength={s}", f"compute.threads={s}") for s in (1, 2)]
    sweeps = dict(zip(strengths, [["one"], ["other", "one"]], strict=True))
    experiments = complete([*strengths, *others]).values()
    plan = plan_completed(experiments, Store(tmp_path), None, sweeps)
    assert len(plan.runs) == 3
    assert plan.runs[0].sweeps == ("one", "other")
    assert plan.summary().startswith("3 experiments, 0 already finished, 3 to run; ")
    assert "differ only in views.strength are the same" in plan.summary()
    again = [make_experiment(f"compute.threads={threads}") for threads in (1, 2)]
    same = plan_completed(complete(again).values(), Store(tmp_path), None)
    assert same.summary() == "1 experiment, 0 already finished, 1 to run"


def test_a_random_encoder_needs_no_batch(tmp_path, make_experiment) -> None:
    root = f"data.root={photos(tmp_path, *'ab')}"
    usual = ["data=image_folder", root, "data.size=8", "data.validation=4", "evaluation.knn=5"]
    assert len(complete([make_experiment(*usual, "objective=none")], str(tmp_path / "cache"))) == 1


def test_a_label_has_what_tells_its_run_from_others(tmp_path, make_experiment) -> None:
    given = [
        [f"loss.temperature={temperature}", f"evaluation.features={features}", f"seed={seed}"]
        for temperature in (0.1, 0.5)
        for features in ("h", "z")
        for seed in (0, 1)
    ]
    given += [["views=crop"], ["head=none", "seed=2"], ["head.dim=64", "seed=2"]]
    plan = make_plan([make_experiment(*each) for each in given], Store(tmp_path), None)
    assert [planned.label for planned in plan.runs] == [
        *(
            f"shapes-resnet8-simclr-s{seed} temperature={temperature} features={features}"
            for temperature in (0.1, 0.5)
            for features in ("h", "z")
            for seed in (0, 1)
        ),
        "shapes-resnet8-crop-s0",
        "shapes-resnet8-simclr-s2 head=none",
        "shapes-resnet8-simclr-s2 head=nonlinear dim=64",
    ]
