"""Table B.3 from a store: the paper's numbers come back, by model, length and augmentation."""

from analysis import paper
from analysis.artefacts import ARTEFACTS
from analysis.report import write

PRINTED = paper.cells("tableB3_supervised_longer")
VIEWS = {"Crop": ("crop", True), "+Color": ("simclr", False), "+Color+Blur": ("simclr", True)}
SUPERVISED = {"objective": "supervised", "encoder.architecture": "resnet50", "views.strength": 1.0}


def cell(model, epochs, column, top1, **changes):
    policy, blur = VIEWS[column]
    width = 4 if "4x" in model else 1
    return {
        **{"encoder.width": width, "optimizer.epochs": epochs, "top1": top1},
        **{"views.policy": policy, "views.blur": blur},
        **changes,
    }


def test_the_papers_numbers_come_back_as_table_b3(tmp_path, rewritten):
    runs = rewritten(
        [cell(*model, column, top1) for (model, column), top1 in PRINTED.items()], **SUPERVISED
    )
    (report,) = ARTEFACTS["tableB3"].reports(runs)
    entry = paper.entries()["tableB3_supervised_longer"]
    printed = [
        [model, f"{epochs:,}", *map("{:.1f}".format, values)]
        for (model, epochs), values in zip(entry["rows"], entry["values"], strict=True)
    ]
    ours, theirs = report.tables
    assert ours.rows == theirs.rows == printed
    assert ours.header == ["Model", "Epochs", "Crop", "+Color", "+Color+Blur"]
    assert report.data["mean"].tolist() == report.data["paper"].tolist()
    assert "18 of 18 cells" in report.caption
    assert len(write(report, tmp_path / "out")) == 5


def test_no_random_encoder_is_asked_for_where_the_encoder_varies(rewritten):
    random = {"objective": "none", "top1": 5.0}
    rows = [cell("ResNet-50", 90, "Crop", 76.0), cell("ResNet-50", 500, "Crop", 76.2), random]
    (report,) = ARTEFACTS["tableB3"].reports(rewritten(rows, **SUPERVISED))
    assert "andom encoder" not in report.caption
    assert (report.data["kind"] == "cell").all()


def test_what_else_differs_parts_tables(rewritten):
    rows = [
        cell("ResNet-50", epochs, "+Color", top1, **{"views.strength": strength})
        for strength, top1 in [(0.5, 70.0), (1.0, 60.0)]
        for epochs in (90, 500)
    ]
    reports = ARTEFACTS["tableB3"].reports(rewritten(rows, **SUPERVISED))
    shown = sorted(report.tables[0].rows[0][3] for report in reports)
    assert shown == ["60.0", "70.0"]


def test_contrastive_runs_are_not_in_it(rewritten):
    rows = [
        cell("ResNet-50", epochs, "Crop", 50.0, objective="contrastive") for epochs in (90, 500)
    ]
    assert ARTEFACTS["tableB3"].reports(rewritten(rows, **SUPERVISED)) == []
