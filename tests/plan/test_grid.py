"""A sweep is the union of its grids, and each point is what Hydra alone would have composed."""

import itertools
import random
import time

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from simclr_ablate.config import ConfigError
from simclr_ablate.plan.grid import (
    Composer,
    Grids,
    expand,
    literal,
    resolve,
    split_overrides,
    value_of,
)

GROUPS = {"data", "views", "encoder", "head", "loss", "optimizer", "evaluation", "scale"}


@pytest.fixture
def composer(compose_config):
    return Composer(compose_config, GROUPS.__contains__)


@pytest.mark.slow
def test_points_equal_what_hydra_composes(composer, make_experiment):
    rng = random.Random(0)
    choices = {
        "views": ["simclr", "none"],
        "loss.temperature": [0.05, 1.0],
        "loss.normalize": [True, False],
        "scale.epochs": [3, 12],
        "optimizer": ["adamw", "lars"],
        "optimizer.warmup_epochs": [0, 1],
        "data.limit": [None, 5000],
        "seed": [0, 5],
    }
    for _ in range(12):
        point = {name: rng.choice(values) for name, values in choices.items()}
        literals = {None: "null", True: "true", False: "false"}
        overrides = [
            f"{k}={literals[v] if v is None or isinstance(v, bool) else v}"
            for k, v in point.items()
        ]
        assert composer.experiment(point) == make_experiment(*overrides)


REFERENCES = (
    "${optimizer.lr}",
    "${..optimizer.lr}",
    "${loss[temperature]}",
    "${oc.select:optimizer.lr}",
    "${oc.select:nothing,0.25}",
    "${scale.epochs}",
)


@pytest.mark.slow
def test_points_equal_what_hydra_composes_where_keys_follow_others(
    compose_config, make_experiment
) -> None:
    """Whatever the spelling of the reference, in the config itself, with a swept group, or as a swept value."""
    rng = random.Random()
    for _ in range(8):
        first, second = rng.sample(REFERENCES, 2)
        lines = [f"views.strength={literal(first)}"]
        composer = Composer(
            lambda more, lines=lines: compose_config([*lines, *more]), GROUPS.__contains__
        )
        point = {"optimizer": "lars", "seed": rng.randrange(9), "scale.epochs": rng.randint(1, 2)}
        if rng.random() < 0.5:
            point["optimizer.weight_decay"] = second
        point["optimizer.lr"] = round(0.1 + rng.random(), 3)
        point["loss.temperature"] = round(0.1 + rng.random(), 3)
        point = dict(rng.sample(list(point.items()), len(point)))
        overrides = [f"{name}={literal(value)}" for name, value in point.items()]
        assert composer.experiment(point) == make_experiment(*lines, *overrides), (lines, point)


def test_values_are_read_by_hydras_grammar() -> None:
    parser = OverridesParser.create()
    for text in (
        "010",
        "@a",
        r"'it\'s'",
        "'1'",
        "${optimizer.lr}",
        "[1,'x, y']",
        "1e-3",
        "null",
        "''",
    ):
        swept, _ = split_overrides([parser.parse_override(f"data.label={text},other")])
        expected = parser.parse_override(f"data.label={text}").value()
        assert [value_of(each) for each in swept["data.label"]] == [expected, "other"]


def test_the_augmentation_grid_is_the_papers(composer, compose_config):
    sweep = resolve(compose_config(["sweep=augmentation_grid"]))["sweep"]
    experiments = expand(composer, Grids.from_config(sweep), {}, [])
    names = ["crop", "cutout", "color", "sobel", "noise", "blur", "rotate"]
    pairs = [(e.views.first, e.views.second) for e in experiments if e.objective == "contrastive"]
    assert pairs == list(itertools.product(names, names))
    assert sum(e.objective == "none" for e in experiments) == 1
    assert len(experiments) == 50


def test_union_seeds_and_doubles(composer):
    grids = Grids.from_config(
        {
            "seeds": [0, 1],
            "grids": [
                {"loss.temperature": [0.1, 0.5]},
                {"loss.temperature": 0.5},
                {"loss.temperature": [0.5], "seed": [1, 2]},
            ],
        }
    )
    found = [(e.loss.temperature, e.seed) for e in expand(composer, grids, {}, [])]
    assert found == [(0.1, 0), (0.1, 1), (0.5, 0), (0.5, 1), (0.5, 2)]


def test_the_command_line_wins_over_the_sweep(composer):
    parser = OverridesParser.create()
    texts = ["views.first=crop,color", "seed=7", "loss.temperature=range(1,4)", "head=none,linear"]
    listed, plain = split_overrides(parser.parse_overrides(texts))
    swept = {name: list(map(value_of, values)) for name, values in listed.items()}
    assert swept == {
        "views.first": ["crop", "color"],
        "loss.temperature": [1, 2, 3],
        "head": ["none", "linear"],
    }
    assert [override.input_line for override in plain] == ["seed=7"]
    grids = Grids.from_config(
        {"seeds": [0, 1], "grids": [{"views": "pair", "views.first": ["sobel", "noise"]}]}
    )
    experiments = expand(composer, grids, swept, ["seed"])
    assert len(experiments) == 2 * 3 * 2
    assert {e.views.first for e in experiments} == {"crop", "color"}


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"grids": {"seed": [0]}}, r"sweep\.grids must be a list"),
        ({}, r"sweep\.grids must be a list"),
        ({"grids": [{"seed": []}]}, "seed must have at least one value"),
    ],
)
def test_what_is_no_sweep_is_refused(sweep, message):
    with pytest.raises(ConfigError, match=message):
        Grids.from_config(sweep)


def test_an_unknown_key_in_a_grid_is_named(composer):
    grids = Grids.from_config({"grids": [{"loss.temprature": [0.1]}]})
    with pytest.raises(ConfigError, match=r"unknown key loss\.temprature; did you mean loss\.temp"):
        expand(composer, grids, {}, [])


def test_a_thousand_points_compose_each_group_once(composer, compose_config):
    calls = []
    counting = Composer(
        lambda lines: calls.append(lines) or compose_config(lines), GROUPS.__contains__
    )
    grids = Grids.from_config({"grids": [{"head": ["none", "linear"], "seed": list(range(500))}]})
    start = time.perf_counter()
    assert len(expand(counting, grids, {}, [])) == 1000
    assert len(calls) == 3
    assert time.perf_counter() - start < 60


def test_a_literal_is_read_by_hydra_as_the_text_that_it_is_of():
    draw, parser = random.Random(), OverridesParser.create()
    for _ in range(300):
        text = "".join(draw.choices("\\'\"a \n$,={[", k=draw.randint(0, 8)))
        assert parser.parse_override(f"data.label={literal(text)}").value() == text


def test_two_pluses_before_a_key_change_nothing() -> None:
    parser = OverridesParser.create()
    listed, plain = split_overrides(parser.parse_overrides(["++seed=7,8"]))
    assert listed == {"seed": ["7", "8"]}
    assert not plain
    listed, (last,) = split_overrides(parser.parse_overrides(["seed=0,1", "++seed=5"]))
    assert not listed
    assert last.value() == 5
