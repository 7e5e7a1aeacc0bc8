"""Which tables and figures there are. To add one: a module with `reports`, and a line here."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from analysis.report import Report


class Module(Protocol):
    """A module of an artefact."""

    def reports(self, runs: "pd.DataFrame") -> "list[Report]":
        """One report per setting in `runs` (`analysis.load`); none where no run belongs to it."""


@dataclass(frozen=True)
class Artefact:
    """A table or figure of the paper: `analysis.NAME` draws it, and `sweep` makes its runs."""

    name: str
    title: str
    sweep: str

    @property
    def command(self) -> str:
        return f"python -m simclr_ablate -m sweep={self.sweep}"

    def module(self) -> Module:
        """Imported only now, since the modules load pandas and matplotlib."""
        module: Module = importlib.import_module(f"analysis.{self.name}")
        return module


ARTEFACTS = {
    artefact.name: artefact
    for artefact in [
        Artefact("figure5", "single and paired augmentations on one branch", "augmentation_grid"),
    ]
}
