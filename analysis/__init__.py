"""The paper's tables and figures, rebuilt from what was run, beside the published numbers.

`python -m analysis` writes them; in a notebook, `analysis.load()` gives all runs as a DataFrame:

    runs = analysis.load("runs")
    runs[runs["views.policy"] == "pair"].groupby(["views.first", "views.second"])["top1"].mean()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load(store: str | Path = "runs") -> pd.DataFrame:
    """The runs of `store` as a tidy table: one row per run and evaluation of it.

    A run with no evaluation yet has one row, whose `evaluation` and metrics are missing. Columns:

    - `run_id`: the name of the run's folder; `path`: where it is.
    - `sweeps`: the names of the launched sweeps that it belongs to, a tuple.
    - `state`: planned, running, interrupted, failed, pretrained or complete.
    - `evaluation`: the key of the evaluation.
    - every config key by its dotted name: `seed`, `views.first`, `optimizer.epochs`, ...
      (`python -m simclr_ablate --help` explains them). `evaluation.*` are this row's evaluation's.
    - `top1`, `top5`, `knn_top1`: accuracy on the test split, percent. `validation_top1`: on the
      validation split. All but kNN's are a linear classifier's, fitted on the frozen encoder, or
      for objective=supervised the one trained with it.
    - `probe_accuracy`, `probe_validation_accuracy`: of a network that tells a transformation from
      the features, percent; `probe_guess`: of always naming the most frequent label. They take the
      place of the accuracies above where `evaluation.probe` names a transformation.
    - `test_images`: how many images the test split has. Any other metric of the evaluation follows
      under its own name.
    - `evaluation_seconds`: how long the evaluation took; missing where it was not recorded.
    - `pretraining.loss`, `pretraining.accuracy`, `pretraining.entropy`, `pretraining.seconds`: the
      last metrics of pretraining (supervised: no entropy) and how long it took. Any other follows
      under `pretraining.*`.

    What is null in the config, does not count in the run (`views.strength` of crops alone) or is
    unknown is missing (`isna`). A run or an evaluation whose file is damaged, and a run of a schema
    that this version can't read, is left out and named in the log.

    Raises FileNotFoundError where there is no such folder, and ValueError where it cannot be read.
    """
    # Here, so that `python -m analysis --help` does not wait for pandas.
    from analysis import runs

    return runs.load(store)
