"""What a sweep with `select` tries, and what it runs once that is done: planned in a store, nothing trained."""

import copy
import dataclasses
import os
import random

import pytest

from simclr_ablate.config import ConfigError
from simclr_ablate.launch import division
from simclr_ablate.launch.devices import Accelerators
from simclr_ablate.launch.local import LocalLauncher
from simclr_ablate.plan.grid import Grids
from simclr_ablate.plan.launchers import LocalOptions
from simclr_ablate.plan.plan import Plan, plan_all, planned_run
from simclr_ablate.store import Store
from simclr_ablate.tasks.choose import Choose

HEADS, TEMPERATURES = ["none", "linear"], [0.1, 0.5]


def finish(store: Store, experiment, score: float) -> None:
    """As a run leaves it; the test split would choose the opposite."""
    planned = planned_run(experiment, store)
    planned.run.create(experiment.to_config())
    metrics = {"top1": 100 - score, "validation_top1": score}
    planned.run.write_evaluation(planned.evaluation_key, {}, metrics)


def point_of(experiment):
    return experiment.head.kind, experiment.loss.temperature


def plan_of(choose: Choose, store: Store) -> Plan:
    names = {experiment: ["pick"] for experiment in choose.tried}
    return plan_all("pick", store, choose.tried, names, [choose])


def test_each_candidate_is_tried_with_the_one_seed(selection, sweep) -> None:
    choose = selection(sweep)
    assert [(*point_of(experiment), experiment.seed) for experiment in choose.tried] == [
        (head, temperature, 9) for head in HEADS for temperature in TEMPERATURES
    ]
    for candidate in choose.candidates:
        assert [one.seed for one in candidate.reported] == [0, 1]
        assert {point_of(one) for one in candidate.reported} == {point_of(candidate.experiment)}


@pytest.mark.parametrize(
    ("swept", "fixed", "seeds"),
    [({"seed": [3, 4, 5]}, {}, [3, 4, 5]), ({}, {"seed": 7}, [7]), ({}, {}, [0, 1])],
)
def test_the_command_lines_seeds_are_those_that_are_reported(
    selection, sweep, swept, fixed, seeds
) -> None:
    choose = selection(sweep, swept, fixed)
    assert {experiment.seed for experiment in choose.tried} == {9}
    for candidate in choose.candidates:
        assert [one.seed for one in candidate.reported] == seeds


def test_without_seeds_the_configs_own_is_reported(selection, sweep) -> None:
    del sweep["seeds"], sweep["grids"]
    assert [one.seed for one in selection(sweep).candidates[0].reported] == [0]
    assert Grids.from_config(sweep).grids == []


def test_what_the_command_line_varies_has_a_winner_each(selection, sweep, tmp_path) -> None:
    choose = selection(sweep, {"encoder.width": [1, 2], "loss.temperature": [0.2, 0.3, 0.4]})
    assert len(choose.tried) == 2 * 2 * 3
    choices = choose.decide(Store(tmp_path)).winners
    assert [choice.group for choice in choices] == [
        f"encoder.width={width} head.kind={head}" for head in HEADS for width in (1, 2)
    ]
    assert {choice.candidates for choice in choices} == {3}


def test_the_best_on_validation_are_run_with_the_reported_seeds(
    selection, sweep, tmp_path, monkeypatch
) -> None:
    store, choose = Store(tmp_path), selection(sweep)
    scores = {point_of(experiment): random.uniform(20, 80) for experiment in choose.tried}
    best = {(head, max(TEMPERATURES, key=lambda t: scores[head, t])) for head in HEADS}
    for experiment in choose.tried[:-1]:
        finish(store, experiment, scores[point_of(experiment)])
    before = plan_of(choose, store)
    assert (before.decided, len(before.pending)) == ((), 1)
    assert [planned.experiment for planned in before.runs] == choose.tried
    assert before.outlook() == [
        "pick: 4 more experiments to follow once its 4 with seed 9 are done (3 are): the best on "
        "validation_top1 for each head.kind, with seed 0, 1"
    ]
    finish(store, choose.tried[-1], scores[point_of(choose.tried[-1])])
    expected = [(*one, seed) for one in sorted(best, reverse=True) for seed in (0, 1)]
    second = [planned.experiment for planned in before.choose(before.pending[0]).runs]
    assert [(*point_of(one), one.seed) for one in second] == expected
    after = plan_of(choose, store)
    assert (len(after.decided), after.pending) == (1, ())
    assert [planned.experiment for planned in after.runs] == [*choose.tried, *second]
    # With a choice made, the machine is divided as before it was: another number of threads would be other results.
    assert {planned.experiment for planned in after.runs if planned.key in after.followed} == {
        *second
    }
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(division, "memory", lambda: (2**40, 2**40))
    launcher = LocalLauncher(LocalOptions("local", None, 1.0, 1), "cache")
    found = Accelerators("", (), ())
    assert launcher.division(after, found) == launcher.division(before, found)
    assert launcher.division(before, found).parallel == 4
    assert not before.followed
    heading, *lines = after.outlook()[0].splitlines()
    assert heading == "pick: chosen on validation_top1 with seed 9"
    for line, (head, temperature) in zip(lines, sorted(best, reverse=True), strict=True):
        score = scores[head, temperature]
        assert line == (
            f"  head.kind={head}: loss.temperature={temperature} ({score:.1f} %, best of 2)"
        )


def ids(store: Store, experiments) -> set[str]:
    return {planned_run(one, store).run_id for one in experiments}


def members(store: Store, name: str) -> list[set[str]]:
    """The records of a sweep, last launched last."""
    return [set(record.run_ids) for record in store.sweeps() if record.name == name]


def test_what_is_chosen_is_of_the_sweep_also_where_another_has_it(
    selection, sweep, tmp_path
) -> None:
    store, choose = Store(tmp_path), selection(sweep)
    best = choose.candidates[0]
    names = {experiment: ["pick"] for experiment in choose.tried} | {best.reported[0]: ["other"]}
    planned = plan_all("both", store, names, names, [choose]).recorded()
    for experiment in choose.tried:
        finish(store, experiment, 70.0 if experiment == best.experiment else random.uniform(20, 60))
    left = planned.choose(planned.pending[0])
    second = [each.experiment for each in left.runs]
    assert best.reported[0] not in second
    assert len(second) == 3
    left.note_choices()
    everything = ids(store, [*choose.tried, *choose.decide(store).experiments()])
    assert members(store, "pick")[-1] == members(store, "both")[-1] == everything
    assert members(store, "other") == [ids(store, best.reported[:1])]


def test_a_union_keeps_both_second_stages(selection, sweep, tmp_path) -> None:
    """Each is closed by a job of its own, which knows the union's record as it was launched."""
    store, first = Store(tmp_path), selection(sweep)
    second = dataclasses.replace(selection(sweep, {"encoder.width": [2]}), sweep="other")
    names = {experiment: ["pick"] for experiment in first.tried} | {
        experiment: ["other"] for experiment in second.tried
    }
    planned = plan_all("both", store, names, names, [first, second]).recorded()
    everything = ids(store, names)
    for choose in (first, second):
        for experiment in choose.tried:
            finish(store, experiment, random.uniform(20, 80))
        chosen = choose.decide(store)
        chosen.note(store, planned.records_of(choose))
        everything |= ids(store, chosen.experiments())
        assert members(store, "both")[-1] == everything
    for choose in (first, second):
        own = ids(store, [*choose.tried, *choose.decide(store).experiments()])
        assert members(store, choose.sweep)[-1] == own


def test_what_was_decided_when_it_was_planned_adds_nothing(selection, sweep, tmp_path) -> None:
    store, choose = Store(tmp_path), selection(sweep)
    for experiment in choose.tried:
        finish(store, experiment, random.uniform(20, 80))
    planned = plan_of(choose, store).recorded()
    before = members(store, "pick")
    planned.note_choices()
    assert members(store, "pick") == before
    assert before[-1] == ids(store, [*choose.tried, *choose.decide(store).experiments()])


def test_a_second_stage_is_of_the_launch_that_chose_it(selection, sweep, tmp_path) -> None:
    """Not of a later one, such as of another scale; and a launch that chooses anew does not lose it."""
    store, choose = Store(tmp_path), selection(sweep)
    before = plan_of(choose, store).recorded()
    later = store.record_sweep("pick", ["of another scale"])
    for experiment in choose.tried[1:]:
        finish(store, experiment, random.uniform(20, 80))
    before.choose(before.pending[0]).note_choices()
    second = choose.decide(store).experiments()
    everything = ids(store, [*choose.tried, *second])
    assert members(store, "pick") == [ids(store, choose.tried), everything, {"of another scale"}]
    assert f"{later}.json" in {path.name for path in (tmp_path / ".sweeps").iterdir()}
    for one in second:
        planned_run(one, store).run.create(one.to_config())
    again = plan_of(choose, store)
    assert again.pending
    again.recorded()
    assert members(store, "pick")[-1] == everything


def test_a_candidate_that_ends_after_the_choice_changes_nothing_of_it(
    selection, sweep, tmp_path
) -> None:
    store, choose = Store(tmp_path), selection(sweep)
    planned = plan_of(choose, store).recorded()
    for experiment in choose.tried[:-1]:
        finish(store, experiment, random.uniform(20, 80))
    left = planned.choose(planned.pending[0])
    finish(store, choose.tried[-1], 90.0)
    (said,) = left.outlook()
    assert "best of 1 complete of 2" in said
    assert "90.0" not in said
    left.note_choices()
    everything = ids(store, choose.tried) | {planned.run_id for planned in left.runs}
    assert members(store, "pick")[-1] == everything


def test_what_failed_is_passed_over_and_told(selection, sweep, tmp_path) -> None:
    store, choose = Store(tmp_path), selection(sweep)
    finish(store, choose.tried[1], 30.0)  # no head, temperature 0.5
    chosen = choose.decide(store)
    assert [one.loss.temperature for one in chosen.experiments()] == [0.5, 0.5]
    assert [winner.describe() for winner in chosen.winners] == [
        "head.kind=none: loss.temperature=0.5 (30.0 %, best of 1 complete of 2)",
        "head.kind=linear: none of its candidates completed; nothing is chosen",
    ]


def test_what_changes_no_result_is_counted_once(selection, sweep, tmp_path) -> None:
    store, choose = Store(tmp_path), selection(sweep, {"compute.threads": [1, 2]})
    planned = plan_of(choose, store)
    assert len(planned.runs) == 4
    assert planned.outlook()[0].startswith(
        "pick: 4 more experiments to follow once its 4 with seed 9"
    )
    assert [choice.candidates for choice in choose.decide(store).winners] == [2, 2]


def test_a_frozen_selection_comes_back(selection, sweep) -> None:
    choose = selection(sweep)
    assert Choose.from_config(choose.to_config()) == choose
    of_old = choose.to_config()
    for candidate in of_old[
        "candidates"
    ]:  # as jobs carry it that have waited since it was named so
        candidate["trial"] = candidate.pop("experiment")
    assert Choose.from_config(of_old) == choose
    assert Choose.from_config(choose.to_config()).name == choose.name
    assert selection(sweep, {"seed": [0, 1, 2]}).name != choose.name
    # Where and how it is worked on makes no other choice of it.
    assert selection(sweep, {"compute.threads": [1]}).name == choose.name


def without(name):
    return lambda select: select.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(metrc="x"), r"unknown key sweep\.select\.metrc; did you mean .*metric"),
        (without("over"), r"sweep\.select\.over is missing: keys to choose"),
        (without("grids"), r"sweep\.select\.grids is missing"),
        (lambda s: s.update(grids=[]), r"grids must have at least one grid, got \[\]"),
        (lambda s: s.update(over=[]), r"over must name the keys to choose, without seed, got \[\]"),
        (lambda s: s.update(over=["seed"]), r"over must name .* got \['seed'\]"),
        (
            lambda s: s.update(over=["loss.temprature"]),
            r"over: unknown key loss\.temprature; did you mean loss\.temperature",
        ),
        (
            lambda s: s.update(over=["optimizer.lr"]),
            r"over must name keys that sweep\.select\.grids vary, got 'optimizer\.lr'",
        ),
        (
            lambda s: s.update(metric="top1"),
            r"metric must be one of validation_top1, validation_mean_per_class, validation_map11, got 'top1'",
        ),
        (
            lambda s: s["grids"][0].update({"data.metric": "mean_per_class"}),
            r"metric must be validation_mean_per_class for data=shapes, got validation_top1",
        ),
        (lambda s: s.update(seed=1), r"seed must not be one of .* seeds \(\[0, 1\]\), got 1"),
        (lambda s: s.update(seed=-1), r"sweep\.select\.seed must be >= 0, got -1"),
        (lambda s: s["grids"][0].update(seed=[3]), r"select\.grids must not vary seed"),
        (lambda s: s["grids"][0].update({"head": []}), r"head must have at least one value"),
        (lambda s: s.update(grids=[3]), r"sweep\.select\.grids\[0\] must be a mapping, got 3"),
        (
            lambda s: s["grids"][0].update({"evaluation.probe": "color"}),
            r"validation_top1 is not measured with evaluation\.protocol=probe",
        ),
    ],
)
def test_what_cannot_be_selected_is_refused(selection, sweep, change, message) -> None:
    changed = copy.deepcopy(sweep)
    change(changed["select"])
    with pytest.raises(ConfigError, match=message):
        selection(changed)


def test_a_section_of_keys_is_chosen_whole(selection, sweep) -> None:
    sweep["select"]["over"] = ["loss"]
    sweep["select"]["grids"] = [{"loss.temperature": [0.1, 0.5], "loss.normalize": [True, False]}]
    choices = selection(sweep).decide(Store("nowhere")).winners
    assert [choice.candidates for choice in choices] == [4]
