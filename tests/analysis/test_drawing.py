"""What is drawn: colours, contrast, marks, and files that do not change by themselves."""

import math

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from analysis import drawing
from analysis.drawing import Cell, HeatMap, describe_heat_maps, heat_maps, ink_on, save, style

SHAPE = 3, 4


def heat_map(values, **changes):
    cells = [[Cell(float(value)) for value in row] for row in values]
    names = {"rows": ["a", "b", "c"], "columns": ["p", "q", "r", "mean"]}
    chosen = {"title": "T", "row_title": "1st", "column_title": "2nd", "cells": cells, "apart": 1}
    return HeatMap(**(names | chosen | changes))


def drawn(*maps):
    """The picture's pixels, and a function from map and cell to the colour at its lower left."""
    with style():
        figure = heat_maps(maps, "A caption.\nIts second line.")
        figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255
    bodies = figure.axes[::2]

    def corner(place, row, column):
        x, y = bodies[place].transData.transform((maps[place].left_edge(column) + 0.08, row + 0.92))
        return pixels[len(pixels) - 1 - round(y), round(x)]

    return pixels, corner


def test_cells_have_the_colour_of_their_value():
    values = np.random.default_rng(0).uniform(5, 60, SHAPE)
    other = values[::-1] / 7
    _, corner = drawn(heat_map(values), heat_map(other))
    for place, shown in enumerate([values, other]):
        shades = matplotlib.colormaps["YlGnBu"]((shown - shown.min()) / np.ptp(shown))[..., :3]
        for row, column in np.ndindex(SHAPE):
            assert corner(place, row, column) == pytest.approx(shades[row, column], abs=0.01)


def test_missing_cells_are_grey_and_not_the_colour_of_zero():
    values = np.arange(12.0).reshape(SHAPE)
    values[1, 2] = math.nan
    pixels, corner = drawn(heat_map(values))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    grey = corner(0, 1, 2)
    assert np.ptp(grey) < 0.02
    assert 0.7 < grey.mean() < 0.98
    assert np.ptp(corner(0, 0, 0)) > 0.05


def test_picture_is_made_for_900_pixels_and_nothing_is_cut_off():
    long = "A long sentence that wants several lines. " * 12
    maps = [heat_map(np.ones((7, 8)), rows=["Cutout"] * 7, columns=["Average"] * 8)] * 2
    with style():
        figure = heat_maps(maps, long)
        renderer = figure.canvas.get_renderer()
        (text,) = figure.texts
        extent = text.get_window_extent(renderer)
        whole = figure.get_tightbbox(renderer)
    width, height = figure.get_size_inches()
    assert whole.x0 >= 0
    assert whole.y0 >= 0
    assert whole.x1 <= width
    assert whole.y1 <= height
    assert 1_800 <= width * drawing.DPI <= 2_000
    assert extent.y1 < min(axes.get_tightbbox(renderer).y0 for axes in figure.axes)
    assert " ".join(text.get_text().split()) == long.strip()


def test_numbers_can_be_read_on_every_colour():
    def luminance(color):
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    for color in matplotlib.colormaps[drawing.COLORS](np.linspace(0, 1, 256)):
        pale, dark = sorted([luminance(color[:3]), luminance(to_rgb(ink_on(color)))])[::-1]
        assert (pale + 0.05) / (dark + 0.05) >= 4.5


def test_marks_and_notes_are_drawn():
    plain = [[Cell(10.0), Cell(20.0)]]
    names = {"rows": ["a"], "columns": ["p", "q"], "apart": 0}
    maps = {
        "plain": heat_map([[]], cells=plain, **names),
        "marked": heat_map([[]], cells=[[Cell(10.0, marked=True), Cell(20.0)]], **names),
        "noted": heat_map([[]], cells=[[Cell(10.0, "±1.2"), Cell(20.0)]], **names),
    }
    pictures = {name: drawn(chosen)[0] for name, chosen in maps.items()}
    first_column = drawing.DPI * (drawing.LEFT + drawing.CELL_WIDTH)
    for name in ("marked", "noted"):
        changed = (pictures[name] != pictures["plain"]).any(axis=(0, 2)).nonzero()[0]
        assert len(changed) > 5
        assert changed.max() <= first_column


def test_equal_numbers_give_equal_files(tmp_path):
    values = np.random.default_rng(1).uniform(0, 50, SHAPE)
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with style():
            figure = heat_maps([heat_map(values, reference=("random", 20.0))], "Caption")
        files.append([path.read_bytes() for path in save(figure, tmp_path / name / "picture")])
    assert files[0] == files[1]
    assert [content[:4] for content in files[0]] == [b"\x89PNG", b"%PDF"]


def test_the_users_matplotlib_settings_neither_matter_nor_change(tmp_path):
    values = np.random.default_rng(2).uniform(0, 50, SHAPE)

    def picture(name):
        (tmp_path / name).mkdir()
        with style():
            figure = heat_maps([heat_map(values)], "Caption")
        return save(figure, tmp_path / name / "picture")[0].read_bytes()

    expected = picture("default")
    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 50, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert picture("user") == expected
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("value", [math.nan, 12.5])
def test_maps_of_no_or_one_value_are_drawn(value):
    pixels, _ = drawn(heat_map(np.full(SHAPE, value)))
    assert pixels.std() > 0.01


def test_words_for_maps_name_their_rows_and_columns():
    one = heat_map(np.ones(SHAPE), row_title="Batch size", column_title="Epochs")
    words = "Heat maps of top-1 (%), rows: batch size, columns: epochs"
    assert describe_heat_maps([one, one], "Top-1 (%)") == words
