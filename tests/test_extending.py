"""docs/extending.md is true: its files and its command, in an empty folder, and what it says of mistakes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from simclr_ablate.store import Run, Store
from tests.commands import only_run, run_process, user_environment

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
TEXT = (REPOSITORY / "docs" / "extending.md").read_text()
FILES = dict(
    re.findall(
        r"`([\w.]+)`[^`\n]*:\n\n```\w+\n(.*?)```", TEXT.replace("`python -m pytest`", ""), re.S
    )
)
(COMMAND,) = re.findall(r"```sh\n(.*?)\n```", TEXT)
(MISTAKE,) = re.findall(r"    (error: .*)", TEXT)
METRICS = ["pretraining.loss", "pretraining.accuracy", "pretraining.entropy"]
SHORT = ["optimizer.epochs=1", "optimizer.warmup_epochs=0"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """That of a user who has installed the project and whose cache is empty."""
    cache = tmp_path_factory.mktemp("cache")
    return {**user_environment(cache), "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the document's files and nothing else."""
    folder = tmp_path_factory.mktemp("my_study")
    assert set(FILES) == {"mine.py", "my_sweep.yaml", "test_mine.py"}
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Such a folder for a test that changes it."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture(scope="module")
def sweep(environment: dict[str, str], written: Path) -> Path:
    """The store that the document's command leaves, on few images."""
    assert COMMAND.startswith("simclr-ablate ")
    arguments = shlex.split(COMMAND)[1:]
    status, output = run_process(
        environment, written / "runs", *arguments, *SHORT, folder=written, python=True
    )
    assert status == 0, output
    assert "my_sweep: 12 experiments, 0 already finished, 12 to run" in output
    return written / "runs"


def test_the_documents_sweep_is_complete_and_can_be_analysed(sweep: Path) -> None:
    assert [run.state() for run in Store(sweep).runs()] == ["complete"] * 8
    runs = analysis.load(sweep)
    assert set(runs["data.name"]) == {"mine:stripes"}
    assert set(runs["data.label"]) == {"stripes"}
    assert runs["data.fingerprint"].nunique() == 1
    trained = runs[runs["objective"] == "contrastive"]
    assert trained[["top1", *METRICS]].notna().all(axis=None)
    protocols = trained["evaluation.protocol"].value_counts().to_dict()
    assert protocols == {"linear": 7, "mine:nearest_mean": 4}
    trained = trained[trained["evaluation.protocol"] == "linear"]
    for column, expected in {
        "loss.name": {"nt_xent": 5, "mine:decoupled": 2},
        "head.kind": {"nonlinear": 5, "mine:bottleneck": 2},
        "views.policy": {"simclr": 4, "pair": 2, "mine:crop_gamma": 1},
    }.items():
        assert trained[column].value_counts().to_dict() == expected
    assert trained["views.second"].value_counts().to_dict() == {"color": 1, "mine:gamma": 1}
    # Otherwise the same run: what was swapped has had an effect.
    assert trained["pretraining.loss"].nunique() == len(trained)


def test_the_documents_tests_pass(written: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=written, env=environment, capture_output=True, text=True)
    assert "4 passed" in done.stdout, done.stdout


def test_what_is_finished_stays_so_until_the_images_change(
    sweep: Path, study: Path, environment: dict[str, str]
) -> None:
    def summary() -> str:
        arguments = ("-m", "sweep=my_sweep.yaml", "dry_run=true")
        status, output = run_process(environment, sweep, *arguments, *SHORT, folder=study)
        assert status == 0, output
        return output.splitlines()[0]

    text = FILES["mine.py"]
    (study / "mine.py").write_text(text.replace("nn.ReLU()", "nn.Tanh()"))
    assert summary().endswith("12 already finished, 0 to run")
    (study / "mine.py").write_text(text.replace("0.3 * torch.randn", "0.2 * torch.randn"))
    assert summary().endswith("0 already finished, 12 to run")


def finished(store: Path) -> Run:
    run = only_run(store)
    assert run.state() == "complete"
    return run


OWN = [
    *("data.name=mine:stripes", "loss.name=mine:decoupled", "head.kind=mine:bottleneck"),
    *SHORT,
]


def test_ranks_share_a_run_of_ones_own_and_z_is_evaluated(
    study: Path, environment: dict[str, str]
) -> None:
    unmeasured = FILES["mine.py"].replace("entropy.mean())", "z.new_tensor(math.nan))")
    (study / "mine.py").write_text(unmeasured)
    more = ["compute.ranks=2", "evaluation.features=z", "optimizer.micro_batch=32"]
    status, output = run_process(environment, study / "runs", *OWN, *more, folder=study)
    assert status == 0, output
    (evaluation,) = finished(study / "runs").evaluations()
    assert evaluation.startswith("z-")
    runs = analysis.load(study / "runs")
    assert runs[METRICS].isna().to_numpy().tolist() == [[False, False, True]]


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_modules_are_found_where_python_does_not_look_by_itself(
    launcher: str, study: Path, environment: dict[str, str]
) -> None:
    # Neither an installed command has the current folder on its path, nor a cluster's job for sure.
    hidden = {**environment, "PYTHONSAFEPATH": "1"}
    how = ["launcher=slurm", "launcher.cluster=local"] if launcher == "slurm" else []
    status, output = run_process(hidden, study / "runs", *OWN, *how, folder=study, python=True)
    assert status == 0, output
    finished(study / "runs")


def refusal(environment: dict[str, str], folder: Path, *arguments: str) -> str:
    """The line with which a sweep in `folder` is refused, before anything has been written."""
    status, output = run_process(environment, folder / "runs", "-m", *arguments, folder=folder)
    assert status == 2, output
    assert not (folder / "runs").exists()
    (line,) = output.splitlines()
    return line


def test_a_mistake_is_told_as_the_document_says(study: Path, environment: dict[str, str]) -> None:
    wrong = FILES["mine.py"].replace("nn.BatchNorm1d(16)", "nm.BatchNorm1d(16)")
    (study / "mine.py").write_text(wrong)
    assert refusal(environment, study, "sweep=my_sweep.yaml") == MISTAKE


def test_a_sweep_is_refused_for_its_last_piece(study: Path, environment: dict[str, str]) -> None:
    (study / "my_sweep.yaml").write_text(FILES["my_sweep.yaml"].replace("crop_gamma", "crop_gama"))
    line = refusal(environment, study, "sweep=my_sweep.yaml")
    assert "views.policy must name a function that can be imported, got 'mine:crop_gama'" in line
    assert line.endswith("did you mean crop_gamma?")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.yaml", None, "sweep must be the name of a sweep or its file, got 'none.yaml': "),
        ("odd.yaml", "a: [", "sweep=odd.yaml must be YAML: "),
        ("list.yaml", "- a", "sweep=list.yaml must hold a mapping of keys, got ['a']"),
        ("empty.yaml", "", "sweep.grids must be a list of mappings of keys, got None"),
    ],
)
def test_what_is_no_file_of_a_sweep_is_said(
    name: str, text: str | None, message: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert message in refusal(environment, tmp_path, f"sweep={name}")


@pytest.mark.parametrize("form", ["{0}.yaml", "./{0}.yaml", "../{1}/{0}.yaml", "{2}/{0}.yaml"])
def test_a_sweeps_file_may_lie_anywhere(
    form: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    text = "grids:\n  - loss.temperature: [0.1, 0.5]\n"
    (tmp_path / "my-temperatures.yaml").write_text(text)
    path = form.format("my-temperatures", tmp_path.name, tmp_path)
    arguments = ("-m", f"sweep={path}", "dry_run=true")
    status, output = run_process(environment, tmp_path / "runs", *arguments, folder=tmp_path)
    assert status == 0, output
    assert output.startswith("my-temperatures: 2 experiments")
