"""Definitions of artefacts: what they read from YAML, and what a record keeps of them."""

import dataclasses
import json

import pytest

from simclr_ablate.artefact import MOST_LABELS, Definition, Reference
from simclr_ablate.statement import UNUSED, DefinitionError

SECTION = {
    "title": "Temperature and batch size",
    "rows": ["loss.name", "loss.temperature"],
    "columns": "optimizer.batch_size",
    "metric": "top5",
    "free": ["optimizer.lr", "data"],
    "labels": {"loss.name": "loss", 0.1: "low", True: "on"},
    "reference": {"file": "there.csv", "title": "Others"},
    "findings": [{"say": "It rises.", "rises_with": "loss.temperature"}],
}


def test_a_record_makes_the_same_definition_again() -> None:
    places = ((("a", 0.1), (32,)), (("a", None), (64,)), (("b", UNUSED), (64,)))
    read = Definition.read(SECTION)
    assert read.file == "there.csv"
    cells = ((("a", 0.1), (32,), 51.5),)
    whole = dataclasses.replace(read, places=places, reference=Reference("Others", cells))
    again = Definition.from_record(json.loads(json.dumps(whole.to_record())))
    assert again == dataclasses.replace(whole, file="")
    assert (again.label(0.1), again.label(True), again.label(1)) == ("low", "on", None)
    assert again.is_free("optimizer.lr")
    assert again.is_free("data.name")
    assert not again.is_free("seed")


def test_what_is_left_out_has_its_usual_value() -> None:
    read = Definition.read({"title": "T", "rows": "loss.temperature"})
    assert (read.kind, read.columns, read.metric) == ("heat_map", (), "top1")
    grid = Definition.read({"title": "T", "kind": "pair_grid"})
    assert grid.keys == ("views.first", "views.second")


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"title": None}, ("title",), "must be text, got None"),
        ({"kind": "heatmap"}, ("kind",), "got 'heatmap'; did you mean heat_map?"),
        ({"rows": "loss.temprature"}, ("rows",), "did you mean loss.temperature?"),
        ({"rows": "seed"}, ("rows",), "got 'seed'"),
        ({"rows": "compute.threads"}, ("rows",), "got 'compute.threads'"),
        ({"rows": "encoder.mean"}, ("rows",), "got 'encoder.mean'"),
        ({"rows": []}, ("rows",), "must be a key of the config, or a list of keys"),
        ({"columns": "loss.name"}, ("columns",), "must not name loss.name, which is there already"),
        ({"free": ["loss.name"]}, ("free",), "must not name loss.name"),
        ({"kind": "curves"}, ("rows",), "must be one key with kind: curves"),
        ({"labels": ["a"]}, ("labels",), "must be a mapping of keys and values to names"),
        ({"labels": {"a": "x", "b": "x"}}, ("labels", "a"), "must be another name"),
        ({"labels": {"a": 3}}, ("labels", "a"), "must be text, got 3"),
        ({"reference": 3}, ("reference",), "must be a CSV file"),
        ({"reference": {"file": "a", "titel": "b"}}, ("reference", "titel"), "did you mean title"),
        ({"findings": {}}, ("findings",), "must be a list"),
        ({"colums": 1}, ("colums",), "is an unknown key; did you mean columns?"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(changes, path, words) -> None:
    with pytest.raises(DefinitionError) as wrong:
        Definition.read({**SECTION, **changes})
    assert wrong.value.path == path
    assert words in wrong.value.problem


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(places=[[["a"], [32]]]),
        lambda record: record.update(places=3),
        lambda record: record.update(places=[[["a", {}], [32]]]),
        lambda record: record.update(places=[[["a", 10**400], [32]]]),
        lambda record: record.update(labels=[[["a"], "b"]]),
        lambda record: record.update(labels=[["a"]]),
        lambda record: record.update(reference={"title": "T", "cells": [[["a", 1], [2], "x"]]}),
        lambda record: record.update(reference={"title": "T"}),
        lambda record: record.update(kind="__import__('os')"),
        lambda record: record.pop("rows"),
        lambda record: record.update(title=1000 * "T"),
        lambda record: record.update(places=[[["a", k], [32]] for k in range(MOST_LABELS + 1)]),
    ],
)
def test_what_no_launch_has_written_is_refused(change) -> None:
    record = Definition.read(SECTION).to_record()
    change(record)
    with pytest.raises(ValueError, match=r"artefact"):
        Definition.from_record(record)


def test_a_run_has_the_place_of_the_keys_that_count_in_it(make_values) -> None:
    read = Definition.read({"title": "T", "rows": "loss.temperature", "columns": "views.strength"})
    assert read.place(make_values()) == ((0.2,), (0.5,))
    assert read.place(make_values(**{"views.policy": "crop"})) is None  # no colour
    assert read.place(make_values(objective="none")) is None
    both = Definition.read({"title": "T", "rows": ["loss.name", "views.strength"]})
    assert both.place(make_values(**{"views.policy": "crop"})) == (("nt_xent", UNUSED), ())
    objectives = Definition.read({"title": "T", "rows": "objective"})
    assert objectives.place(make_values(objective="none")) == (("none",), ())
    limits = Definition.read({"title": "T", "rows": "data.limit"})
    assert limits.place(make_values()) == ((None,), ())


@pytest.fixture
def make_values():
    from simclr_ablate.identity import values_of
    from tests.analysis.conftest import CONFIG

    return lambda **changes: values_of(CONFIG) | changes
