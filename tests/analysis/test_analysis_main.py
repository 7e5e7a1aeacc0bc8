"""`simclr-ablate analyse`: what it writes, what it says, how it ends."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from analysis.__main__ import main, parser
from analysis.artefacts import ARTEFACTS
from analysis.findings import main as findings_main
from simclr_ablate.artefact import OF_PAPER
from simclr_ablate.paths import config_folder

pytestmark = pytest.mark.slow

WITHOUT_RUNS = [artefact.name for artefact in ARTEFACTS.values() if not artefact.sweep]
FILES = 5 * (1 + len(WITHOUT_RUNS)) + 3 + 1
"""What all artefacts with something to show write: those without runs and Figure 5, the scorecard, which has no
picture, and the page."""


@pytest.fixture
def store(tmp_path, make):
    make.put(tmp_path / "runs", make.pair("crop", "color"), 50.0)
    make.put(tmp_path / "runs", make.pair("crop", "crop"), 40.0)
    return tmp_path / "runs"


@pytest.mark.parametrize("names", [[], ["figure5", "figure5"]])
def test_artefacts_are_written_and_named(store, tmp_path, capsys, names):
    out = tmp_path / "reports"
    assert main([*names, f"store={store}", f"out={out}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    files = sorted(str(path) for path in out.iterdir())
    assert len(files) == (5 if names else FILES)
    assert sorted(line for line in printed if line in files) == files


def test_the_files_of_each_artefact_are_there_for_scripts(store, tmp_path, capsys):
    out = tmp_path / "reports"
    assert main(["--json", "figure5", "table2", f"store={store}", f"out={out}"]) == 0
    files = json.loads(capsys.readouterr().out)
    assert files.keys() == {"figure5", "table2"}
    assert sorted(itertools.chain(*files.values())) == sorted(map(str, out.iterdir()))
    assert main(["--quiet", f"store={store}", "--json", f"out={tmp_path / 'all'}"]) == 0
    printed = capsys.readouterr()
    files = json.loads(printed.out)
    assert set(files) == {*WITHOUT_RUNS, "figure5", "claims", "index"}
    assert sum(map(len, files.values())) == FILES
    assert printed.err == ""


def test_earlier_spellings_do_the_same(store, tmp_path, capsys):
    out = tmp_path / "reports"
    printed = []
    for command, words in (
        (main, ["figure5", f"store={store}", f"out={out}"]),
        (main, ["--store", str(store), "figure5", "--out", str(out)]),
        (findings_main, [f"store={store}"]),
        (main, ["claims", "--store", str(store)]),
        (findings_main, ["more", "--json", f"store={store}"]),
        (main, ["more", "--json", "--store", str(store)]),
    ):
        assert command(words) == 0
        printed.append(capsys.readouterr())
    assert printed[::2] == printed[1::2]
    assert not re.search(r"--store|--out|\bclaims\b|\bmore\b", parser().format_help())


def test_an_artefact_without_runs_names_the_sweep(tmp_path, capsys, make):
    make.put(tmp_path / "runs", make.experiment(), 50.0)
    for names in ([], ["figure5"]):
        assert main([*names, f"store={tmp_path / 'runs'}", f"out={tmp_path}"]) == 1
        said = capsys.readouterr().err
        assert "figure5: The store holds 1 run, but none of sweep=augmentation_grid." in said
        command = f"-m sweep=augmentation_grid store={tmp_path / 'runs'}"
        assert f"simclr-ablate {command}" in said


@pytest.mark.parametrize("names", [[], ["figure5"], ["claims"]])
def test_a_store_that_is_none_is_refused_in_one_true_line(tmp_path, capsys, names):
    out, empty, file = tmp_path / "out", tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.touch()
    for store, said in (
        (tmp_path / "nowhere", f"the store {tmp_path / 'nowhere'} does not exist"),
        (empty, f"the store {empty} has nothing to show: it holds no runs"),
        (file, f"{file} is a file, not a folder; choose another place with store=DIR"),
    ):
        assert main([*names, f"store={store}", f"out={out}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert said in line


@pytest.mark.parametrize(
    ("names", "option"),
    [([], "store"), (["claims"], "store"), ([], "out"), (["table2"], "out")],
)
def test_a_folder_closed_to_us_is_refused_in_one_line(store, names, option):
    """As nobody, where we are root, whom nothing is closed to."""
    code = (
        "import os, sys; from analysis.__main__ import main\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    with tempfile.TemporaryDirectory() as folder:
        closed, out = Path(folder, "closed"), Path(folder, "out")
        closed.mkdir()
        out.mkdir()
        Path(folder).chmod(0o755)
        out.chmod(0o777)
        shutil.copytree(store, Path(folder, "runs"))
        closed.chmod(0o000)
        places = {"store": Path(folder, "runs"), "out": out} | {option: closed}
        options = [f"{name}={place}" for name, place in places.items()]
        done = subprocess.run(
            [sys.executable, "-c", code, *names, *options], capture_output=True, text=True
        )
        closed.chmod(0o700)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: cannot use {closed}: no permission")
    assert f"with {option}=DIR" in line


@pytest.mark.parametrize("names", [[], ["figure5"]])
def test_a_folder_for_reports_that_is_none_is_refused_in_one_line(store, tmp_path, capsys, names):
    file = tmp_path / "file"
    file.touch()
    for out in (file, file / "inside"):
        assert main([*names, f"store={store}", f"out={out}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == (
            f"error: cannot use {out}: {file} is a file, not a folder; "
            "choose another place with out=DIR"
        )


def test_on_a_full_disk_what_fits_is_there_and_the_rest_is_named(
    store, tmp_path, capsys, monkeypatch
):
    # One after the other: where two are written at once, either may take the room that the other needs.
    monkeypatch.setattr("analysis.processes.available_cores", lambda: 1)
    out = tmp_path / "small"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96k", "none", str(out)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no small disk can be mounted here")
    try:
        assert main([f"store={store}", f"out={out}"]) == 2
        said = capsys.readouterr().err.splitlines()
        assert said
        assert all(str(out) in line and "the disk is full" in line for line in said)
        assert {line.partition(":")[0] for line in said} <= {"figure5", "error", *WITHOUT_RUNS}
        files = list(out.iterdir())
        assert files
        assert all(file.stat().st_size and ".tmp" not in file.name for file in files)
    finally:
        subprocess.run(["umount", str(out)], check=True)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_output_that_lacks_characters_stops_nothing(store, tmp_path, encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    out = tmp_path / "out"
    for names in (["figure5", "tableC1"], ["claims"]):
        command = [sys.executable, "-m", "analysis", *names, f"store={store}"]
        done = subprocess.run([*command, f"out={out}"], capture_output=True, env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        text = done.stdout.decode(encoding)
        assert ("–" in text or "’" in text) == (encoding == "utf-8")
        if names != ["claims"]:
            assert ("Spearman’s ρ" if encoding == "utf-8" else "Spearman's rho") in text
    assert len(list(out.iterdir())) == 10


@pytest.mark.parametrize("names", [[], ["claims"]])
def test_a_reader_that_leaves_stops_nothing(store, tmp_path, names):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "analysis", *names, f"store={store}", f"out={out}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
    assert names or len(list(out.iterdir())) == FILES


def test_one_artefact_that_fails_costs_itself_alone(store, tmp_path, capsys, monkeypatch):
    def fail(artefact, runs):
        raise LookupError("no such thing")

    monkeypatch.setattr("analysis.processes.available_cores", lambda: 1)
    monkeypatch.setattr("analysis.artefacts.table2.reports", fail)
    out = tmp_path / "out"
    assert main([f"store={store}", f"out={out}"]) == 1
    assert "table2: LookupError: no such thing" in capsys.readouterr().err
    assert (out / "figure5-shapes.png").exists()
    page = (out / "index.html").read_text()
    assert "Nothing was written: LookupError: no such thing" in page


def test_a_label_has_no_effect_on_a_terminal(tmp_path, make, capsys):
    for second in ("color", "crop"):
        label = "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold]"
        make.put(tmp_path / "runs", make.pair("crop", second, **{"data.label": label}), 50.0)
    for names in (["figure5"], ["claims"]):
        assert main([*names, f"store={tmp_path / 'runs'}", f"out={tmp_path}"]) == 0
        said = capsys.readouterr().out
        assert "\x1b" not in said
        assert "\x07" not in said
        # However narrow the terminal is, nothing of it is lost.
        assert "\\x1b[31mred\\x1b]0;title\\x07[bold]x[/bold]" in "".join(said.split())


def test_what_needs_no_runs_is_written_without_a_store(tmp_path, capsys):
    out = tmp_path / "reports"
    assert main(["table2", f"store={tmp_path / 'nowhere'}", f"out={out}"]) == 0
    assert capsys.readouterr().err == ""
    assert len(list(out.iterdir())) == 5


def test_an_unknown_artefact_names_the_nearest(store, capsys):
    assert main(["figur5", f"store={store}"]) == 2
    assert "unknown artefact figur5; did you mean figure5?" in capsys.readouterr().err


def test_every_artefact_has_its_module():
    for artefact in ARTEFACTS.values():
        assert callable(artefact.reports)


def test_a_sweep_may_name_every_artefact():
    assert sorted(OF_PAPER) == sorted(ARTEFACTS)


def test_sweeps_name_artefacts_that_are_drawn_from_them():
    sweeps = [OmegaConf.load(path) for path in config_folder("sweeps").glob("*.yaml")]
    named = {sweep.artefact: sweep.name for sweep in sweeps if "artefact" in sweep}
    assert len(named) > 3
    for name, sweep in named.items():
        assert ARTEFACTS[name].sweep == sweep


def test_artefacts_are_called_as_in_the_paper():
    labels = [ARTEFACTS[name].label for name in ("figure5", "table5", "tableB1")]
    assert labels == ["Figure 5", "Table 5", "Table B.1"]


def test_help_lists_the_artefacts_without_loading_libraries():
    code = (
        "import sys, analysis.__main__\n"
        "try: analysis.__main__.main(['--help'])\n"
        "finally: print('loaded:', {'pandas', 'numpy', 'matplotlib', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert "loaded: set()" in done.stdout
    for artefact in ARTEFACTS.values():
        assert artefact.name in done.stdout
        assert artefact.sweep is None or f"sweep={artefact.sweep}" in done.stdout
