"""Verdicts on findings of the user's own, against Student's t by hand; and how they are told apart from the paper's."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

import analysis
from analysis.claims import printing, scorecard
from analysis.claims.catalogue import CLAIMS
from analysis.findings import main
from analysis.more import needs
from simclr_ablate.identity import run_id
from simclr_ablate.store import Store
from tests.analysis.artefacts.test_own import record

TAU, SIZE = "loss.temperature", "optimizer.batch_size"
TAUS, SIZES, SEEDS = (0.1, 0.5, 1.0), (32, 64), range(5)
LOW_HIGH = {"higher": {TAU: 0.1}, "than": {TAU: 1.0}}
FINDINGS = {
    "all": LOW_HIGH,
    "more": {**LOW_HIGH, "by_more_than": 3},
    "less": {**LOW_HIGH, "by_less_than": 3},
    "every": {**LOW_HIGH, "at_every": SIZE},
    "less every": {**LOW_HIGH, "at_every": SIZE, "by_less_than": 3},
    "where": {**LOW_HIGH, "where": {SIZE: 64}},
    "highest": {"highest": {TAU: 0.5}, "at_every": SIZE},
    "alike": {"alike": [{SIZE: 32}, {SIZE: 64}], "within": 1.5, "at_every": TAU},
    "falls": {"falls_with": TAU},
    "rises": {"rises_with": TAU},
}


def launch(store, experiments, findings, metric="top1"):
    section = {"title": "Temperatures", "rows": TAU, "columns": SIZE, "metric": metric}
    listed = [{"say": f"It is so: {name}.", **each} for name, each in findings.items()]
    made = record({**section, "findings": listed}, experiments)
    ids = [run_id(each) for each in experiments]
    Store(store).record_sweep("taus", ids, ["sweep=taus.yaml"], artefact=made)


def fill(store, make, number, seeds=SEEDS):
    """Runs with the accuracies `number(tau, size, seed)`."""
    experiments = []
    for tau, size, seed in itertools.product(TAUS, SIZES, seeds):
        each = make.experiment(**{TAU: tau, SIZE: size, "seed": seed})
        make.put(store, each, number(tau, size, seed))
        experiments.append(each)
    return experiments


@pytest.fixture(scope="module")
def study(tmp_path_factory, make):
    """The accuracies by temperature, batch size and seed, and the findings on them."""
    root = tmp_path_factory.mktemp("taus")
    generator = np.random.default_rng(3)
    base = {0.1: 52.0, 0.5: 55.0, 1.0: 49.0}
    drawn = {
        (tau, size, seed): base[tau] + 0.5 * (size == 64) + generator.normal(0, 0.6)
        for tau in TAUS
        for size in SIZES
        for seed in SEEDS
    }
    launch(root, fill(root, make, lambda *place: drawn[place]), FINDINGS)
    found = [each for each in scorecard(analysis.load(root)) if not each.claim.of_paper]
    names = [each.claim.statement.removeprefix("It is so: ")[:-1] for each in found]
    assert names == list(FINDINGS)
    return root, drawn, dict(zip(names, found, strict=True))


def over_seeds(drawn, tau, sizes):
    return np.array([np.mean([drawn[tau, size, seed] for size in sizes]) for seed in SEEDS])


def bounds(differences, tail):
    """The ends of Student's interval, each with this risk."""
    sample = np.asarray(differences)
    error = sample.std(ddof=1) / math.sqrt(len(sample))
    reach = stats.t.ppf(1 - tail, len(sample) - 1) * error
    return sample.mean() - reach, sample.mean() + reach


def least(groups):
    """The bounds of the least of several effects: all have to be above, one below is enough (Bonferroni)."""
    low = min(bounds(each, 0.025)[0] for each in groups)
    high = min(bounds(each, 0.025 / len(groups))[1] for each in groups)
    return low, high


def greatest(groups):
    low, high = least([-each for each in groups])
    return -high, -low


def verdict(low, high, limit=0.0, below=False):
    if low <= limit <= high:
        return "undecided"
    return "confirmed" if (low > limit) != below else "refuted"


def test_a_difference_of_means_has_the_interval_of_a_paired_test(study):
    _, drawn, found = study
    differences = over_seeds(drawn, 0.1, SIZES) - over_seeds(drawn, 1.0, SIZES)
    for name, limit, below in (("all", 0, False), ("more", 3, False), ("less", 3, True)):
        low, high = bounds(differences, 0.025)
        each = found[name]
        assert (each.low, each.high) == pytest.approx((low, high))
        assert each.effect == pytest.approx(differences.mean())
        assert each.verdict == verdict(low, high, limit, below)
        test = stats.ttest_1samp(differences, limit, alternative="greater")
        assert each.p == pytest.approx(min(test.pvalue, 1 - test.pvalue))
        assert each.seeds == 5


def test_at_every_value_the_least_decides_or_the_greatest(study):
    _, drawn, found = study
    groups = [over_seeds(drawn, 0.1, [size]) - over_seeds(drawn, 1.0, [size]) for size in SIZES]
    assert (found["every"].low, found["every"].high) == pytest.approx(least(groups))
    assert found["every"].verdict == verdict(*least(groups))
    assert (found["less every"].low, found["less every"].high) == pytest.approx(greatest(groups))
    assert found["less every"].verdict == verdict(*greatest(groups), 3, True)
    assert (found["where"].low, found["where"].high) == pytest.approx(bounds(groups[1], 0.025))


def test_the_highest_leads_each_other_everywhere(study):
    _, drawn, found = study
    leads = [
        over_seeds(drawn, 0.5, [size]) - over_seeds(drawn, tau, [size])
        for size in SIZES
        for tau in (0.1, 1.0)
    ]
    assert (found["highest"].low, found["highest"].high) == pytest.approx(least(leads))
    assert found["highest"].verdict == verdict(*least(leads))


def test_alike_is_a_margin_either_way(study):
    _, drawn, found = study
    apart = [
        sign * (over_seeds(drawn, tau, [32]) - over_seeds(drawn, tau, [64]))
        for tau in TAUS
        for sign in (1, -1)
    ]
    assert (found["alike"].low, found["alike"].high) == pytest.approx(greatest(apart))
    assert found["alike"].verdict == verdict(*greatest(apart), 1.5, True)


def test_steps_are_all_on_one_side(study):
    _, drawn, found = study
    means = [over_seeds(drawn, tau, SIZES) for tau in TAUS]
    steps = [second - first for first, second in itertools.pairwise(means)]
    assert (found["rises"].low, found["rises"].high) == pytest.approx(least(steps))
    falls = least([-each for each in steps])
    assert (found["falls"].low, found["falls"].high) == pytest.approx(falls)
    assert found["falls"].verdict == verdict(*falls) == "refuted"


def test_what_is_tested_is_said(study):
    _, _, found = study
    tests = {name: each.claim.test for name, each in found.items()}
    assert tests["more"] == (
        "Temperature 0.1 minus temperature 1, averaged over batch size, is above 3 points."
    )
    assert tests["every"].startswith(
        "Temperature 0.1 minus temperature 1, at every batch size, is above 0. To confirm, every "
    )
    assert tests["where"] == "Temperature 0.1 minus temperature 1, with batch size 64, is above 0."
    assert "either way, at every temperature, is below 1.5 points. To confirm" in tests["alike"]
    assert "batch size 64" in found["where"].reason


def test_findings_of_ones_own_are_counted_apart_and_tested_together(study, capsys):
    root, _, found = study
    assert main([f"store={root}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    number = {
        kind: sum(each.verdict == kind for each in found.values())
        for kind in ("confirmed", "refuted", "undecided")
    }
    words = ", ".join(f"{count} {kind}" for kind, count in number.items())
    assert f"Your findings: {words}, 0 not run" in printed
    assert (
        f"The paper’s findings: 0 confirmed, 0 refuted, 0 undecided, {len(CLAIMS)} not run"
        in printed
    )
    assert f"{len(FINDINGS)} tests, one for each finding" in printed
    assert f"expect at most {0.025 * len(FINDINGS):.2g} false confirmations" in printed
    markdown = printing.markdown(list(found.values()))
    assert "# Your findings" in markdown
    table = printing.data(list(found.values()))
    assert table["source"].unique().tolist() == ["Your sweep taus"]


def test_a_missing_cell_is_named(tmp_path, make):
    experiments = fill(tmp_path / "all", make, lambda *_: 50.0, range(2))
    for each in experiments:
        if (each.loss.temperature, each.optimizer.batch_size) != (1.0, 64):
            make.put(tmp_path / "runs", each, 50.0 + each.seed)
    launch(
        tmp_path / "runs", experiments, {"all": LOW_HIGH, "low": {"where": {SIZE: 32}, **LOW_HIGH}}
    )
    every = scorecard(analysis.load(tmp_path / "runs"))
    missing, there = [each for each in every if not each.claim.of_paper]
    assert missing.verdict == "not run"
    assert missing.reason == "No finished runs of: temperature 1, batch size 64."
    assert there.verdict == "undecided"


def test_no_runs_name_the_command(tmp_path, make):
    experiments = fill(tmp_path / "all", make, lambda *_: 50.0, range(1))
    make.put(tmp_path / "runs", make.random_encoder(), 30.0)
    launch(tmp_path / "runs", experiments, {"all": LOW_HIGH})
    (found,) = (
        each for each in scorecard(analysis.load(tmp_path / "runs")) if not each.claim.of_paper
    )
    assert found.verdict == "not run"
    assert "-m sweep=taus.yaml" in found.reason


def test_more_names_the_sweep_and_what_decides(tmp_path, make):
    generator = np.random.default_rng(0)
    drawn = {
        place: 50 + generator.normal(0, 1) for place in itertools.product(TAUS, SIZES, range(3))
    }
    experiments = fill(
        tmp_path, make, lambda tau, size, seed: drawn[tau, size, seed] + (tau == 0.1), range(3)
    )
    launch(tmp_path, experiments, {"all": LOW_HIGH})
    runs = analysis.load(tmp_path)
    found = scorecard(runs)
    (need,) = needs(runs, found)
    assert need.sweeps == ("taus",)
    assert need.finding.claim.name == "taus-1"
    wanted = [run_id(each) for each in experiments if each.loss.temperature != 0.5]
    assert sorted(need.run_ids) == sorted(wanted)


def test_a_metric_that_is_no_percentage_has_no_points(tmp_path, make):
    experiments = []
    for tau, size, seed in itertools.product(TAUS, SIZES, range(3)):
        each = make.experiment(**{TAU: tau, SIZE: size, "seed": seed})
        make.put(tmp_path, each, 50.0, entropy=1 + tau + 0.01 * seed * size)
        experiments.append(each)
    findings = {"all": {"higher": {TAU: 1.0}, "than": {TAU: 0.1}, "by_more_than": 0.5}}
    launch(tmp_path, experiments, findings, metric="pretraining.entropy")
    (found,) = (each for each in scorecard(analysis.load(tmp_path)) if not each.claim.of_paper)
    assert found.unit == "nats"
    assert found.claim.test.endswith("is above 0.5 nats.")
    assert found.effect == pytest.approx(0.9)


def test_runs_that_were_looked_at_pay_for_it(study):
    root, drawn, _ = study
    runs = analysis.load(root)
    looked = scorecard(runs.assign(looked_at=True))
    first = next(each for each in looked if not each.claim.of_paper)
    differences = over_seeds(drawn, 0.1, SIZES) - over_seeds(drawn, 1.0, SIZES)
    looks = [bounds(differences[:seeds], 0.025 / 5) for seeds in (3, 5)]
    expected = max(low for low, _ in looks), min(high for _, high in looks)
    assert (first.low, first.high) == pytest.approx(expected)
    assert first.looks == 2
