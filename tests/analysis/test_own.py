"""Runs with pieces of the user's own beside the paper's: they are loaded, and change none of its tables and figures."""

import pytest

import analysis
from analysis.artefacts import ARTEFACTS

OWN = [
    {"loss.name": "mine:hinge"},
    {"loss.name": "mine:hinge", "loss.negatives": "one"},
    {"head.kind": "mine:deep"},
    {"views.policy": "mine:flip"},
    {"views.extra": "mine:gamma"},
    {"views.policy": "pair", "views.first": "mine:gamma", "views.second": "color"},
    {"views.policy": "pair", "views.first": "crop", "views.second": "mine:gamma"},
]
PAPERS = [
    {"views.policy": "pair", "views.first": "crop", "views.second": "color"},
    {"views.policy": "pair", "views.first": "color", "views.second": "crop"},
    *[{"loss.name": "nt_xent", "loss.temperature": tau} for tau in (0.1, 0.2)],
    *[{"head.kind": kind, "head.dim": dim} for kind in ("linear", "nonlinear") for dim in (8, 16)],
    *[{"objective": "supervised", "views.policy": policy} for policy in ("crop", "simclr")],
    {"views.strength": 1.0},
    *[{"loss.name": name, "loss.negatives": "one"} for name in ("nt_xent", "nt_logistic")],
    *[
        {"optimizer.lr_rule": rule, "optimizer.lr": lr, "optimizer.batch_size": size}
        for rule, lr in (("linear", 0.256), ("sqrt", 0.008))
        for size in (64, 1024)
    ],
]


def reports(store, artefact):
    made = ARTEFACTS[artefact].module().reports(analysis.load(store))
    return [(report.tables, report.data.to_csv(), report.summary) for report in made]


@pytest.mark.parametrize("artefact", sorted(ARTEFACTS))
def test_what_is_the_users_own_changes_no_artefact(artefact, tmp_path, make):
    for top1, changes in enumerate(PAPERS, 50):
        make.put(tmp_path, make.experiment(**changes), top1)
    before = reports(tmp_path, artefact)
    assert before
    for top1, changes in enumerate(OWN, 70):
        make.put(tmp_path, make.experiment(**changes), top1)
    assert len(analysis.load(tmp_path)) == len(PAPERS) + len(OWN)
    assert reports(tmp_path, artefact) == before
