"""Data sets to evaluate on that are not there: the others are not held up by them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simclr_ablate.config import ConfigError, MissingDataError
from simclr_ablate.data import sources
from simclr_ablate.plan.plan import complete, complete_present, plan_all
from simclr_ablate.store import Store
from simclr_ablate.tasks.choose import Candidate, Choose
from tests.commands import run
from tests.data import fake_sets


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with images of two classes, and no Stanford Cars, which nobody can download."""
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / "root" / split / label).mkdir(parents=True)
            for n in range(12):
                pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "root" / split / label / f"{n}.png")
    return tmp_path / "root"


def of_sets(make_experiment: Any, root: Path, *names: str) -> list[Any]:
    return [
        make_experiment(
            f"data@evaluation.data={name}", f"evaluation.data.root={root}", "evaluation.knn=5"
        )
        for name in names
    ]


def test_only_what_is_missing_is_passed_over(make_experiment, tmp_path: Path, monkeypatch) -> None:
    fake_sets.write("dtd", tmp_path, monkeypatch)
    fake_sets.write("flowers102", tmp_path, monkeypatch)
    lost = sources.read_whole("flowers102", tmp_path).splits["test"].names[0]
    (tmp_path / lost).unlink()
    given = of_sets(make_experiment, tmp_path, "stanford_cars", "dtd", "flowers102")
    cache = str(tmp_path / "cache")
    completed, absent = complete_present(given, cache)
    assert list(completed) == given[1:2]
    assert [str(error)[:19] for error in absent.values()] == [
        "data=stanford_cars ",
        "data=flowers102 mus",
    ]
    plan = plan_all(None, Store(tmp_path / "runs"), given, {}, [], cache)
    assert [planned.experiment.evaluation.data.name for planned in plan.runs] == ["dtd"]
    assert list(plan.missing.values()) == [1, 1]
    assert [line.startswith("MISSING data=") for line in plan.passed_over()] == [True, True]
    with pytest.raises(MissingDataError, match="data=stanford_cars was not found"):
        complete(given, cache)
    with pytest.raises(MissingDataError, match="data=flowers102 must have"):
        plan_all(None, Store(tmp_path / "runs"), given[2:], {}, [], cache)


def test_missing_images_to_pretrain_on_are_refused(make_experiment, tmp_path: Path) -> None:
    fine = make_experiment()
    other = make_experiment("data=stanford_cars", f"data.root={tmp_path}")
    with pytest.raises(MissingDataError, match="data=stanford_cars was not found"):
        complete_present([fine, other], str(tmp_path / "cache"))


def test_other_mistakes_are_refused(make_experiment, tmp_path: Path, monkeypatch) -> None:
    fake_sets.write("dtd", tmp_path, monkeypatch)
    given = of_sets(make_experiment, tmp_path, "dtd", "stanford_cars")
    given.append(
        make_experiment(
            "data@evaluation.data=dtd", f"evaluation.data.root={tmp_path}", "evaluation.knn=4000"
        )
    )
    with pytest.raises(ConfigError, match=r"evaluation\.knn must be <= 40") as caught:
        complete_present(given, str(tmp_path / "cache"))
    assert not isinstance(caught.value, MissingDataError)


def test_candidates_on_missing_data_do_not_compete(
    make_experiment, tmp_path: Path, monkeypatch
) -> None:
    fake_sets.write("dtd", tmp_path, monkeypatch)
    given = of_sets(make_experiment, tmp_path, "dtd", "stanford_cars")
    reported = [make_experiment("seed=3"), make_experiment("seed=4")]
    both = tuple(Candidate(one, (other,)) for one, other in zip(given, reported, strict=True))
    chooses = [Choose("s", ("seed",), "validation_top1", c) for c in (both, both[1:])]
    plan = plan_all("s", Store(tmp_path / "runs"), given, {}, chooses, str(tmp_path / "cache"))
    (choose,) = plan.pending
    assert [each.evaluation.data.name for each in choose.tried] == ["dtd"]


@pytest.mark.slow
def test_a_command_goes_on_and_says_so_at_the_end(
    root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    sets = (
        *("-m", "evaluation.data=stanford_cars,image_folder", f"evaluation.data.root={root}"),
        *("evaluation.data.validation=4", "optimizer.epochs=1"),
    )
    status, told = run(environment, tmp_path / "runs", *sets)
    assert status == 1
    assert told.count("MISSING data=stanford_cars was not found") == 2
    assert "1 experiment passed over" in told
    assert told.index("MISSING") < told.index("top-1")
    assert told.rindex("MISSING") > told.index("top-1")
    assert len(list((tmp_path / "runs").glob("*/evaluations/*.json"))) == 1
    assert run(environment, tmp_path / "runs", *sets, "dry_run=true")[0] == 1
    status, told = run(environment, tmp_path / "runs2", *sets, "evaluation.data.metric=top-1")
    assert status == 2
    assert "evaluation.data.metric must be one of" in told
    assert not (tmp_path / "runs2").exists()
