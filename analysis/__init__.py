"""The paper's tables and figures, rebuilt from the runs, beside the published numbers.

`simclr-ablate analyse` writes them. In a notebook, `analysis.load()` returns all runs as a DataFrame:

    runs = analysis.load("runs")
    runs[runs["views.policy"] == "pair"].groupby(["views.first", "views.second"])["top1"].mean()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load(store: str | Path = "runs") -> pd.DataFrame:
    """The runs of `store`, a folder or a pack, as a tidy table, one row for each evaluation of each run.

    A run without evaluations has one row, in which `evaluation` and the metrics are missing. Columns:

    - `run_id`: the name of the run's folder. `path`: the folder, which is none in a pack.
    - `sweeps`: a tuple of the names of the launched sweeps that the run belongs to.
    - `defining`: a tuple of those of them that define an artefact of their own.
    - `looked_at`: whether results said how many seeds the run's experiment should have (`until=decided`).
    - `state`: planned, running, interrupted, failed, pretrained or complete.
    - `evaluation`: the key of the evaluation.
    - every config key by its dotted name: `seed`, `views.first`, `optimizer.epochs`, ...
      (`simclr-ablate --help-all` explains them). `evaluation.*` belong to the row's evaluation.
    - `top1`, `top5`, `knn_top1`: accuracy on the test split, percent. `validation_top1`: on the
      validation split. All but kNN's belong to a linear classifier that was fitted on the frozen
      encoder or, with objective=supervised, trained with it.
    - `probe_accuracy`, `probe_validation_accuracy`: accuracy of a network that predicts a
      transformation from the features, percent. `probe_guess`: that of always naming the most
      frequent label. They replace the accuracies above if `evaluation.probe` names a transformation.
    - `test_images`: the number of images in the test split. Other metrics of the evaluation follow
      under their own names.
    - `evaluation_seconds`: how long the evaluation took; missing if it was not recorded.
    - `pretraining.loss`, `pretraining.accuracy`, `pretraining.entropy`, `pretraining.seconds`: the
      last metrics of pretraining (supervised: no entropy) and how long it took. Other metrics follow
      as `pretraining.*`.

    A value is missing (`isna`) if it is null in the config, unknown, or does not count in the run
    (`views.strength` with crops alone). Damaged runs and evaluations, and runs of a schema that this
    version cannot read, are left out and named in the log.

    Raises FileNotFoundError if there is no such store, and ValueError if it cannot be read.
    """
    # Imported here to keep `simclr-ablate analyse --help` from waiting for pandas.
    from . import runs

    return runs.load(store)
