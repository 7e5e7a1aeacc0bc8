"""Records of JSON: their shapes, told in words, and their digests."""

import json
import random
import typing
from pathlib import Path
from typing import Any

import pytest

from simclr_ablate.identity import run_id, run_id_of
from simclr_ablate.store import records
from simclr_ablate.store.records import (
    EvaluationRecord,
    mismatch,
    owner_of,
    read_sealed,
    write_sealed,
)


@pytest.mark.parametrize(
    ("shape", "good", "bad"),
    [
        (float, [1, 1.5, float("inf")], [True, "1", None, [1.0]]),
        (int, [0, -3], [1.0, True, None]),
        (str | None, ["", None], [0, [], {}]),
        (list[str], [[], ["a"]], [["a", 1], "a", {"a": "b"}, None]),
        (dict[str, float], [{}, {"a": 1}], [{"a": "1"}, [], None]),
        (tuple[bool, int], [[True, 1]], [[1, True], [True], [True, 1, 2], {}]),
        (dict[str, Any], [{"a": {"b": [None]}}], [[], "a"]),
        (list[dict[str, Any]], [[], [{}]], [[[]], {}]),
    ],
)
def test_values_and_shapes(shape: Any, good: list[Any], bad: list[Any]) -> None:
    assert all(mismatch(value, shape) is None for value in good)
    assert all(mismatch(value, shape) for value in bad)


@pytest.mark.parametrize("shape", [v for v in vars(records).values() if typing.is_typeddict(v)])
def test_every_key_of_every_record_is_looked_at(shape: Any) -> None:
    """Each that must be there cannot be left out, and none can be of another type."""
    samples = {str: "a", int: 1, float: 0.5, bool: True, dict: {}, list: [], tuple: [True, 1]}
    hints = typing.get_type_hints(shape)
    whole = {name: samples.get(typing.get_origin(hint) or hint) for name, hint in hints.items()}
    assert mismatch(whole, shape) is None
    assert mismatch(whole | {"another": 1}, shape) is None
    for name in hints:
        less = {key: value for key, value in whole.items() if key != name}
        required = name in shape.__required_keys__
        assert (mismatch(less, shape) == f"{name} is missing") == required
        problem = mismatch(whole | {name: object()}, shape)
        assert problem is not None
        assert name in problem


def test_one_changed_character_is_noticed(tmp_path: Path) -> None:
    draw = random.Random()
    path = tmp_path / "h-1.json"
    content = {"config": {"features": "h"}, "metrics": {"top1": draw.uniform(10, 90), "l2": 1e-6}}
    write_sealed(path, content, "run/h-1")
    assert read_sealed(path, EvaluationRecord, "run/h-1") == content
    text = path.read_text()
    for _ in range(200):
        place = draw.randrange(len(text))
        other = draw.choice("0123456789abcxyz{}[],:. ")
        path.write_text(text[:place] + other + text[place + 1 :])
        assert read_sealed(path, EvaluationRecord, "run/h-1") in (None, content)


def test_a_record_is_its_owners_alone_wherever_the_store_lies(tmp_path: Path, caplog) -> None:
    owner = owner_of(tmp_path / "run", "h-1")
    assert owner == owner_of(Path("/elsewhere/run"), "h-1")
    path = tmp_path / "h-1.json"
    write_sealed(path, {"loss": 1.0}, owner)
    assert read_sealed(path, dict[str, float], owner) == {"loss": 1.0}
    for other in (owner_of(tmp_path / "run2", "h-1"), owner_of(tmp_path / "run", "h-2")):
        assert read_sealed(path, dict[str, float], other) is None
    assert f"it belongs to {owner}" in caplog.text


def test_a_record_of_before_there_were_owners_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "h-1.json"
    path.write_text('{"loss": 1.0}')
    assert read_sealed(path, dict[str, float], "run/h-1") == {"loss": 1.0}


def test_the_id_of_a_config_is_that_of_its_experiment(make_experiment) -> None:
    for overrides in ([], ["seed=3", "objective=supervised"], ["views=pair", "views.first=crop"]):
        experiment = make_experiment(*overrides)
        read_back = json.loads(json.dumps(experiment.to_config()))
        assert run_id_of(read_back) == run_id(experiment)
    del read_back["data"]["seed"]
    with pytest.raises(ValueError, match=r"keys of the schema: data\.seed"):
        run_id_of(read_back)
    with pytest.raises(ValueError, match="keys of the schema: compute"):
        run_id_of({})
