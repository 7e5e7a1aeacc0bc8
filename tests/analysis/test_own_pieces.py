"""Runs with pieces of the user's own beside the paper's: they are loaded, and change none of its tables and figures.

Figure 5 alone shows them, after the paper's operations: tests/analysis/artefacts/test_own.py.
"""

import pytest

import analysis
from analysis.artefacts import ARTEFACTS, figureb4

OWN = [
    {"loss.name": "mine:hinge"},
    {"loss.name": "mine:hinge", "loss.negatives": "one"},
    {"head.kind": "mine:deep"},
    {"views.policy": "mine:flip"},
    {"views.extra": "mine:gamma"},
    {"views.extra": "mine:gamma", "evaluation.probe": "color"},
    {"views.policy": "pair", "views.first": "mine:gamma", "views.second": "color"},
    {"views.policy": "pair", "views.first": "crop", "views.second": "mine:gamma"},
]
ELSEWHERE = {
    f"evaluation.data.{key}": value
    for key, value in {
        "name": "cifar10",
        "size": 32,
        "validation": 5000,
        "on_error": "raise",
        "seed": 0,
        "metric": "top1",
    }.items()
}
PAPERS = [
    {"views.policy": "pair", "views.first": "crop", "views.second": "color"},
    {"views.policy": "pair", "views.first": "color", "views.second": "crop"},
    *[{"loss.name": "nt_xent", "loss.temperature": tau} for tau in (0.1, 0.2)],
    *[{"head.kind": kind, "head.dim": dim} for kind in ("linear", "nonlinear") for dim in (8, 16)],
    *[{"objective": "supervised", "views.policy": policy} for policy in ("crop", "simclr")],
    *[
        {"precision": "bfloat16", "loss.temperature": 0.5, "optimizer.lr": lr}
        for lr in (0.001, 0.002)
    ],
    {"views.strength": 1.0},
    {"views.flip": False},
    *[{"views.extra": extra, "evaluation.protocol": "linear_sgd"} for extra in (None, "broader")],
    {"evaluation.protocol": "few_labels", "evaluation.labels": 0.1},
    *[ELSEWHERE | {"encoder.width": width} for width in (1, 2)],
    *[
        changes | evaluation
        for changes in (
            *[{"optimizer.epochs": epochs} for epochs in (12, 24)],
            *[{"encoder.width": width} for width in (2, 4)],
        )
        for evaluation in (
            {"evaluation.protocol": "linear_sgd"},
            {"evaluation.protocol": "few_labels", "evaluation.labels": 0.1},
        )
    ],
    *[{"encoder.width": width} for width in (2, 4)],
    *[{"evaluation.probe": "color", "evaluation.features": of} for of in ("h", "z")],
    {"head.kind": "linear", "head.dim": 128},
    *[{"loss.name": name, "loss.negatives": "one"} for name in ("nt_xent", "nt_logistic")],
    *[
        {"optimizer.lr_rule": rule, "optimizer.lr": lr, "optimizer.batch_size": size}
        for rule, lr in (("linear", 0.256), ("sqrt", 0.008))
        for size in (64, 1024)
    ],
]


def reports(runs, artefact):
    if artefact == "figureB4":  # which run is shown: its picture takes a while
        shown = figureb4.chosen(ARTEFACTS[artefact], runs)
        return [setting.runs["run_id"].tolist() for setting in shown]
    made = ARTEFACTS[artefact].reports(runs)
    return [(report.tables, report.data.to_csv(), report.summary) for report in made]


def put(store, make, number, changes):
    experiment = make.experiment(**changes)
    metrics = None
    if experiment.evaluation.probe:
        metrics = {"probe_accuracy": 60.0 + number, "probe_guess": 50.0}
    run = make.put(store, experiment, 50.0 + number, metrics=metrics)
    if experiment.head.kind in ("linear", "nonlinear"):
        make.keep_weights(run, experiment)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make):
    """The paper's runs alone, and with the user's own beside them."""
    store = tmp_path_factory.mktemp("runs")
    for number, changes in enumerate(PAPERS):
        put(store, make, number, changes)
    alone = analysis.load(store)
    for number, changes in enumerate(OWN, 20):
        put(store, make, number, changes)
    both = analysis.load(store)
    assert len(both) == len(PAPERS) + len(OWN)
    return alone, both


@pytest.mark.slow
@pytest.mark.parametrize("artefact", sorted(ARTEFACTS.keys() - {"figure5"}))
def test_what_is_the_users_own_changes_no_artefact(artefact, runs):
    before, after = (reports(each, artefact) for each in runs)
    assert before
    assert after == before
