"""The paper's tables and figures. To add one: a module here with what `Module` has, and a line below."""

import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from analysis.comparison import Comparison
    from analysis.report import LeftOut, Report


LABEL = re.compile(r"(figure|table)([A-Z]?)(\d+)")


class Module(Protocol):
    """A module of an artefact."""

    def reports(self, artefact: "Artefact", runs: "pd.DataFrame") -> "list[Report | LeftOut]":
        """One report for each setting among `runs`, or why there is none."""

    def comparisons(self, artefact: "Artefact", runs: "pd.DataFrame") -> "list[Comparison]":
        """The cells behind these reports; needed where claims rest on them."""


@dataclass(frozen=True)
class Artefact:
    """A table or figure of the paper: the module of its name draws it, and `sweep` makes its runs.

    sweep: None if it needs no runs. needs: the least that it can show, in words. protocols: those of the evaluations
    that it is made of. The module of `tableB1` is `analysis.artefacts.tableb1`.
    """

    name: str
    title: str
    sweep: str | None = None
    needs: str = ""
    protocols: tuple[str, ...] = ("linear",)

    @property
    def label(self) -> str:
        """As the paper calls it: `Figure 5`, `Table B.1`."""
        kind, appendix, number = LABEL.fullmatch(self.name).groups()  # type: ignore[union-attr]
        return f"{kind.capitalize()} {f'{appendix}.' if appendix else ''}{number}"

    @property
    def command(self) -> str:
        """What makes its runs; empty where it needs none."""
        return f"python -m simclr_ablate -m sweep={self.sweep}" if self.sweep else ""

    @property
    def module_name(self) -> str:
        return f"{__name__}.{self.name.lower()}"

    def reports(self, runs: "pd.DataFrame") -> "list[Report | LeftOut]":
        """One report for each setting among `runs` (`analysis.load`), or why there is none."""
        return self._module().reports(self, self.runs_for(runs))

    def comparisons(self, runs: "pd.DataFrame") -> "list[Comparison]":
        """The cells that claims rest on, in each setting among `runs`."""
        return self._module().comparisons(self, self.runs_for(runs))

    def runs_for(self, runs: "pd.DataFrame") -> "pd.DataFrame":
        """`runs` (`analysis.load`) without those that were made for other artefacts only, or evaluated otherwise.

        Others' sweeps vary some of the same keys, and would show as tables with hardly a cell. Runs of no artefact's
        sweep stay, also where a sweep of the user's own has them too, and so do random encoders, which serve all.
        """
        if self.sweep is None:
            return runs
        usable = runs["evaluation"].isna() | runs["evaluation.protocol"].isin(self.protocols)
        runs = runs.loc[usable.to_numpy(bool)]
        ours = {artefact.sweep for artefact in ARTEFACTS.values()}
        # A sweep all of whose runs are in ours is a union of them.
        own = {name for names in runs["sweeps"] if ours.isdisjoint(names) for name in names}
        stays = [
            objective == "none"
            or self.sweep in names
            or ours.isdisjoint(names)
            or not own.isdisjoint(names)
            for objective, names in zip(runs["objective"], runs["sweeps"], strict=True)
        ]
        return runs.loc[stays]

    def _module(self) -> Module:
        """Imported only now, since the modules load pandas and matplotlib."""
        module: Module = importlib.import_module(self.module_name)
        return module


ARTEFACTS = {
    artefact.name: artefact
    for artefact in [
        Artefact(
            "figure5",
            "single and paired augmentations on one branch",
            "augmentation_grid",
            "a finished run of views=pair",
        ),
        Artefact(
            "table1",
            "strength of colour distortion, SimCLR and supervised",
            "color_strength",
            "finished runs of one setting in two strengths of colour distortion or more",
        ),
        Artefact("table2", "losses and their gradients"),
        Artefact(
            "table3",
            "what h and g(h) tell of transformations",
            "transformation_probe",
            "evaluations of one setting that probe for two transformations, or h and z for one",
            protocols=("probe",),
        ),
        Artefact(
            "table4",
            "losses, with and without semi-hard negatives",
            "loss_functions",
            "finished runs of one setting with two losses or more, normalised, and negatives of one view",
        ),
        Artefact(
            "table5",
            "l2 norm and temperature of the loss",
            "temperature",
            "finished runs of one setting in two temperatures or more, or with and without the l2 norm",
        ),
        Artefact(
            "figure7",
            "depth and width of the encoder, and supervised",
            "encoder_size",
            "finished runs of one setting with two encoders or more, trained by SimCLR",
        ),
        Artefact(
            "figure8",
            "projection heads, and h against z",
            "projection_head",
            "finished runs of one setting with two heads or more, or evaluations of both h and z",
        ),
        Artefact(
            "figure9",
            "batch size and length of training",
            "batch_size",
            "finished runs of one setting in two batch sizes or lengths or more, lr_rule=linear",
        ),
        Artefact(
            "tableB1",
            "linear and square-root learning rate scaling",
            "batch_size",
            "what Figure 9 takes for each of the two learning rate rules, which meet at a batch size",
        ),
        Artefact(
            "figureB3",
            "eigenvalues of the linear head",
            "projection_head",
            "a trained linear head as wide as h, with its weights",
        ),
        Artefact(
            "figureB4",
            "t-SNE of h and of z",
            "projection_head",
            "a finished run of SimCLR’s views, nonlinear head and NT-Xent, with its weights",
        ),
        Artefact(
            "tableB3",
            "longer supervised training",
            "supervised_length",
            "finished supervised runs of one setting that differ in augmentation, length or encoder",
        ),
    ]
}
