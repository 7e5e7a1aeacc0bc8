"""Table 1 from a store: the paper's numbers come back, in two rows of different training."""

import pytest

from analysis import paper
from analysis.artefacts import ARTEFACTS, table1
from analysis.report import write

PRINTED = paper.table("table1_color_strength")
COLUMNS = {
    "1/8": ("simclr", 0.125, False),
    "1/4": ("simclr", 0.25, False),
    "1/2": ("simclr", 0.5, False),
    "1": ("simclr", 1.0, False),
    "1 (+Blur)": ("simclr", 1.0, True),
    "AutoAug": ("autoaugment", 1.0, True),
}
SUPERVISED = {"objective": "supervised", "optimizer.epochs": 90, "loss.temperature": 0.7}


def row(name, changes=None, values=None, columns=COLUMNS):
    values = PRINTED.loc[name] if values is None else values
    return [
        dict(zip(table1.COLUMNS.keys, COLUMNS[column], strict=True))
        | {"top1": float(values[column])}
        | (changes or {})
        for column in columns
    ]


def simclr(**changes):
    return row("SimCLR (linear eval)", **changes)


def test_the_papers_numbers_come_back_as_table_1(tmp_path, rewritten):
    (report,) = ARTEFACTS["table1"].reports(rewritten(simclr() + row("Supervised", SUPERVISED)))
    ours, theirs = report.tables
    assert ours.header[1:] == theirs.header[1:] == [*table1.OURS, *PRINTED.columns]
    printed = [
        [name, "–", "–", *map("{:.1f}".format, values)]
        for name, values in zip(["SimCLR", "Supervised"], PRINTED.to_numpy(), strict=True)
    ]
    assert ours.rows == theirs.rows == printed
    assert report.data["mean"].equals(report.data["paper"])
    assert "6 of 6 cells" in report.caption
    assert "trained with the encoder; epochs 90." in report.caption
    assert report.name == "table1-shapes"
    assert len(write(report, tmp_path / "out")) == 5


def test_supervised_runs_of_other_lengths_are_another_table(rewritten):
    longer = SUPERVISED | {"optimizer.epochs": 500}
    others = row("Supervised", longer, PRINTED.loc["Supervised"] - 10)
    runs = rewritten(simclr() + row("Supervised", SUPERVISED) + others)
    reports = ARTEFACTS["table1"].reports(runs)
    assert len({report.name for report in reports}) == 2
    assert sorted(report.tables[0].rows[1][3] for report in reports) == ["67.0", "77.0"]
    assert len({report.title for report in reports}) == 2


@pytest.mark.parametrize("key", ["data.limit", "encoder.width", "precision"])
def test_supervised_runs_on_other_data_or_encoders_stand_apart(rewritten, key):
    other = SUPERVISED | {key: {"precision": "bfloat16"}.get(key, 2)}
    reports = ARTEFACTS["table1"].reports(rewritten(simclr() + row("Supervised", other)))
    rows = sorted(
        tuple(line[0] for line in report.tables[0].rows if line[3] != "–") for report in reports
    )
    assert rows == [("SimCLR",), ("Supervised",)]
    assert len({report.name for report in reports}) == 2


def test_one_row_alone_has_the_other_missing(rewritten):
    (report,) = ARTEFACTS["table1"].reports(rewritten(simclr(columns=["1/2", "1"])))
    assert report.tables[0].rows[1] == ["Supervised", *["–"] * 8]
    assert "Missing cells: 14 of 16" in report.summary[1]


def test_other_strengths_have_columns_in_their_place(rewritten):
    more = [
        {"views.strength": strength, "views.blur": blur, "top1": 50.0}
        for strength, blur in [(0.75, False), (0.5, True)]
    ]
    (report,) = ARTEFACTS["table1"].reports(rewritten(more))
    names = [*table1.OURS, "1/8", "1/4", "1/2", "3/4", "1", "1/2 (+Blur)", "1 (+Blur)", "AutoAug"]
    assert report.tables[0].header[1:] == names


def test_crops_alone_and_strength_0_are_first_and_in_no_comparison_with_the_paper(rewritten):
    start = [
        {"views.policy": policy, "views.strength": strength, "views.blur": False, "top1": top1}
        for policy, strength, top1 in [("crop", 0.5, 99.0), ("simclr", 0.0, 98.0)]
    ]
    whole = simclr() + row("Supervised", SUPERVISED)
    (without,) = ARTEFACTS["table1"].reports(rewritten(whole))
    (report,) = ARTEFACTS["table1"].reports(rewritten(whole + start))
    ours, theirs = report.tables
    assert ours.rows[0][:4] == ["SimCLR", "99.0", "98.0", "59.6"]
    assert theirs.rows[0][:4] == ["SimCLR", "–", "–", "59.6"]
    assert report.summary[0] == without.summary[0]
    assert "Spearman’s ρ with the paper: 1.00" in report.summary[0]
    assert "Highest of the ranked cells: ours 64.5" in report.alt
    assert any("not in the paper" in note for note in report.notes)


def test_one_strength_is_no_table(rewritten):
    assert ARTEFACTS["table1"].reports(rewritten(simclr(columns=["1"]))) == []


def test_the_words_for_the_picture_name_the_best_of_simclr_alone(rewritten):
    best = simclr() + row("Supervised", SUPERVISED) + [simclr()[2] | {"seed": 1, "top1": 90.0}]
    (report,) = ARTEFACTS["table1"].reports(rewritten(best))
    assert "by colour distortion and training, ours on shapes" in report.alt
    assert "Highest of the ranked cells: ours 76.3 ±" in report.alt
    assert "(training SimCLR, colour distortion 1/2); the paper’s 64.5 (" in report.alt
    (unranked,) = ARTEFACTS["table1"].reports(rewritten(row("Supervised", SUPERVISED)))
    assert "Highest: ours 77.1 (training Supervised, colour distortion AutoAug); " in unranked.alt
