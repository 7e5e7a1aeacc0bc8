"""Table C.1 is the paper's: its cells, and which of them are marked."""

import pandas as pd

from analysis import paper
from analysis.artefacts import ARTEFACTS
from analysis.report import write


def test_it_says_what_the_paper_says(tmp_path):
    (report,) = ARTEFACTS["tableC1"].reports(pd.DataFrame())
    (table,) = report.tables
    entry = paper.entries()["tableC1_design_choices"]
    assert table.header[0] == "Model"
    for printed, row in zip(entry["values"], table.rows, strict=True):
        assert row[:2] == printed[:2]
        assert row[5].rstrip("†*") == printed[5].rstrip("#*")
    by_model = {row[0]: row for row in table.rows}
    assert by_model["AMDIM"][5] == "1008†"  # patches
    assert by_model["MoCo"][5] == "256*"  # a memory bank
    assert by_model["SimCLR"] == [
        "SimCLR",
        *("Crop+color+blur", "ResNet-50 (4x)", "Non-linear MLP", "Xent w/ l2, τ", "4096", "1000"),
    ]
    for mark, meaning in entry["marks"].items():
        shown = {"#": "†"}.get(mark, mark)
        assert shown in report.caption, meaning
    assert by_model["CMC"][2] == "ResNet-50 (2x, L+ab)"
    tricks = [row[0] for row in entry["values"] if row[5][-1] in entry["marks"]]
    (other,) = set(by_model) - set(tricks)
    assert report.alt.endswith(f" {other} alone uses neither patches nor a memory bank.")
    assert len(write(report, tmp_path, ["simclr-ablate analyse"])) == 5
    data = pd.read_csv(tmp_path / "tablec1.csv", dtype=str)
    assert data.to_numpy().tolist() == entry["values"]
    latex = (tmp_path / "tablec1.tex").read_text()
    assert r"\begin{tabular}{@{}lllllrr@{}}" in latex
    assert r"1008$^{\dagger}$" in latex
