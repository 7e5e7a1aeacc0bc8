"""docs/your_ablation.md is true: its files and its commands, from an empty folder to a page, on few images."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from simclr_ablate.store import Store
from tests.commands import user_environment

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
TEXT = (REPOSITORY / "docs" / "your_ablation.md").read_text()
FILES = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", TEXT, re.S))
BLOCKS = [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S)]
(MISTAKE,) = re.findall(r"    (error: .*)", TEXT)
FEW = [
    *("data.limit=320", "data.validation=50", "optimizer.epochs=1", "optimizer.warmup_epochs=0"),
    *("evaluation.l2_count=2", "evaluation.knn=5", "compute.threads=1"),
]
"""What makes the runs short, and leaves the sweep's grid as it is."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """That of a user who has installed the project and whose cache is empty."""
    cache = tmp_path_factory.mktemp("cache")
    return {**user_environment(cache), "PYTHONPATH": str(REPOSITORY)}


def write_files(folder: Path) -> None:
    assert set(FILES) == {"mine.py", "decoupled.yaml", "pairs.yaml"}
    for name, text in FILES.items():
        (folder / name).write_text(text)


def give(line: str, environment: dict[str, str], folder: Path) -> tuple[int, str]:
    """Exit status and output of a command of the document; those that run something get FEW."""
    program, *words = shlex.split(line)
    assert program == "simclr-ablate"
    few = [*FEW] if words[0] == "-m" else []
    few += ["seed=0,1"] if words[-1] == "sweep=decoupled.yaml" else []
    done = subprocess.run(
        [sys.executable, "-m", "simclr_ablate", *words, *few],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> tuple[Path, dict[str, str]]:
    """The folder after all commands of the document, in its order, and what each has printed."""
    folder = tmp_path_factory.mktemp("ablation")
    write_files(folder)
    printed = {}
    lines = [line for block in BLOCKS for line in block]
    # The page comes last, so that it has both.
    for line in sorted(lines, key=lambda line: line == "simclr-ablate analyse"):
        status, printed[line] = give(line, environment, folder)
        assert status == 0, (line, printed[line])
    return folder, printed


def test_the_document_goes_from_an_empty_folder_to_a_page(study) -> None:
    folder, printed = study
    assert [len(block) for block in BLOCKS] == [3, 2]
    ran = printed["simclr-ablate -m sweep=decoupled.yaml"]
    assert "decoupled: 26 experiments, 0 already finished, 26 to run" in ran
    assert "see them: simclr-ablate analyse decoupled" in ran
    reports = folder / "reports"
    for name in ("decoupled-shapes", "pairs-shapes"):
        for ending in ("png", "pdf", "csv", "md", "tex"):
            assert (reports / f"{name}.{ending}").stat().st_size > 500
    page = (reports / "index.html").read_text()
    titles = [
        "Temperature and batch size with a decoupled loss",
        "Four operations in pairs",
    ]
    places = [
        page.index(f'<h2 id="own-{name}">{title}</h2>')
        for name, title in zip(("decoupled", "pairs"), titles, strict=True)
    ]
    # After the paper's, each with its command and its findings.
    assert max(page.index('<h2 id="figure5">'), page.index('<h2 id="tableC1">')) < min(places)
    assert "simclr-ablate -m sweep=decoupled.yaml" in page
    yours = page[page.index('id="your-findings"') :].partition("</section>")[0]
    sentences = re.findall(r"- say: (.*)", FILES["decoupled.yaml"] + FILES["pairs.yaml"])
    assert len(sentences) == 4
    for sentence in sentences:
        assert sentence in yours
    assert yours.count('<td data-name="Verdict">') == 4
    assert "not run</span></td>" not in yours
    shown = printed["simclr-ablate analyse"]
    assert re.search(r"The paper’s findings: .*; Your findings: ", shown)


def test_the_documents_table_is_that_of_its_runs(study) -> None:
    folder, _ = study
    import pandas as pd

    runs = analysis.load(folder / "runs")
    mine = runs[[names == ("decoupled",) for names in runs["sweeps"]]]
    trained = mine[mine["objective"] == "contrastive"]
    keys = ["loss.name", "loss.temperature", "optimizer.batch_size"]
    expected = trained.groupby(keys)["top1"].mean()
    assert len(expected) == 12
    data = pd.read_csv(folder / "reports" / "decoupled-shapes.csv")
    cells = data[data["kind"] == "cell"].set_index(["row", "column"])["mean"]
    labels = {"nt_xent": "NT-Xent", "mine:decoupled": "Decoupled"}
    for (loss, tau, size), value in expected.items():
        assert cells[f"{labels[loss]} {tau:g}", size] == pytest.approx(value)
    # What was swapped has had an effect.
    assert trained["pretraining.loss"].nunique() == len(trained)


def test_a_launch_keeps_the_definition_and_nothing_runs_twice(
    study, environment: dict[str, str]
) -> None:
    folder, _ = study
    text = FILES["decoupled.yaml"].replace("  title: Temperature", "  title: Another temperature")
    (folder / "decoupled.yaml").write_text(text)
    status, output = give(BLOCKS[0][0], environment, folder)
    assert status == 0, output
    assert "26 already finished, 0 to run" in output
    (folder / "decoupled.yaml").unlink()
    (record,) = (each for each in Store(folder / "runs").sweeps() if each.name == "decoupled")
    assert record.artefact is not None
    assert record.artefact["title"].startswith("Another temperature")
    status, output = give(BLOCKS[0][1], environment, folder)
    assert status == 0, output
    assert output.startswith("Another temperature and batch size")


def test_a_mistake_is_told_as_the_document_says(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    write_files(tmp_path)
    wrong = FILES["decoupled.yaml"].replace(
        "columns: optimizer.batch_size", "columns: optimizer.batchsize"
    )
    (tmp_path / "decoupled.yaml").write_text(wrong)
    status, output = give(BLOCKS[0][0], environment, tmp_path)
    assert (status, output.splitlines()) == (2, [MISTAKE])
    assert not os.path.exists(tmp_path / "runs")
