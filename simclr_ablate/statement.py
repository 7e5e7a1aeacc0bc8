"""Findings of the user's own: what a sweep's YAML may say that runs then confirm or refute.

    findings:
      - say: A low temperature is better at every batch size.
        higher: {loss.temperature: 0.1}     # the mean over these cells minus that over those
        than: {loss.temperature: 1.0}
        at_every: optimizer.batch_size      # a key or a list of keys; may be left out
        by_more_than: 0                     # or by_less_than: the difference is below it
      - {say: ..., highest: {loss.temperature: 0.2}}                 # above each other value
      - {say: ..., alike: [{loss.temperature: 0.1}, {loss.temperature: 0.2}], within: 1.0}
      - {say: ..., rises_with: loss.temperature}                     # from each value to the next; or falls_with

Each of them may also have `where: {loss.name: nt_xent}`, the cells that it is about.

A statement becomes differences between the means of cells. Two sides are compared over the cells that both have: the
values of keys that no side names are the same on either.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simclr_ablate.config import ConfigError, as_yaml, nearest

FORMS = ("higher", "highest", "alike", "rises_with", "falls_with")
"""What a finding may say, by the key that says it."""
_BESIDE = {
    "higher": ("than", "by_more_than", "by_less_than"),
    "highest": ("by_more_than",),
    "alike": ("within",),
    "rises_with": (),
    "falls_with": (),
}
"""The keys that a form takes besides its own."""
_ALWAYS = ("say", "at_every", "where")
"""The keys that every form takes."""
UNUSED = "–"
"""The value of a key that does not count in a run."""

Scalar = str | int | float | bool | None
Path = tuple[Any, ...]
"""Where something is below `artefact`: keys, and places in lists."""
Selection = Mapping[str, Scalar]
"""Values of some keys, which select cells."""


class DefinitionError(ConfigError):
    """What is wrong with an artefact of the user's own. path: where it is below `artefact`."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{spelt(path)} {problem}")
        self.path, self.problem = path, problem


def spelt(path: Path) -> str:
    """`sweep.artefact.findings[0].higher`"""
    return "sweep.artefact" + "".join(
        f"[{step}]" if type(step) is int else f".{as_yaml(step)}" for step in path
    )


@dataclass(frozen=True)
class Side:
    """One side of a difference: the values that select it, and its cells, by their places in the list of cells."""

    values: Selection
    cells: tuple[int, ...]


@dataclass(frozen=True)
class Contrast:
    """The mean over the cells of `first` minus that over those of `second`. at: the values that both have in common."""

    first: Side
    second: Side
    at: Selection


@dataclass(frozen=True)
class Statement:
    """A finding of the user's own.

    say: the sentence. form: one of FORMS. sides: what `higher` and `than`, `highest` or `alike` select. key: that of
    `rises_with` or `falls_with`, else empty. at_every: the keys at each of whose values it holds. where: the values of
    the cells that it is about; empty: all cells. limit: in the unit of the metric. below: whether the differences are
    to be below the limit, not above it.
    """

    say: str
    form: str
    sides: tuple[Selection, ...] = ()
    key: str = ""
    at_every: tuple[str, ...] = ()
    where: Selection = field(default_factory=dict)
    limit: float = 0.0
    below: bool = False

    def to_record(self) -> dict[str, Any]:
        """The finding as in YAML, for JSON."""
        record: dict[str, Any] = {"say": self.say, "at_every": list(self.at_every)}
        if self.where:
            record["where"] = dict(self.where)
        if self.form == "alike":
            return {**record, "alike": [dict(side) for side in self.sides], "within": self.limit}
        if self.key:
            return {**record, self.form: self.key}
        record["by_less_than" if self.below else "by_more_than"] = self.limit
        sides = zip((self.form, "than"), self.sides, strict=False)
        return {**record, **{name: dict(side) for name, side in sides}}

    def contrasts(self, cells: Sequence[Selection]) -> list[Contrast]:
        """The differences that it is about. cells: the values of all keys of each cell of the table."""
        found = []
        chosen = [k for k, cell in enumerate(cells) if selects(self.where, cell)]
        for at in _distinct([cells[k] for k in chosen], self.at_every):
            here = [k for k in chosen if selects(at, cells[k])]
            for first, second in self._pairs([cells[k] for k in here]):
                sides = _compared(cells, here, at, first, second)
                if sides is not None:
                    found.append(Contrast(*sides, {**at, **self.where}))
        return found

    def _pairs(self, cells: Sequence[Selection]) -> Iterator[tuple[Selection, Selection]]:
        """The selections that are compared, among cells that have the values of `at_every` in common."""
        if self.form == "higher":
            yield self.sides[0], self.sides[1]
        elif self.form == "alike":
            one, other = self.sides
            yield from ((one, other), (other, one))
        elif self.form == "highest":
            (best,) = self.sides
            for other in _distinct(cells, tuple(best)):
                if not selects(best, other):
                    yield best, other
        else:
            ordered = sorted(
                (each for each in _distinct(cells, (self.key,)) if is_number(each[self.key])),
                key=lambda each: float(each[self.key]),  # type: ignore[arg-type]
            )
            for lower, higher in itertools.pairwise(ordered):
                yield (higher, lower) if self.form == "rises_with" else (lower, higher)


def _compared(
    cells: Sequence[Selection],
    here: Sequence[int],
    at: Selection,
    first: Selection,
    second: Selection,
) -> tuple[Side, Side] | None:
    """The two sides, over the cells that differ in nothing else; None if there are none."""
    rest = [key for key in cells[0] if key not in at and key not in first]

    def by_rest(selection: Selection) -> dict[Any, int]:
        return {
            tuple(normal(cells[k][key]) for key in rest): k
            for k in here
            if selects(selection, cells[k])
        }

    one, other = by_rest(first), by_rest(second)
    common = [place for place in one if place in other]
    if not common:
        return None
    return (
        Side(first, tuple(one[place] for place in common)),
        Side(second, tuple(other[place] for place in common)),
    )


def selects(selection: Selection, cell: Selection) -> bool:
    """Whether a cell has these values."""
    return all(normal(cell[key]) == normal(value) for key, value in selection.items())


def normal(value: Scalar) -> tuple[str, Any]:
    """A value by which equal ones can be found: 1 and 1.0 are equal, 1 and true are not."""
    return ("number", float(value)) if is_number(value) else (type(value).__name__, value)  # type: ignore[arg-type]


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _distinct(cells: Iterable[Selection], keys: Sequence[str]) -> list[Selection]:
    """The different values of `keys` among cells, in their order."""
    found: dict[Any, Selection] = {}
    for cell in cells:
        found.setdefault(tuple(normal(cell[key]) for key in keys), cell)
    return [{key: cell[key] for key in keys} for cell in found.values()]


def read_statement(given: Any, path: Path, keys: Sequence[str]) -> Statement:
    """A finding of a definition whose axes vary `keys`. Raises DefinitionError."""
    if not isinstance(given, Mapping):
        raise DefinitionError(
            path, f"must be a mapping with say and one of {_FORMS}, got {given!r}"
        )
    forms = [form for form in FORMS if form in given]
    if len(forms) != 1:
        known = [*_ALWAYS, *FORMS, *(name for names in _BESIDE.values() for name in names)]
        check_keys(given, path, known)
        raise DefinitionError(
            path, f"must have one of {_FORMS}, got {' and '.join(forms) or 'none of them'}"
        )
    (form,) = forms
    check_keys(given, path, (form, *_BESIDE[form], *_ALWAYS))
    if "say" not in given:
        raise DefinitionError(path, "must have say: what the finding is, in a sentence")
    key = ""
    if form in ("rises_with", "falls_with"):
        (key,) = read_keys([given[form]], (*path, form), keys)
    sides = _sides(given, path, form, keys)
    at_every = given.get("at_every", [])
    at_every = [at_every] if isinstance(at_every, str) else at_every
    at_every = tuple(read_keys(at_every, (*path, "at_every"), keys))
    where: Selection = {}
    if "where" in given:
        where = _selection(given["where"], (*path, "where"), keys)
    for other, names in (("at_every", at_every), ("where", where)):
        for name in names:
            if name == key or name in (sides[0] if sides else ()):
                raise DefinitionError(
                    (*path, other), f"must name other keys than {form}, got {name}"
                )
    limit, below = _limit(given, path, form)
    say = read_text(given["say"], (*path, "say"))
    return Statement(say, form, sides, key, at_every, where, limit, below)


_FORMS = f"{', '.join(FORMS[:-1])} or {FORMS[-1]}"


def _sides(
    given: Mapping[str, Any], path: Path, form: str, keys: Sequence[str]
) -> tuple[Selection, ...]:
    """What the finding selects. All sides name the same keys."""
    if form in ("rises_with", "falls_with"):
        return ()
    places: list[tuple[Any, Path]] = [(given[form], (*path, form))]
    if form == "higher":
        if "than" not in given:
            raise DefinitionError(path, "must have than beside higher")
        places.append((given["than"], (*path, "than")))
    elif form == "alike":
        pair = read_list(given[form], (*path, form))
        if len(pair) != 2:
            raise DefinitionError((*path, form), f"must be a list of two mappings, got {len(pair)}")
        places = [(each, (*path, form, k)) for k, each in enumerate(pair)]
    sides = tuple(_selection(each, where, keys) for each, where in places)
    for side, (_, where) in zip(sides, places, strict=True):
        if side.keys() != sides[0].keys():
            raise DefinitionError(where, f"must name {', '.join(sides[0])}, got {', '.join(side)}")
    if len(sides) > 1 and selects(*sides):
        _, where = places[1]
        raise DefinitionError(where, f"must select other cells than {spelt(places[0][1])}")
    return sides


def _selection(given: Any, path: Path, keys: Sequence[str]) -> Selection:
    if not isinstance(given, Mapping) or not given:
        example = f"{{{keys[0]}: VALUE}}"
        raise DefinitionError(path, f"must map keys to values, such as {example}, got {given!r}")
    read_keys(list(given), path, keys)
    return {name: read_scalar(value, (*path, name)) for name, value in given.items()}


def _limit(given: Mapping[str, Any], path: Path, form: str) -> tuple[float, bool]:
    """The limit of the differences, and whether they are to be below it."""
    if form == "alike" and "within" not in given:
        raise DefinitionError(path, "must have within beside alike: the margin, in points")
    names = [name for name in ("by_more_than", "by_less_than", "within") if name in given]
    if len(names) > 1:
        raise DefinitionError((*path, names[1]), f"must not be given with {names[0]}")
    if not names:
        return 0.0, False
    (name,), value = names, given[names[0]]
    if not is_number(value) or not math.isfinite(value):
        raise DefinitionError((*path, name), f"must be a number, got {value!r}")
    if name == "within" and value <= 0:
        raise DefinitionError((*path, name), f"must be > 0, got {value:g}")
    return float(value), name != "by_more_than"


def check_keys(section: Mapping[Any, Any], path: Path, known: Sequence[str]) -> None:
    """Raises DefinitionError if a mapping has an unknown key."""
    for name in section:
        if name not in known:
            close = nearest(str(name), known) or f" (accepted: {', '.join(known)})"
            raise DefinitionError((*path, name), f"is an unknown key{close}")


def read_keys(
    given: Any, path: Path, known: Sequence[str], what: str = "rows or columns"
) -> list[str]:
    """A list of keys of the config, each one of `known`. what: what these are, in words. Raises DefinitionError."""
    names = read_list(given, path)
    for name in names:
        if name not in known:
            few = f" (accepted: {', '.join(known)})" if len(known) < _FEW else ""
            close = nearest(str(name), known) or few
            raise DefinitionError(path, f"must name keys of {what}, got {name!r}{close}")
    return names


_FEW = 10
"""How few keys a message lists."""


def read_list(given: Any, path: Path) -> list[Any]:
    if not isinstance(given, list | tuple):
        raise DefinitionError(path, f"must be a list, got {given!r}")
    return list(given)


def read_scalar(given: Any, path: Path) -> Scalar:
    """A plain value. Raises DefinitionError."""
    if given is None or isinstance(given, str | bool):
        return given
    if isinstance(given, int | float) and abs(given) <= _LARGEST:
        return given
    raise DefinitionError(path, f"must be a plain value, got {given!r}")


_LARGEST = 2.0**63
"""The largest number that a config can have in JSON and in pandas alike; not a number is no plain value either."""


def read_text(given: Any, path: Path, longest: int = 500) -> str:
    """A text of at least one character, and not too many. Raises DefinitionError."""
    if not isinstance(given, str) or not given.strip():
        raise DefinitionError(path, f"must be text, got {given!r}")
    if len(given) > longest:
        raise DefinitionError(path, f"must have at most {longest} characters, got {len(given)}")
    return given
