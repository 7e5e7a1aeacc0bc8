"""Claims of the user's own: what the definition of an artefact says, judged as the paper's claims are."""

from collections.abc import Mapping, Sequence
from functools import partial

from simclr_ablate.artefact import Definition
from simclr_ablate.statement import Contrast, Scalar, Selection, Side, Statement

from ..artefacts.own import label_of, metric_of, title_of, values_of
from ..comparison import Part, Place, spell
from ..own import OwnArtefact
from ..settings import shown
from ..typesetting import conjoined, uncapitalized
from .claim import Claim
from .effects import Differences, Extreme, Greatest, Least, Measured, MissingCellsError, average


def claims_of(artefact: OwnArtefact) -> list[Claim]:
    """The claims of an artefact, in the order of its definition."""
    unit = metric_of(artefact.definition.metric).unit
    return [
        Claim(
            name=f"{artefact.stem}-{number}",
            statement=shown(statement.say),
            source=f"Your sweep {shown(artefact.name)}",
            artefacts=(artefact.name,),
            estimate=estimate(artefact.definition, statement, unit),
            differences=partial(differences, artefact.definition, statement),
            extremes=_extremes(statement),
            limit=statement.limit,
            below=statement.below,
            unit=unit,
            own=artefact,
        )
        for number, statement in enumerate(artefact.definition.findings, 1)
    ]


def _extremes(statement: Statement) -> tuple[type[Extreme], ...]:
    """All differences have to be on the statement's side of its limit; empty for a single one."""
    if statement.form == "higher" and not statement.at_every:
        return ()
    return (Greatest,) if statement.below else (Least,)


def differences(definition: Definition, statement: Statement, parts: Sequence[Part]) -> Differences:
    """The differences that a statement is about, from the table. Raises MissingCellsError."""
    (table,) = parts
    cells = {place: _values(definition, place) for place in table.places}
    contrasts = statement.contrasts(list(cells.values()))
    if not contrasts:
        raise MissingCellsError([f"cells to compare, for: {shown(statement.say)}"])
    found = [_difference(definition, table, list(cells), each) for each in contrasts]
    if statement.form == "higher" and not statement.at_every:
        (single,) = found
        return single
    return found


def _difference(
    definition: Definition, table: Part, places: Sequence[Place], contrast: Contrast
) -> Measured:
    def measured(side: Side, at: Selection) -> Measured:
        words = in_words(definition, {**side.values, **at})
        return average(table, [places[k] for k in side.cells], words)

    return measured(contrast.first, contrast.at) - measured(contrast.second, {})


def _values(definition: Definition, place: Place) -> dict[str, Scalar]:
    row, column = place
    of_columns = values_of(column) if definition.columns else ()
    return definition.at(values_of(row), of_columns)


def in_words(definition: Definition, values: Mapping[str, Scalar]) -> str:
    """`temperature 0.1, batch size 32`"""
    return ", ".join(
        f"{uncapitalized(title_of(definition, key))} {' '.join(spell(label_of(definition, [key], (value,))))}"
        for key, value in values.items()
    )


def estimate(definition: Definition, statement: Statement, unit: str) -> str:
    """What is estimated, from which cells, and what it is compared with, in words."""
    named = {key for side in statement.sides for key in side}
    named |= {*statement.at_every, *statement.where}
    rest = [key for key in definition.keys if key not in (*named, statement.key)]
    over = f", averaged over {_titles(definition, rest)}" if rest else ""
    at = f", at every {_titles(definition, statement.at_every)}" if statement.at_every else ""
    side = "below" if statement.below else "above"
    limit = f"{side} {statement.limit:g} {unit}".rstrip() if statement.limit else f"{side} 0"
    what = _contrast(definition, statement)
    where = f", with {in_words(definition, statement.where)}" if statement.where else ""
    return f"{what[:1].upper()}{what[1:]}{where}{over}{at}, is {limit}."


def _contrast(definition: Definition, statement: Statement) -> str:
    sides = [in_words(definition, side) for side in statement.sides]
    if statement.form == "higher":
        return f"{sides[0]} minus {sides[1]}"
    if statement.form == "alike":
        return f"The difference of {sides[0]} and {sides[1]}, either way"
    if statement.form == "highest":
        return f"The least lead of {sides[0]} over each other"
    title = uncapitalized(title_of(definition, statement.key))
    rising = statement.form == "rises_with"
    return f"The change from each {title} to the next {'higher' if rising else 'lower'} one"


def _titles(definition: Definition, keys: Sequence[str]) -> str:
    return conjoined(uncapitalized(title_of(definition, key)) for key in keys)
