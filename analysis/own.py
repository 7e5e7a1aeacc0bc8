"""Artefacts that users' sweeps define, from the records of the launches in a store."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from simclr_ablate.artefact import OURS, Definition
from simclr_ablate.files import report_damage
from simclr_ablate.store import Store
from simclr_ablate.terminal import printable

from .artefacts import ARTEFACTS, Artefact

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class OwnArtefact(Artefact):
    """An artefact that a sweep of the user's defines. Its name is the sweep's.

    stem: what the names of its files begin with.
    """

    definition: Definition = field(kw_only=True)
    stem: str = field(kw_only=True)

    @property
    def of_paper(self) -> bool:
        return False

    @property
    def label(self) -> str:
        return self.title

    @property
    def heading(self) -> str:
        return self.title

    @property
    def anchor(self) -> str:
        return f"own-{self.stem}"

    @property
    def module_name(self) -> str:
        return f"{Artefact.__module__}.own"

    def runs_for(self, runs: "pd.DataFrame") -> "pd.DataFrame":
        """The runs of the sweep, and random encoders."""
        stays = [
            objective == "none" or self.name in names
            for objective, names in zip(runs["objective"], runs["sweeps"], strict=True)
        ]
        return runs.loc[stays]


def artefacts_of(store: str | Path) -> dict[str, Artefact]:
    """The paper's artefacts and, after them, those that sweeps in the store define, by name."""
    return {**ARTEFACTS, **own_artefacts(store)}


def own_artefacts(store: str | Path) -> dict[str, OwnArtefact]:
    """The artefacts that sweeps in the store define, by the sweep's name, as the last launch of each has it.

    Damaged definitions are reported and left out.
    """
    found: dict[str, Definition] = {}
    launches = Store(store).launches().items()
    for path, launch in sorted(launches, key=lambda item: (item[1].time, len(item[1].run_ids))):
        found.pop(launch.name, None)
        if launch.artefact is None:
            continue
        if launch.name in OURS:
            report_damage(path, f"{launch.name} is a name of ours, not of an artefact of one's own")
            continue
        try:
            found[launch.name] = Definition.from_record(launch.artefact)
        except ValueError as error:
            report_damage(path, str(error))
    slugs = Counter(map(_slug, found))
    return {
        name: OwnArtefact(
            name=name,
            title=printable(definition.title),
            sweep=name,
            needs="finished runs of one setting in two or more of its cells",
            definition=definition,
            stem=_stem(name, slugs[_slug(name)] == 1),
        )
        for name, definition in found.items()
    }


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _stem(name: str, alone: bool) -> str:
    """The beginning of file names, which no other artefact has. alone: whether no other has the same slug."""
    slug = _slug(name)
    ours = any(f"{slug}-".startswith(f"{other.lower()}-") for other in ARTEFACTS)
    if slug and alone and not ours:
        return slug
    return "-".join(filter(None, ["own", slug, hashlib.sha256(name.encode()).hexdigest()[:6]]))
