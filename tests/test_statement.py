"""Findings of the user's own: which cells they compare, and what is wrong with them."""

import itertools
import random

import pytest

from simclr_ablate.statement import DefinitionError, Statement, normal, read_statement, selects

KEYS = ["loss.temperature", "optimizer.batch_size", "loss.name"]
TAU, SIZE, LOSS = KEYS
CELLS = [
    {TAU: tau, SIZE: size, LOSS: loss}
    for tau, size, loss in itertools.product((0.1, 0.5, 1.0), (32, 64), ("a", "b"))
]


def read(**given) -> Statement:
    return read_statement({"say": "It is so.", **given}, ("findings", 0), KEYS)


def compared(statement: Statement, cells=CELLS) -> set:
    """Each difference as the two sets of cells that it compares."""
    return {
        tuple(frozenset(tuple(cells[k].values()) for k in side.cells) for side in (one, other))
        for one, other, _ in (
            (each.first, each.second, each.at) for each in statement.contrasts(cells)
        )
    }


def all_with(**values):
    names = {"tau": TAU, "size": SIZE, "loss": LOSS}
    chosen = {names[name]: value for name, value in values.items()}
    return frozenset(tuple(cell.values()) for cell in CELLS if chosen.items() <= cell.items())


def test_two_sides_are_means_over_all_else() -> None:
    statement = read(higher={TAU: 0.1}, than={TAU: 1.0})
    assert compared(statement) == {(all_with(tau=0.1), all_with(tau=1.0))}


def test_at_every_value_of_a_key_there_is_a_difference_of_its_own() -> None:
    statement = read(higher={TAU: 0.1}, than={TAU: 1}, at_every=[SIZE, LOSS])
    assert compared(statement) == {
        (all_with(tau=0.1, size=size, loss=loss), all_with(tau=1.0, size=size, loss=loss))
        for size in (32, 64)
        for loss in ("a", "b")
    }


def test_the_highest_is_compared_with_each_other() -> None:
    statement = read(highest={TAU: 0.5, LOSS: "a"})
    others = set(itertools.product((0.1, 0.5, 1.0), ("a", "b"))) - {(0.5, "a")}
    assert compared(statement) == {
        (all_with(tau=0.5, loss="a"), all_with(tau=tau, loss=loss)) for tau, loss in others
    }


def test_alike_goes_either_way_and_where_leaves_cells_out() -> None:
    statement = read(alike=[{SIZE: 32}, {SIZE: 64}], within=1, where={LOSS: "b"}, at_every=TAU)
    assert (statement.limit, statement.below) == (1.0, True)
    assert compared(statement) == {
        (all_with(tau=tau, size=one, loss="b"), all_with(tau=tau, size=other, loss="b"))
        for tau in (0.1, 0.5, 1.0)
        for one, other in ((32, 64), (64, 32))
    }


@pytest.mark.parametrize(("form", "steps"), [("rises_with", 1), ("falls_with", -1)])
def test_steps_go_from_each_number_to_the_next(form: str, steps: int) -> None:
    cells = random.sample(CELLS, len(CELLS))  # their order does not matter
    statement = read(**{form: TAU})
    pairs = [(0.5, 0.1), (1.0, 0.5)]
    assert compared(statement, cells) == {
        tuple(all_with(tau=tau) for tau in pair[::steps]) for pair in pairs
    }


def test_sides_are_compared_over_the_cells_that_both_have() -> None:
    lacking = [cell for cell in CELLS if (cell[TAU], cell[LOSS]) != (1.0, "b")]
    statement = read(higher={TAU: 0.1}, than={TAU: 1.0})
    ((one, other),) = compared(statement, lacking)
    assert one == all_with(tau=0.1, loss="a")
    assert other == all_with(tau=1.0, loss="a")
    at_every = read(higher={TAU: 0.1}, than={TAU: 1.0}, at_every=LOSS)
    assert len(compared(at_every, lacking)) == 1
    assert read(higher={TAU: 0.1}, than={TAU: 7.0}).contrasts(CELLS) == []


def test_values_are_equal_as_yaml_means_them() -> None:
    assert normal(1) == normal(1.0) != normal(True) != normal("true")
    assert selects({TAU: 1}, {TAU: 1.0})
    assert not selects({TAU: "1"}, {TAU: 1.0})


@pytest.mark.parametrize(
    "given",
    [
        {"higher": {TAU: 0.1}, "than": {TAU: 1.0}, "by_more_than": 2.5, "at_every": [SIZE]},
        {"higher": {TAU: 0.1}, "than": {TAU: 1.0}, "by_less_than": 0.5, "where": {LOSS: "a"}},
        {"highest": {TAU: 0.1}},
        {"alike": [{TAU: 0.1}, {TAU: 1.0}], "within": 0.7},
        {"falls_with": TAU, "at_every": SIZE},
    ],
)
def test_a_record_makes_the_same_finding_again(given) -> None:
    statement = read(**given)
    assert read_statement(statement.to_record(), (), KEYS) == statement


@pytest.mark.parametrize(
    ("given", "path", "words"),
    [
        ([], (), "must be a mapping with say and one of higher, highest, alike"),
        ({"higher": {TAU: 1}}, (), "must have than beside higher"),
        ({"say": "x"}, (), "must have one of higher, highest, alike, rises_with or falls_with"),
        ({"highest": {TAU: 1}, "rises_with": TAU}, (), "got highest and rises_with"),
        ({"highst": {TAU: 1}}, ("highst",), "is an unknown key; did you mean highest?"),
        ({"highest": {"loss.temp": 1}}, ("highest",), "got 'loss.temp'; did you mean"),
        ({"highest": {}}, ("highest",), "must map keys to values, such as {loss.temperature"),
        ({"highest": {TAU: [1]}}, ("highest", TAU), "must be a plain value, got [1]"),
        ({"highest": {TAU: float("nan")}}, ("highest", TAU), "must be a plain value"),
        ({"highest": {TAU: 1}, "than": {TAU: 2}}, ("than",), "is an unknown key"),
        ({"higher": {TAU: 1}, "than": {SIZE: 2}}, ("than",), "must name loss.temperature"),
        ({"higher": {TAU: 1}, "than": {TAU: 1.0}}, ("than",), "must select other cells than"),
        (
            {"alike": [{TAU: 1, SIZE: 2}, {SIZE: 2, TAU: 1}], "within": 1},
            ("alike", 1),
            "must select other cells than sweep.artefact.findings[2].alike[0]",
        ),
        ({"alike": [{TAU: 1}], "within": 1}, ("alike",), "must be a list of two mappings"),
        ({"alike": [{TAU: 1}, {TAU: 2}]}, (), "must have within beside alike"),
        ({"alike": [{TAU: 1}, {TAU: 2}], "within": 0}, ("within",), "must be > 0, got 0"),
        ({"highest": {TAU: 1}, "by_more_than": "a"}, ("by_more_than",), "must be a number"),
        ({"highest": {TAU: 1}, "at_every": TAU}, ("at_every",), "must name other keys than"),
        ({"rises_with": TAU, "where": {TAU: 1}}, ("where",), "must name other keys than"),
        (
            {"higher": {TAU: 1}, "than": {TAU: 2}, "by_more_than": 1, "by_less_than": 2},
            ("by_less_than",),
            "must not be given with by_more_than",
        ),
        ({"rises_with": TAU, "say": " "}, ("say",), "must be text, got ' '"),
        ({"rises_with": TAU, "say": 600 * "x"}, ("say",), "at most 500 characters, got 600"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(given, path, words) -> None:
    if isinstance(given, dict) and "say" not in given:
        given = {"say": "It is so.", **given}
    with pytest.raises(DefinitionError) as wrong:
        read_statement(given, ("findings", 2), KEYS)
    assert wrong.value.path == ("findings", 2, *path)
    assert words in wrong.value.problem
    assert str(wrong.value).startswith("sweep.artefact.findings[2]")


def test_a_finding_without_a_sentence_is_refused() -> None:
    with pytest.raises(DefinitionError, match="must have say"):
        read_statement({"rises_with": TAU}, (), KEYS)
