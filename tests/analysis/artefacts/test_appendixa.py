"""Appendix A's text from a store: top-1 with and without the flip."""

import analysis
from analysis.artefacts import ARTEFACTS
from analysis.report import write


def test_the_papers_numbers_come_back(tmp_path, make):
    for flip, top1 in ((True, 64.5), (False, 63.4)):
        make.put(tmp_path / "runs", make.experiment(**{"views.flip": flip}), top1)
    make.put(tmp_path / "runs", make.random_encoder(), 20.0)
    (report,) = ARTEFACTS["appendixA"].reports(analysis.load(tmp_path / "runs"))
    assert report.title.startswith("Appendix A on shapes")
    ours, theirs = report.tables
    assert ours.rows == theirs.rows == [["with", "64.5"], ["without", "63.4"]]
    assert "Every cell is clearly above it" in report.caption
    assert {path.suffix for path in write(report, tmp_path / "out")} == {
        *(".png", ".pdf", ".csv", ".md", ".tex"),
    }


def test_one_side_alone_is_no_report(tmp_path, make):
    for strength in (0.5, 1.0):
        make.put(tmp_path, make.experiment(**{"views.strength": strength}), 50.0)
    assert ARTEFACTS["appendixA"].reports(analysis.load(tmp_path)) == []


def test_views_without_crops_have_no_flip(tmp_path, make):
    for flip in (True, False):
        make.put(tmp_path, make.random_encoder(**{"views.flip": flip}), 20.0)
    runs = analysis.load(tmp_path)
    assert len(runs) == 1
    assert runs["views.flip"].isna().all()
