"""Figure B.3: the squared real parts of the eigenvalues of a linear head as wide as h.

The paper publishes no numbers; the caption gives its finding.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simclr_ablate.store import Run
from simclr_ablate.terminal import count, printable

from .. import paper
from ..comparison import Comparison, Part, constant
from ..curves import Curve, Curves, curve_page, describe_curves
from ..drawing import style
from ..eigenvalues import squared_real_parts
from ..report import LeftOut, Report
from ..settings import Setting, plain_values, settings
from ..statistics import Accuracies, mean_interval
from ..typesetting import Table, number
from ..weights import kept, with_results
from . import Artefact
from .figure8 import dimension

SHAPE = ("head.dim", "encoder.architecture", "encoder.width")
RESULT = "eigenvalues"
MOST = 0.9
RANK = "Effective rank (% of outputs)"


@dataclass(frozen=True)
class Spectrum:
    """One run's squared real parts, largest first: (D,)."""

    seed: int
    run_id: str
    squares: NDArray[np.float64]

    @property
    def rank(self) -> float:
        """The participation ratio, (sum)^2 / sum of squares: D if all are equal, 1 if only one is not 0.

        It is D / 2 for a large matrix of independent normal draws, by the circular law.
        """
        return float(self.squares.sum() ** 2 / (self.squares**2).sum())

    @property
    def holding_most(self) -> int:
        """How many of the largest add up to 90% of the sum."""
        shares = self.squares.cumsum() / self.squares.sum()
        return int(np.searchsorted(shares, MOST) + 1)

    @property
    def largest(self) -> float:
        """The largest's share of the sum, percent."""
        return float(100 * self.squares[0] / self.squares.sum())


def reports(artefact: Artefact, runs: pd.DataFrame) -> list[Report | LeftOut]:
    """One report for each setting with a linear head as wide as h, or why there is none."""
    result: list[Report | LeftOut] = []
    for setting in square_heads(artefact, runs):
        try:
            result.append(_report(artefact, setting, spectra(setting)))
        except (OSError, ValueError) as error:
            result.append(LeftOut(setting.description, printable(str(error))))
    return result


def comparisons(artefact: Artefact, runs: pd.DataFrame) -> list[Comparison]:
    """The effective rank in percent of the outputs, at each seed. Heads that cannot be read are left out."""
    result = []
    for setting in square_heads(artefact, runs):
        with suppress(OSError, ValueError):
            measured = spectra(setting)
            ranks = {s.seed: 100 * s.rank / len(s.squares) for s in measured}
            cell = Accuracies(ranks, math.nan, tuple(s.run_id for s in measured))
            rows, columns = constant(RANK), constant("")
            part = Part("", rows, columns, {(RANK, ""): cell}, {}, quantity=RANK)
            result.append(Comparison(artefact, setting, [part]))
    return result


def square_heads(artefact: Artefact, runs: pd.DataFrame) -> list[Setting]:
    """The settings of trained linear heads with as many outputs as inputs."""
    linear = runs[(runs["objective"] == "contrastive") & (runs["head.kind"] == "linear")]
    square = [
        row
        for row, (dim, architecture, width) in enumerate(plain_values(linear, SHAPE))
        if dim == dimension("none", dim, architecture, width)
    ]
    return settings(
        with_results(linear.iloc[square], RESULT), artefact.name, ("evaluation", "seed")
    )


def spectra(setting: Setting) -> list[Spectrum]:
    """One for each seed, however many evaluations it has."""
    runs = setting.runs.drop_duplicates("run_id").sort_values("seed")
    return [
        Spectrum(seed, run_id, kept(Run(Path(path)), RESULT, squared_real_parts)["squares"])
        for seed, run_id, path in plain_values(runs, ["seed", "run_id", "path"])
    ]


def _report(artefact: Artefact, setting: Setting, measured: Sequence[Spectrum]) -> Report:
    text, drawn = caption(setting, measured), panels(setting, measured)
    with style():
        figure = curve_page([drawn], text)
    return Report.of_setting(
        artefact,
        setting,
        caption=text,
        notes=NOTES,
        alt=f"{describe_curves(drawn)}, ours on {setting.label}. {effective_rank(measured)}.",
        figure=figure,
        tables=[table(setting, measured)],
        data=data(measured),
        summary=text.splitlines()[1:],
    )


NOTES = [
    "W is the matrix of the dense layer. The batch norm after it, which scales each output, is "
    "left out.",
    "Effective rank: the participation ratio (Σ s)² / Σ s² of the D squared real parts s. It is D "
    "if all are equal, and 1 if only one is not 0.",
]


def caption(setting: Setting, measured: Sequence[Spectrum]) -> str:
    width = len(measured[0].squares)
    entry = paper.entries()["figB3_eigenvalues"]
    return "\n".join(
        [
            f"{setting.description}, {count(len(measured), 'seed')}. Squared real parts of the "
            f"eigenvalues of the linear head’s {width:,} × {width:,} matrix W, g(h) = W h, largest "
            "first.",
            f"{effective_rank(measured)}; an untrained matrix of independent normal draws has about "
            f"{width / 2:,.0f}.",
            f"The paper, on a 2,048 × 2,048 matrix: {entry['finding']}. It gives no numbers.",
        ]
    )


def effective_rank(measured: Sequence[Spectrum]) -> str:
    """The mean effective rank over seeds, and the largest possible, in words."""
    rank = mean_interval([spectrum.rank for spectrum in measured])
    return f"Effective rank: {number(rank.mean, rank.half)} of {len(measured[0].squares):,}"


def panels(setting: Setting, measured: Sequence[Spectrum]) -> list[Curves]:
    """One panel with a linear axis and one with a logarithmic axis, with a line for each seed."""
    curves = [
        Curve(f"seed {s.seed}", range(1, len(s.squares) + 1), s.squares.tolist()) for s in measured
    ]
    axis, value = "Eigenvalue, largest first", "Squared real part"
    title = f"Ours: {setting.label}"
    # Eigenvalues that are imaginary up to rounding would stretch a logarithmic axis.
    floor = 1e-12 * max(curve.y[0] for curve in curves)
    above = [
        Curve(c.name, c.x, [y if y > floor else math.nan for y in c.y], c.half) for c in curves
    ]
    return [
        Curves(title, axis, value, curves, joined=True),
        Curves("The same, logarithmic", axis, value, above, joined=True, log_y=True),
    ]


def table(setting: Setting, measured: Sequence[Spectrum]) -> Table:
    header = ["Seed", "Effective rank", "Eigenvalues for 90% of the sum", "Largest’s share (%)"]
    values = [(s.rank, float(s.holding_most), s.largest) for s in measured]
    rows = [[str(s.seed), *map(number, of_one)] for s, of_one in zip(measured, values, strict=True)]
    if len(measured) > 1:
        means = [mean_interval(column) for column in zip(*values, strict=True)]
        rows.append(["mean", *(number(mean.mean, mean.half) for mean in means)])
    return Table(f"Ours: {setting.label}, {len(measured[0].squares):,} eigenvalues", header, rows)


def data(measured: Sequence[Spectrum]) -> pd.DataFrame:
    """One row for each eigenvalue of each seed."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "seed": spectrum.seed,
                    "place": range(1, len(spectrum.squares) + 1),
                    "squared_real_part": spectrum.squares,
                    "effective_rank": spectrum.rank,
                    "run_id": spectrum.run_id,
                }
            )
            for spectrum in measured
        ]
    )
