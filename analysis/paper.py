"""The numbers that the paper prints (Chen et al., ICML 2020, arXiv 2002.05709v3).

Each entry of `paper_numbers.json` says how sure its numbers are: `verified` (printed), `read-off-figure` (measured,
with its precision) or `inferred`. `null` stands for what the paper does not publish; it is never filled in.
"""

import functools
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from simclr_ablate.config import nearest


@functools.cache
def entries() -> dict[str, Any]:
    """Every table and figure, by key."""
    path = Path(__file__).with_name("paper_numbers.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def table(key: str) -> pd.DataFrame:
    """A table or figure with labelled rows and columns; NaN if not published. Raises KeyError for an unknown key."""
    known = entries()
    if key not in known:
        raise KeyError(f"the paper has no {key!r}{nearest(key, known)}")
    entry = known[key]
    return pd.DataFrame(entry["values"], index=entry["rows"], columns=entry["columns"], dtype=float)


def cells(key: str, values: str = "values") -> dict[tuple[Any, Any], float]:
    """The `values` of a table by row and column; NaN if not published, and empty if none of them is.

    A row or column with several names is a tuple of them.
    """
    entry = entries()[key]
    if entry[values] is None:
        return {}
    rows, columns = (
        [tuple(name) if isinstance(name, list) else name for name in entry[names]]
        for names in ("rows", "columns")
    )
    return {
        (row, column): math.nan if value is None else float(value)
        for row, line in zip(rows, entry[values], strict=True)
        for column, value in zip(columns, line, strict=True)
    }
