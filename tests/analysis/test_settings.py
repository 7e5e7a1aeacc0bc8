"""Runs are grouped by everything that is not varied on purpose."""

import itertools
import pickle
import random

import pandas as pd
import pytest

import analysis
from analysis.settings import (
    UNUSED,
    _groups,
    accuracies,
    fixed_keys,
    matching,
    plain_values,
    random_encoder,
    seed_range,
    settings,
)
from simclr_ablate.config import keys
from simclr_ablate.schema import Experiment

FREE = ("views.first", "views.second", "seed")


def test_runs_that_differ_in_what_is_free_are_one_setting(tmp_path, make):
    pairs = [("crop", "color"), ("blur", "blur"), ("noise", "crop")]
    for (first, second), seed in itertools.product(pairs, [0, 1]):
        make.put(tmp_path, make.pair(first, second, seed=seed), 40.0)
    (found,) = settings(analysis.load(tmp_path), "figure5", FREE)
    assert found.name == "figure5-shapes"
    assert len(found.runs) == 6
    assert found.special == {}
    assert set(found.config) == {key.name for key in keys(Experiment) if key.identity} - set(FREE)


@pytest.mark.parametrize(
    ("key", "value"),
    [("optimizer.epochs", 12), ("data.limit", 500), ("evaluation.features", "z")],
)
def test_any_other_key_parts_settings_and_is_named(tmp_path, make, key, value):
    make.put(tmp_path, make.pair("crop", "color"), 40.0)
    make.put(tmp_path, make.pair("crop", "color", **{key: value}), 45.0)
    found = settings(analysis.load(tmp_path), "figure5", FREE)
    assert len({setting.name for setting in found}) == 2
    for setting in found:
        assert setting.name.startswith("figure5-shapes-")
        assert list(setting.special) == [key]
    assert len({setting.description for setting in found}) == 2
    assert all(setting.description.count("epoch") == 1 for setting in found)
    assert {setting.special[key]: setting.runs["top1"].item() for setting in found}[value] == 45.0


def test_keys_that_cannot_change_a_result_part_nothing(tmp_path, make):
    make.put(tmp_path, make.pair("crop", "color", seed=0), 40.0)
    make.put(tmp_path, make.pair("crop", "color", seed=1, **{"compute.device": "cuda"}), 40.0)
    assert len(settings(analysis.load(tmp_path), "figure5", FREE)) == 1


def test_settings_on_different_data_keep_plain_names(tmp_path, make):
    make.put(tmp_path, make.pair("crop", "color"), 40.0)
    make.put(tmp_path, make.pair("crop", "color", **{"data.label": "My Images (v2)"}), 40.0)
    names = [setting.name for setting in settings(analysis.load(tmp_path), "figure5", FREE)]
    assert names == ["figure5-my-images-v2", "figure5-shapes"]


def test_description_reads_as_a_caption(tmp_path, make):
    changes = {"encoder.architecture": "resnet50", "encoder.width": 2, "data.limit": 5000}
    make.put(tmp_path, make.pair("crop", "color", **changes, **{"optimizer.epochs": 1}), 40.0)
    (found,) = settings(analysis.load(tmp_path), "figure5", FREE)
    expected = "shapes (5,000 training images), ResNet-50 (2x), 1 epoch, batch size 256"
    assert found.description == expected


def test_matching_ignores_free_groups_only(tmp_path, make):
    make.put(tmp_path, make.pair("crop", "color"), 40.0)
    make.put(tmp_path, make.random_encoder(**{"optimizer.epochs": 50}), 30.0)
    make.put(tmp_path, make.random_encoder(**{"data.limit": 500}), 20.0)
    runs = analysis.load(tmp_path)
    (setting,) = settings(runs[runs["objective"] == "contrastive"], "figure5", FREE)
    untrained = runs[runs["objective"] == "none"]
    free = ("objective", "views", "loss", "head", "optimizer", "seed")
    assert matching(untrained, setting.config, free)["top1"].tolist() == [30.0]
    assert not any(key.startswith("optimizer") for key in fixed_keys(free))


def test_runs_of_one_seed_count_once(tmp_path, make):
    for epochs, top1 in [(6, 30.0), (12, 32.0)]:
        make.put(tmp_path, make.experiment(**{"optimizer.epochs": epochs}), top1)
    make.put(tmp_path, make.experiment(seed=1), 33.0)
    found = accuracies(analysis.load(tmp_path))
    assert found is not None
    assert found.by_seed == {0: 31.0, 1: 33.0}


def test_runs_in_which_a_key_does_not_count_belong_to_all_its_values(tmp_path, make):
    """A pair without colour is the same at every strength of colour distortion."""
    make.put(tmp_path, make.pair("crop", "sobel"), 30.0)
    for strength in (0.5, 1.0):
        make.put(
            tmp_path, make.pair("crop", "color", **{"views.strength": strength}), 40 * strength
        )
    found = settings(analysis.load(tmp_path), "figure5", FREE)
    assert {s.special["views.strength"]: sorted(s.runs["top1"]) for s in found} == {
        0.5: [20.0, 30.0],
        1.0: [30.0, 40.0],
    }
    assert all(list(setting.special) == ["views.strength"] for setting in found)
    assert {setting.config["views.blur"] for setting in found} == {UNUSED}


def test_what_only_repeats_another_setting_is_no_setting(tmp_path, make):
    """Crops at three lengths belong to both strengths; at one of these, a single run is not worth a table."""
    free = ("views.policy", "optimizer.epochs", "seed")
    crop = {"views.policy": "crop", "objective": "supervised"}

    def strengths(*runs):
        store = tmp_path / str(len(list(tmp_path.iterdir())))
        for epochs in (6, 12, 24):
            make.put(store, make.experiment(**crop, **{"optimizer.epochs": epochs}), 40.0)
        for strength, epochs in runs:
            changes = {"views.strength": strength, "optimizer.epochs": epochs}
            make.put(store, make.experiment(objective="supervised", **changes), 50.0)
        found = settings(analysis.load(store), "tableB3", free, least=2)
        return {setting.config["views.strength"] for setting in found}

    assert strengths((1.0, 6), (1.0, 12), (0.5, 6)) == {1.0}
    assert strengths((1.0, 6), (1.0, 12), (0.5, 6), (0.5, 24)) == {1.0, 0.5}
    assert strengths((1.0, 6), (0.5, 6)) == {1.0, 0.5}
    assert strengths() == {UNUSED}


def test_groups_are_all_that_agree_where_both_count():
    """Beside a plain search: sets of rows any two of which agree, that nothing can be added to."""
    chosen = random.Random()

    def agree(one, other):
        return all(UNUSED in (a, b) or a == b for a, b in zip(one, other, strict=True))

    for _ in range(200):
        rows = [
            tuple(chosen.choice([UNUSED, 0, 1]) for _ in range(3))
            for _ in range(chosen.randint(1, 7))
        ]
        sets = [
            places
            for size in range(1, len(rows) + 1)
            for places in itertools.combinations(range(len(rows)), size)
            if all(agree(rows[k], rows[j]) for k, j in itertools.combinations(places, 2))
        ]
        largest = {p for p in sets if not any(set(p) < set(other) for other in sets)}
        assert {tuple(places) for places in _groups(rows).values()} == largest, rows


def test_the_random_encoder_is_one_whatever_it_does_not_use(tmp_path, make):
    make.put(tmp_path, make.pair("crop", "color"), 40.0)
    make.put(tmp_path, make.random_encoder(**{"loss.temperature": 0.9, "head.dim": 7}), 25.0)
    make.put(tmp_path, make.random_encoder(**{"evaluation.knn": 7}), 26.0)
    runs = analysis.load(tmp_path)
    (setting,) = settings(runs[runs["objective"] == "contrastive"], "figure5", FREE)
    assert random_encoder(runs, setting).by_seed == {0: 25.0}
    (whole,) = settings(runs[runs["objective"] == "contrastive"], "any", ("encoder", "seed"))
    assert random_encoder(runs, whole) is None


def test_plain_values_are_pythons_own_and_the_runs_stay_as_they_were():
    values = {
        "text": ["a", None, "c"],
        "whole": [1, 2, 3],
        "gaps": pd.array([1, None, 3], "Int64"),
        "truth": pd.array([True, None, False], "boolean"),
        "real": [0.5, float("nan"), 2.0],
    }
    expected = [("a", 1, 1, True, 0.5, None), (None, 2, None, None, None, None)]
    expected.append(("c", 3, 3, False, 2.0, None))
    # Unpickled, as processes get them, strings lie in an array that pandas does not copy.
    runs = pickle.loads(pickle.dumps(pd.DataFrame(values)))
    before = runs.copy(deep=True)
    found = plain_values(runs, [*values, "nowhere"])
    assert found == expected
    assert [list(map(type, row)) for row in found] == [list(map(type, row)) for row in expected]
    pd.testing.assert_frame_equal(runs, before)
    assert plain_values(runs, []) == [(), (), ()]


def test_seed_range():
    assert seed_range([1, 1]) == "1 seed"
    assert seed_range([3]) == "3 seeds"
    assert seed_range([3, 2, 3]) == "2 to 3 seeds per cell"
