"""How long a plan takes, from the times in the store: exact where runs have their like, scaled or unknown elsewhere."""

import dataclasses
import json

import pytest

from simclr_ablate.plan.hours import HOUR, Hours, hours_of
from simclr_ablate.plan.plan import make_plan
from simclr_ablate.store import Store


def finish(planned, seconds, evaluation_seconds):
    """Makes a run complete, by files alone, that took so long."""
    config = planned.experiment.to_config()
    planned.run.create(config)
    planned.run.write_encoder({"encoder": {}, "head": {}}, {"seconds": seconds})
    planned.run.restore_pretraining()
    planned.run.write_evaluation(
        planned.evaluation_key, config["evaluation"], {"top1": 1.0}, seconds=evaluation_seconds
    )


@pytest.fixture
def plan_of(make_experiment, tmp_path):
    """`plan_of([...], ...)`: the plan of experiments with these overrides, in one store."""

    def build(*overrides):
        return make_plan([make_experiment(*each) for each in overrides], Store(tmp_path), "some")

    return build


def seeds(number, *overrides):
    return [[f"seed={seed}", *overrides] for seed in range(number)]


def test_other_seeds_take_their_mean(plan_of):
    plan = plan_of(*seeds(5))
    finish(plan.runs[0], 100.0, 10.0)
    finish(plan.runs[1], 200.0, 30.0)
    found = hours_of(plan)
    assert found.hours == pytest.approx(3 * (150 + 20) / HOUR)
    assert (found.alike, found.scaled, found.unknown) == (6, 0, 0)


def test_numbers_that_change_no_time_do_not_matter(plan_of):
    finish(plan_of(["seed=7"]).runs[0], 100.0, 10.0)
    others = ["loss.temperature=0.7", "optimizer.lr=0.001", "views.strength=1.0"]
    found = hours_of(plan_of([others[0]], [others[1]], [others[2]], ["seed=3", *others]))
    assert found.hours == pytest.approx(4 * 110 / HOUR)


def test_another_length_is_scaled(plan_of):
    finish(plan_of(["optimizer.epochs=10"]).runs[0], 100.0, 10.0)
    found = hours_of(
        plan_of(["optimizer.epochs=25"], ["optimizer.batch_size=64", "optimizer.epochs=5"])
    )
    assert found.hours == pytest.approx((250 + 50 + 2 * 10) / HOUR)
    assert (found.alike, found.scaled, found.unknown) == (2, 2, 0)


def test_what_has_no_like_is_said_and_left_out(plan_of):
    finish(plan_of([]).runs[0], 100.0, 10.0)
    found = hours_of(plan_of(["seed=1"], ["encoder=resnet18"]))
    assert found.hours == pytest.approx(110 / HOUR)
    assert (found.alike, found.unknown) == (2, 2)
    assert "2 times not known and left out" in found.describe(1)


def test_what_is_there_costs_nothing(plan_of):
    """A complete run, an encoder that only needs its evaluation, and a random encoder, which is not trained."""
    plan = plan_of(["seed=0"], ["seed=1"], ["objective=none", "views=none"])
    finish(plan.runs[0], 100.0, 10.0)
    planned = plan.runs[1]
    planned.run.create(planned.experiment.to_config())
    planned.run.write_encoder({"encoder": {}, "head": {}}, {"seconds": 1.0})
    found = hours_of(plan)
    assert found.hours == pytest.approx(10 / HOUR)
    assert found.unknown == 1, "the random encoder's evaluation"


def test_an_encoder_counts_once_for_all_its_evaluations(plan_of):
    finish(plan_of(["seed=1"]).runs[0], 100.0, 10.0)
    finish(plan_of(["seed=1", "evaluation.knn=20"]).runs[0], 100.0, 4.0)
    found = hours_of(plan_of(["seed=0"], ["seed=0", "evaluation.knn=20"]))
    assert found.hours == pytest.approx((100 + 10 + 4) / HOUR)


def test_a_store_without_a_like_says_so(plan_of):
    plan = plan_of(*seeds(2))
    assert "not known" in hours_of(plan).describe(2)
    for planned in plan.runs:
        finish(planned, 1.0, 1.0)
    assert hours_of(plan).describe(2) == "nothing is left to run"


@pytest.mark.parametrize(
    ("hours", "side_by_side", "told"),
    [
        (5.0, 2, "about 2.5 hours with 2 runs side by side"),
        (5.0, 1, "about 5.0 hours, from"),
        (0.5, 1, "about 30 minutes, from"),
        (0.001, 1, "about less than a minute"),
    ],
)
def test_hours_for_people(hours, side_by_side, told):
    assert (
        Hours(hours, 1, 0, 0).describe(side_by_side).startswith(told.replace("about less", "less"))
    )


def test_damaged_runs_are_passed_over(plan_of):
    plan = plan_of(*seeds(3))
    finish(plan.runs[0], 100.0, 10.0)
    finish(plan.runs[1], 900.0, 90.0)
    (plan.runs[1].run.path / "experiment.json").write_text("{")
    found = hours_of(dataclasses.replace(plan, runs=plan.runs[2:]))
    assert found.hours == pytest.approx(110 / HOUR)


def test_runs_of_a_later_version_are_left_out(plan_of):
    plan = plan_of(*seeds(3))
    finish(plan.runs[0], 100.0, 10.0)
    finish(plan.runs[1], 900.0, 90.0)
    path = plan.runs[1].run.path / "experiment.json"
    record = json.loads(path.read_text())
    record["config"]["views"]["zoom"] = 2.0
    path.write_text(json.dumps(record | {"schema_version": record["schema_version"] + 1}))
    found = hours_of(plan_of(["seed=2"]))
    assert found.hours == pytest.approx(110 / HOUR)
