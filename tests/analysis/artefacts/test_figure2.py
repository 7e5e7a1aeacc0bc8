"""Figure 2: the parts that it names are there, and its views are views."""

import importlib

import numpy as np
import pandas as pd
from matplotlib.text import Text

from analysis.artefacts import ARTEFACTS, figure2
from analysis.report import write
from analysis.views import two_views
from simclr_ablate.paths import config_folder


def test_every_part_is_made_by_a_function_of_ours():
    for part in figure2.PARTS:
        module, _, name = part.maker.rpartition(".")
        function = getattr(importlib.import_module(f"simclr_ablate.{module}"), name)
        assert callable(function)
        assert function.__module__ == f"simclr_ablate.{module}"


def test_every_choice_is_in_the_config():
    for part in figure2.PARTS:
        group = part.key.partition(".")[0]
        named = part.choices.partition(", or ")[0].split(", ")
        there = {path.stem for path in (config_folder("conf") / group).glob("*.yaml")}
        assert len(named) > 2
        assert set(named) <= there


def test_it_is_written_in_every_form(tmp_path):
    (report,) = ARTEFACTS["figure2"].reports(pd.DataFrame())
    assert len(write(report, tmp_path, ["simclr-ablate analyse"])) == 5
    latex = (tmp_path / "figure2.tex").read_text()
    assert latex.isascii()
    assert "u2032" not in latex
    drawn = {text.get_text() for text in report.figure.findobj(Text)}
    for part in figure2.PARTS[:-1]:
        assert {part.title, part.maker} <= drawn
    assert "h alone is used" in report.alt


def test_the_views_are_of_the_image(tmp_path):
    from analysis.images import Source

    for seed in np.random.default_rng().integers(0, 10**6, 3).tolist():
        made = two_views(Source("n", "shapes", 32, seed))
        assert made["image"].shape == (3, 32, 32)
        assert made["views"].shape == (2, 3, 32, 32)
        assert not np.array_equal(*made["views"])
