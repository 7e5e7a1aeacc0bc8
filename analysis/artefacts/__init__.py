"""The paper's tables and figures. To add one, add a module here that is a `Module`, and an entry below."""

import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from ..comparison import Comparison
    from ..report import LeftOut, Report


LABEL = re.compile(r"(figure|table|appendix)([A-Z]?)(\d*)")


class Module(Protocol):
    """What the module of an artefact provides."""

    def reports(self, artefact: "Artefact", runs: "pd.DataFrame") -> "list[Report | LeftOut]":
        """One report for each setting among `runs`, or why there is none."""

    def comparisons(self, artefact: "Artefact", runs: "pd.DataFrame") -> "list[Comparison]":
        """The cells behind these reports; needed only if claims rest on them."""


@dataclass(frozen=True)
class Artefact:
    """A table or figure of the paper. The module of its name draws it: `analysis.artefacts.tableb1` for `tableB1`.

    sweep: the sweep that makes its runs; None if it needs none. needs: the least that it can show, in words. protocols:
    the protocols whose evaluations it shows. elsewhere: whether it shows evaluations on other data sets than the
    encoder's own. of_images: whether it shows images: those of the runs' data sets, or embedded ones if there are no
    runs.
    """

    name: str
    title: str
    sweep: str | None = None
    needs: str = ""
    protocols: tuple[str, ...] = ("linear",)
    elsewhere: bool = False
    of_images: bool = False

    @property
    def label(self) -> str:
        """The paper's name for it: `Figure 5`, `Table B.1`, `Appendix A`."""
        kind, appendix, number = LABEL.fullmatch(self.name).groups()  # type: ignore[union-attr]
        return f"{kind.capitalize()} {'.'.join(filter(None, (appendix, number)))}"

    @property
    def of_paper(self) -> bool:
        """Whether it is of the paper, not of the user's own."""
        return True

    @property
    def heading(self) -> str:
        """What it is called and shows."""
        return f"{self.label}: {self.title}"

    @property
    def anchor(self) -> str:
        """Its place on the page, and in LaTeX."""
        return self.name

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
        """`runs` (`analysis.load`) without those launched only for other artefacts and those of other protocols.

        Other artefacts' sweeps vary some of the same keys, and would show up as tables with hardly a cell. Runs stay if
        they belong to no artefact's sweep, or also to a sweep of the user's own that defines no artefact. Random
        encoders stay: they serve all.
        Encoders of a sweep that evaluates on other data, such as `transfer`, are also those of other sweeps: their
        evaluations on other data are shown by that sweep's artefacts, which show no others.
        """
        if self.sweep is None:
            return runs
        usable = runs["evaluation"].isna() | runs["evaluation.protocol"].isin(self.protocols)
        runs = runs.loc[usable.to_numpy(bool)]
        ours = {artefact.sweep for artefact in ARTEFACTS.values()}.union(*runs["defining"])
        away = {artefact.sweep for artefact in ARTEFACTS.values() if artefact.elsewhere}
        # A sweep that has runs outside ours is the user's own; one without is a union of ours.
        own = {name for names in runs["sweeps"] if ours.isdisjoint(names) for name in names}
        elsewhere = runs["evaluation.data.name"].notna()
        stays = [
            objective == "none"
            or (
                self.sweep in names
                and (there if self.elsewhere else not there or away.isdisjoint(names))
            )
            or ours.isdisjoint(names)
            or not own.isdisjoint(names)
            for objective, names, there in zip(
                runs["objective"], runs["sweeps"], elsewhere, strict=True
            )
        ]
        return runs.loc[stays]

    def _module(self) -> Module:
        """The module, imported only when it is needed, since it loads pandas and matplotlib."""
        module: Module = importlib.import_module(self.module_name)
        return module


ARTEFACTS = {
    artefact.name: artefact
    for artefact in [
        Artefact("figure2", "the framework"),
        Artefact("figure3", "crops as prediction tasks", of_images=True),
        Artefact("figure4", "the operations that views are made of", of_images=True),
        Artefact(
            "figure1",
            "linear evaluation against the size of the encoder",
            "linear_evaluation",
            "finished SimCLR runs, evaluated by linear_sgd",
            protocols=("linear", "linear_sgd"),
        ),
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
            "finished runs of one setting with two or more strengths of colour distortion",
        ),
        Artefact("table2", "losses and their gradients"),
        Artefact(
            "table3",
            "what h and g(h) know about transformations",
            "transformation_probe",
            "evaluations of one setting that probe for two transformations, or for one from both h and z",
            protocols=("probe",),
        ),
        Artefact(
            "table4",
            "losses, with and without semi-hard negatives",
            "loss_functions",
            "finished runs of one setting with two or more losses, with z normalised and negatives from one view",
        ),
        Artefact(
            "table5",
            "l2 norm and temperature of the loss",
            "temperature",
            "finished runs of one setting with two or more temperatures, or with and without the l2 norm",
        ),
        Artefact("figure6", "histograms of intensities of crops", of_images=True),
        Artefact(
            "figure7",
            "depth and width of the encoder, SimCLR and supervised",
            "encoder_size",
            "finished SimCLR runs of one setting with two or more encoders",
        ),
        Artefact(
            "figure8",
            "projection heads, and h against z",
            "projection_head",
            "finished runs of one setting with two or more heads, or evaluations of both h and z",
        ),
        Artefact(
            "figure9",
            "batch size and length of training",
            "batch_size",
            "finished runs of one setting with lr_rule=linear and two or more batch sizes or lengths of training",
        ),
        Artefact(
            "table6",
            "linear evaluation by SGD after long training",
            "linear_evaluation",
            "finished SimCLR runs, evaluated by linear_sgd",
            protocols=("linear", "linear_sgd"),
        ),
        Artefact(
            "table7",
            "training on few labels, top-5",
            "few_labels",
            "finished SimCLR runs, evaluated by few_labels on 1% or 10% of the labels",
            protocols=("few_labels",),
        ),
        Artefact(
            "table8",
            "transfer to other data sets, wide encoder",
            "transfer",
            "finished SimCLR runs of an encoder wider than 1, evaluated on other data sets by linear or finetune",
            protocols=("linear", "finetune"),
            elsewhere=True,
        ),
        Artefact(
            "appendixA",
            "with and without the flip",
            "flip",
            "finished SimCLR runs of one setting with and without views.flip",
        ),
        Artefact(
            "figureB1",
            "top-5 by batch size and length of training",
            "batch_size",
            "what Figure 9 needs",
        ),
        Artefact(
            "tableB1",
            "linear and square-root learning rate scaling",
            "batch_size",
            "what Figure 9 needs, for both learning rate rules, with equal rates at one of the batch sizes",
        ),
        Artefact(
            "tableB2",
            "broader augmentation",
            "broader_augmentation",
            "finished SimCLR runs with views.extra=broader, evaluated by linear_sgd or few_labels",
            protocols=("linear_sgd", "few_labels"),
        ),
        Artefact(
            "figureB2",
            "larger batches and longer training",
            "long_training",
            "finished runs of one setting with lr_rule=sqrt and two or more batch sizes or lengths of training",
        ),
        Artefact(
            "figureB3",
            "eigenvalues of the linear head",
            "projection_head",
            "the weights of a trained linear head as wide as h",
        ),
        Artefact(
            "figureB4",
            "t-SNE of h and of z",
            "projection_head",
            "a finished run with SimCLR’s views, a nonlinear head and NT-Xent, and its weights",
        ),
        Artefact(
            "tableB3",
            "longer supervised training",
            "supervised_length",
            "finished supervised runs of one setting that differ in augmentation, length or encoder",
        ),
        Artefact(
            "tableB4",
            "training on few labels, top-1",
            "few_labels",
            "what Table 7 needs",
            protocols=("few_labels",),
        ),
        Artefact(
            "figureB5",
            "few labels against linear evaluation, over lengths of training",
            "correlation",
            "finished SimCLR runs of three lengths, evaluated by linear_sgd and by few_labels",
            protocols=("linear_sgd", "few_labels"),
        ),
        Artefact(
            "figureB6",
            "few labels against linear evaluation, over encoders",
            "correlation",
            "finished SimCLR runs of three encoders, evaluated by linear_sgd and by few_labels",
            protocols=("linear_sgd", "few_labels"),
        ),
        Artefact(
            "tableB5",
            "transfer to other data sets",
            "transfer",
            "finished SimCLR runs of an encoder of width 1, evaluated on other data sets by linear or finetune",
            protocols=("linear", "finetune"),
            elsewhere=True,
        ),
        Artefact(
            "figureB7",
            "batch size and length of training, averaged over learning rates",
            "cifar10_settings",
            "finished runs of one setting with temperature 0.5 and two or more learning rates",
        ),
        Artefact(
            "figureB8",
            "temperature and batch size, averaged over learning rates and lengths of training",
            "cifar10_settings",
            "finished runs of one setting with two or more temperatures",
        ),
        Artefact("tableC1", "design choices of contrastive methods"),
    ]
}
