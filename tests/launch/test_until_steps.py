"""What `until=decided` does after each look, with the real command and analysis, and results that are made up.

Only training is left out: the launcher writes a result for each run, or a failure.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from simclr_ablate.identity import evaluated_beside
from simclr_ablate.launch.local import LocalLauncher
from simclr_ablate.launch.outcome import Ledger
from simclr_ablate.launch.until import Step
from simclr_ablate.plan.plan import PlannedRun
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Run, Store
from tests.commands import run

pytestmark = pytest.mark.slow

Top1 = Callable[[Experiment], float | None]
"""The accuracy of an experiment; None: its run fails."""


@pytest.fixture
def results(monkeypatch) -> Callable[[Top1], None]:
    """`results(top1)`: from now on, the runs of the local launcher come out as `top1` says."""

    def give(top1: Top1) -> None:
        def carry_out(self, plan, view, deadline=float("inf")):
            ledger = Ledger(plan, view)
            runs = list(plan.runs)
            while runs:
                for planned in runs:
                    _end(planned, top1(planned.experiment), ledger)
                runs = ledger.choose([])
            return ledger

        monkeypatch.setattr(LocalLauncher, "run", carry_out)

    return give


def _end(planned: PlannedRun, top1: float | None, ledger: Ledger) -> None:
    if planned.state() != "complete":
        if top1 is None:
            planned.run.create(planned.experiment.to_config())
            planned.run.write_failure({"reason": "it diverged"})
            ledger.outcome.failed.append(planned)
            return
        write(planned.run, planned.experiment, planned.evaluation_key, top1)
    ledger.outcome.complete.append(planned)


def write(made: Run, experiment: Experiment, key: str, top1: float) -> None:
    """A complete run of an hour."""
    config = experiment.to_config()
    made.create(config)
    made.write_pretraining({"loss": 4.2, "accuracy": 0.6, "entropy": 3.1, "seconds": 3600.0})
    metrics = dict.fromkeys(("top1", "top5", "validation_top1", "knn_top1"), top1)
    beside = evaluated_beside(experiment)
    made.write_evaluation(key, config["evaluation"], metrics, seconds=0.0, beside=beside)


def seeds_by(store: Path, key: Callable[[dict], object]) -> dict[object, set[int]]:
    """The seeds of the complete contrastive runs, by what `key` makes of their configs."""
    found: dict[object, set[int]] = {}
    for each in Store(store).runs():
        config = each.config()
        if config["objective"] == "contrastive" and each.state() == "complete":
            found.setdefault(key(config), set()).add(config["seed"])
    return found


def noise(experiment: Experiment, scale: float = 0.5) -> float:
    """The same for equal experiments."""
    return random.Random(repr(experiment)).gauss(0, scale)


def lead_of_the_flip(experiment: Experiment, gains=(2.0, 2.6, 1.5)) -> float:
    """By seed. Three seeds leave it open, and five are expected to decide it."""
    is_random = experiment.objective == "none"
    return 20 if is_random else 50 + experiment.views.flip * gains[experiment.seed % len(gains)]


def no_lead(experiment: Experiment) -> float:
    return lead_of_the_flip(experiment, (2.0, -1.9))


def test_one_failed_candidate_stops_no_step(results, environment, tmp_path):
    """Of 46 candidates one never completes. Its sweep's winners get more seeds all the same."""
    failed = []

    def top1(experiment: Experiment) -> float | None:
        if experiment.seed == 1000 and (not failed or experiment == failed[0]):
            failed.append(experiment)
            return None
        if experiment.objective == "none":
            return 20
        return 50 + 1.2 * (experiment.loss.name == "nt_xent") + noise(experiment)

    results(top1)
    line = ["-m", "sweep=loss_functions", "seed=0,1,2", "until=decided", "max_seeds=5"]
    _, output = run(environment, tmp_path, *line)
    assert "expected to be decided at" in output
    assert "; 0 experiments" not in output
    of_loss = seeds_by(
        tmp_path, lambda config: (config["loss"]["name"], config["loss"]["semi_hard"])
    )
    assert {3, 4} <= set.union(*of_loss.values())


def test_runs_of_several_sweeps_are_all_taken_on(results, environment, tmp_path):
    """A finding of Table 5 rests on a temperature that a sweep of the user's adds too."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\ngrids:\n  - loss.temperature: [0.2]\n")

    def top1(experiment: Experiment) -> float:
        if experiment.objective == "none":
            return 20
        loss = experiment.loss
        if not loss.normalize:
            return 50 - 0.01 * loss.temperature
        return lead_of_the_flip(experiment) - 5 * abs(loss.temperature - 0.15)

    results(top1)
    store = tmp_path / "store"
    sweeps = ["-m", f"sweep=temperature,{mine}"]
    status, output = run(environment, store, *sweeps, "seed=0,1,2", "until=decided", "max_seeds=5")
    assert status == 0, output
    of_temperature = seeds_by(
        store, lambda config: (config["loss"]["normalize"], config["loss"]["temperature"])
    )
    assert of_temperature[True, 0.2] == of_temperature[True, 0.1] == set(range(5)), output


def test_hours_are_those_of_what_is_missing(results, environment, tmp_path):
    """One cell has five seeds already; only the other's two are counted, and the clock allows for the longest run."""
    results(lead_of_the_flip)
    run(environment, tmp_path, "-m", "sweep=flip", "seed=0,1,2,3,4", "views.flip=true")
    run(environment, tmp_path, "-m", "sweep=flip", "seed=0,1,2")
    there = seeds_by(tmp_path, lambda config: config["views"]["flip"])
    assert there == {True: set(range(5)), False: set(range(3))}
    line = ["-m", "sweep=flip", "seed=0,1,2", "until=decided", "max_seeds=5", "launcher.parallel=8"]
    _, output = run(environment, tmp_path, *line, "budget_hours=0.9")
    assert "the least takes 1 hours, and 0.9 are left" in output


def test_what_is_left_is_said(results, environment, tmp_path):
    """Of a finding whose runs always fail, and of one whose runs the command does not make."""

    def top1(experiment: Experiment) -> float | None:
        fails = experiment.objective != "none" and experiment.seed == 1 and experiment.views.flip
        return None if fails else lead_of_the_flip(experiment)

    results(top1)
    line = ["-m", "sweep=flip", "until=decided", "max_seeds=5"]
    status, output = run(environment, tmp_path / "failing", *line, "seed=0,1,2")
    assert status == 1
    assert "1 finding left, for which runs have failed" in output
    results(no_lead)
    run(environment, tmp_path / "eight", "-m", "sweep=flip", "seed=0,1,2,3,4,5,6,7")
    status, output = run(environment, tmp_path / "eight", *line, "seed=6,7,8")
    assert status == 0, output
    assert "1 finding left, resting on runs that this command does not make" in output


def test_what_the_time_did_not_reach_is_said(environment, tmp_path, monkeypatch, results):
    def begin_only(self, plan, view, deadline=float("inf")):
        ledger = Ledger(plan, view)
        for planned in plan.runs:
            if planned.experiment.objective == "none":
                _end(planned, 20.0, ledger)
        return ledger

    with monkeypatch.context() as short:
        short.setattr(LocalLauncher, "run", begin_only)
        line = ["-m", "sweep=flip", "seed=0,1,2", "until=decided", "max_seeds=3"]
        _, output = run(environment, tmp_path, *line)
    assert (
        "until=decided: 6 experiments of its own seeds left undone; of the rest, no find" in output
    )
    results(lead_of_the_flip)
    _, output = run(environment, tmp_path, *line)
    assert "undone" not in output


def test_a_choice_waits_for_candidates_that_the_time_did_not_reach(environment, tmp_path):
    """Otherwise winners would be chosen among those few that were."""
    line = ["-m", "sweep=loss_functions", "seed=0,1,2", "until=decided", "budget_hours=1e-9"]
    status, output = run(environment, tmp_path, *line)
    assert status == 0, output
    assert "the time is up: 0 done, 49 not started" in output
    assert "chosen on" not in output
    assert "second stage" not in output


@pytest.mark.parametrize(
    ("missing", "parallel", "hours"),
    [(4, 8, 1.0), (4, 3, 2.0), (4, 2, 2.0), (5, 2, 3.0), (4, 1, 4.0), (1, 4, 1.0)],
)
def test_runs_of_an_hour_side_by_side(missing, parallel, hours):
    """As a schedule of equal runs by hand."""
    step = Step("f", "", "", (), frozenset(), 3, 5, 5, missing, float(missing), 1.0)
    assert step.hours_with(parallel) == pytest.approx(hours)


def test_no_order_of_unequal_runs_takes_longer():
    draw = random.Random()
    for _ in range(300):
        taken = [draw.uniform(0.1, 2) for _ in range(draw.randint(1, 12))]
        parallel = draw.randint(1, 6)
        ends = [0.0] * parallel
        for hours in taken:
            first = min(range(parallel), key=ends.__getitem__)
            ends[first] += hours
        step = Step("f", "", "", (), frozenset(), 3, 5, 5, len(taken), sum(taken), max(taken))
        assert max(ends) <= step.hours_with(parallel) + 1e-9
