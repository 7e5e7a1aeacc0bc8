"""The run store as a pandas DataFrame. `analysis.load` documents the columns."""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from simclr_ablate.config import KeyInfo, flatten
from simclr_ablate.identity import values_of
from simclr_ablate.schema import COLUMNS, KEYS, SCHEMA_VERSION, counting_keys
from simclr_ablate.store import Run, Store, SweepRecord

from .own import own_artefacts
from .packs import opened

log = logging.getLogger(__name__)

NAMED = 10
"""How many of the runs that are left out are named at most."""

METRICS = (
    *("top1", "top5", "validation_top1", "knn_top1", "test_images"),
    *("probe_accuracy", "probe_validation_accuracy", "probe_guess"),
)
MEASURED = (*METRICS, "evaluation_seconds")
PRETRAINING = ("loss", "accuracy", "entropy", "seconds")

# Names of folders may hold bytes that are no text. pandas can keep them; pyarrow, which it takes where it is installed,
# cannot.
pd.set_option("mode.string_storage", "python")

_DTYPES = {"int or null": "Int64", "bool or null": "boolean"}


def load(store: str | Path) -> pd.DataFrame:
    """See `analysis.load`."""
    given = Path(store)
    if not given.exists():
        raise FileNotFoundError(
            f"store must be a folder of runs, or a pack, got {store}, which does not exist"
        )
    with opened(given) as root:
        runs = _load(root)
    return runs if root == given else runs.assign(path=str(given) + os.sep + runs["run_id"])


def _load(root: Path) -> pd.DataFrame:
    Store(root).check()
    records, others = Store(root).sweeps(), OtherVersions()
    sweeps = _sweeps(records)
    rows = [row for run in Store(root).runs() for row in _rows(run, sweeps[run.run_id], others)]
    others.tell()
    looked_at = {run_id for record in records if record.until for run_id in record.run_ids}
    own = own_artefacts(root)
    frame = pd.DataFrame(
        [
            {
                **row,
                "defining": tuple(name for name in row["sweeps"] if name in own),
                "looked_at": row["run_id"] in looked_at,
            }
            for row in rows
        ]
    )
    frame = frame.reindex(columns=[*columns(), *frame.columns.difference(columns(), sort=False)])
    # pandas would turn integers with gaps into floats, and 50000 images into 50000.0.
    typed = frame.astype(
        {key.name: _DTYPES[kind] for key in KEYS if (kind := _kind(key)) in _DTYPES}
        | dict.fromkeys((*MEASURED, *(f"pretraining.{name}" for name in PRETRAINING)), float)
        | {"looked_at": bool}
    )
    # A copy has one block of memory for all columns of a NumPy type; rows are taken from it several times as fast.
    return typed.copy()


def _kind(key: KeyInfo) -> str:
    """The type of a key's column. A key that does not count in all runs is missing in some rows."""
    conditional = (key.section or key.when) and not key.type.endswith(" or null")
    return f"{key.type} or null" if conditional else key.type


def used(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all keys by full name; None for keys that do not count.

    values: those of all keys, and maybe others.
    """
    counted = counting_keys(values)
    return {info.name: _plain(values[info.name]) if info.name in counted else None for info in KEYS}


def _plain(value: Any) -> Any:
    """JSON's lists as tuples, which compare and hash."""
    return tuple(value) if isinstance(value, list) else value


def columns() -> list[str]:
    """The columns that are always there, in order."""
    return [
        *COLUMNS,
        *(key.name for key in KEYS),
        *MEASURED,
        *(f"pretraining.{name}" for name in PRETRAINING),
    ]


def _sweeps(launched: Iterable[SweepRecord]) -> dict[str, tuple[str, ...]]:
    """The names of the launched sweeps that each run belongs to, by run id; empty for runs of no sweep."""
    names: dict[str, set[str]] = defaultdict(set)
    for sweep in launched:
        for run_id in sweep.run_ids:
            names[run_id].add(sweep.name)
    return defaultdict(tuple, {run_id: tuple(sorted(of_run)) for run_id, of_run in names.items()})


class OtherVersions:
    """Runs of other schemas, which are left out because their keys may mean something else."""

    def __init__(self) -> None:
        self.run_ids: dict[int, list[str]] = defaultdict(list)

    def tell(self) -> None:
        for version, run_ids in self.run_ids.items():
            some = "1 run is" if len(run_ids) == 1 else f"{len(run_ids):,} runs are"
            more = ", ..." if len(run_ids) > NAMED else ""
            log.warning(
                "%s left out, made by a version with schema %d (here %d): %s%s",
                *(some, version, SCHEMA_VERSION, ", ".join(run_ids[:NAMED]), more),
            )


def _rows(run: Run, sweeps: tuple[str, ...], others: OtherVersions) -> Iterator[dict[str, Any]]:
    """The rows of a run: none if its config is of another schema, or damaged, which the store has logged."""
    experiment = run.experiment()
    if experiment is None:
        return
    if experiment["schema_version"] != SCHEMA_VERSION:
        others.run_ids[experiment["schema_version"]].append(run.run_id)
        return
    evaluations = run.evaluations()
    config = values_of(experiment["config"])
    row = {
        "run_id": run.run_id,
        "path": str(run.path),
        "sweeps": sweeps,
        "state": "complete" if evaluations else run.state(),
        "evaluation": None,
        **used(config),
        **flatten(run.pretraining(), "pretraining"),
    }
    for key, content in evaluations.items():
        evaluated = flatten(content["config"], "evaluation")
        of_row = used({**config, **evaluated, **content.get("beside", {})})
        # No name that a protocol of a user's gives a metric may take the place of another column.
        own = {**row, "evaluation": key, **of_row, "evaluation_seconds": content.get("seconds")}
        yield {**content["metrics"], **own}
    if not evaluations:
        yield row
