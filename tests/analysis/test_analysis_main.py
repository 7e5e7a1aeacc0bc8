"""`python -m analysis`: what it writes, what it says, how it ends."""

import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from analysis.__main__ import main
from analysis.artefacts import ARTEFACTS
from simclr_ablate.paths import config_folder


@pytest.fixture
def store(tmp_path, make):
    make.put(tmp_path / "runs", make.pair("crop", "color"), 50.0)
    make.put(tmp_path / "runs", make.pair("crop", "crop"), 40.0)
    return tmp_path / "runs"


@pytest.mark.parametrize("names", [[], ["figure5", "figure5"]])
def test_artefacts_are_written_and_named(store, tmp_path, capsys, names):
    out = tmp_path / "reports"
    assert main([*names, "--store", str(store), "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    files = sorted(str(path) for path in out.iterdir())
    # Table 2 needs no runs; the scorecard has no picture; and there is the page.
    assert len(files) == (5 if names else 14)
    assert sorted(line for line in printed if line in files) == files


def test_an_artefact_without_runs_names_the_sweep(tmp_path, capsys, make):
    make.put(tmp_path / "runs", make.experiment(), 50.0)
    for names in ([], ["figure5"]):
        assert main([*names, "--store", str(tmp_path / "runs"), "--out", str(tmp_path)]) == 1
        said = capsys.readouterr().err
        assert "figure5: no finished runs" in said
        assert "python -m simclr_ablate -m sweep=augmentation_grid" in said


def test_a_store_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["figure5", "--store", str(tmp_path / "nowhere")]) == 1
    said = capsys.readouterr().err
    assert f"store {tmp_path / 'nowhere'} does not exist" in said
    assert "sweep=augmentation_grid" in said


def test_what_needs_no_runs_is_written_without_a_store(tmp_path, capsys):
    out = tmp_path / "reports"
    assert main(["table2", "--store", str(tmp_path / "nowhere"), "--out", str(out)]) == 0
    assert capsys.readouterr().err == ""
    assert len(list(out.iterdir())) == 5


def test_an_unknown_artefact_names_the_nearest(store, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["figur5", "--store", str(store)])
    assert ended.value.code == 2
    assert "unknown artefact figur5; did you mean figure5?" in capsys.readouterr().err


def test_every_artefact_has_its_module():
    for artefact in ARTEFACTS.values():
        assert callable(artefact.module().reports)


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
