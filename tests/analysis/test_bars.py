"""Grouped bars: heights, intervals and labels are those of the numbers, and nothing is cut off."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.bars import NARROW, Bar, Bars, bar_page, describe_bars, group_names, shades
from analysis.drawing import DPI, save, style
from analysis.panels import PAGE


def panel(heights, halves=None, **changes):
    halves = np.full(np.shape(heights), math.nan) if halves is None else halves
    names = {
        "title": "Ours",
        "value_title": "Top-1 (%)",
        "group_title": "Batch size",
        "series_title": "Epochs",
        "groups": [f"{2**n * 64:,}" for n in range(np.shape(heights)[1])],
        "series": [f"{n + 1}00" for n in range(len(heights))],
        "bars": [
            [Bar(float(height), float(half)) for height, half in zip(*line, strict=True)]
            for line in zip(heights, halves, strict=True)
        ],
    }
    return Bars(**(names | changes))


def drawn(*rows, caption="A caption."):
    with style():
        figure = bar_page(rows, caption)
        figure.canvas.draw()
    return figure


def rectangles(axes):
    return [patch for container in axes.containers for patch in getattr(container, "patches", [])]


def test_bars_have_the_heights_of_their_numbers_series_by_series():
    heights = np.random.default_rng(0).uniform(40, 60, (3, 4)).round(1)
    (axes,) = drawn([panel(heights)]).axes
    found = sorted(rectangles(axes), key=lambda bar: bar.get_x())
    assert [bar.get_height() for bar in found] == heights.T.ravel().tolist()
    for group in range(4):
        inside = [bar.get_x() + bar.get_width() / 2 for bar in found[3 * group : 3 * group + 3]]
        assert np.abs(np.array(inside) - group).max() < 0.5


def test_intervals_reach_as_far_as_they_say():
    generator = np.random.default_rng(1)
    heights, halves = generator.uniform(40, 60, (2, 3)), generator.uniform(1, 3, (2, 3))
    halves[0, 1] = math.nan
    (axes,) = drawn([panel(heights, halves)]).axes
    ends = [
        tuple(segment[:, 1])
        for lines in axes.collections
        for segment in lines.get_segments()
        if len(segment)
    ]
    expected = np.stack([heights - halves, heights + halves], -1).reshape(-1, 2)
    expected = sorted(map(tuple, expected[~np.isnan(expected[:, 0])]))
    assert np.allclose(sorted(ends), expected)


@pytest.mark.parametrize(
    ("heights", "reference"),
    [([[60.0, 64.0]], None), ([[60.0, 64.0]], 21.0), ([[0.5, 8.3]], None), ([[70.0, 70.2]], None)],
)
def test_limits_hold_everything(heights, reference):
    shown = panel(heights, reference=("random", reference) if reference else None)
    low, high = shown.limits()
    everything = [*heights[0], *([reference] if reference else [])]
    assert low < min(everything)
    assert max(everything) < high
    assert low >= 0
    # What differs by little does not look as if it were much.
    assert low <= 0.85 * max(everything)


def test_what_is_missing_has_a_dash_and_what_does_not_belong_has_nothing():
    bars = [[Bar(50.0), Bar(math.nan), None]]
    (axes,) = drawn([panel([[1, 2, 3]], bars=bars)]).axes
    assert len(rectangles(axes)) == 1
    assert [text.get_position()[0] for text in axes.texts if text.get_text() == "–"] == [1]
    low, high = panel([[1, 2, 3]], bars=[[None, Bar(math.nan), None]]).limits()
    assert low < high


def test_shades_differ_in_grey():
    for count in (2, 3, 10):
        colors = np.array(shades(panel(np.ones((count, 2)))))[:, :3]
        grey = colors @ [0.299, 0.587, 0.114]
        assert (np.diff(grey) < -0.02).all()


def test_a_series_has_one_color_on_a_page():
    few = panel(np.ones((2, 2)), series=["b", "a"])
    others = panel(np.ones((2, 2)), series=["b", "d"])
    many = panel(np.ones((3, 2)), series=["a", "b", "c"])
    elsewhere = replace(many, series_title="Method")
    of_many = dict(zip(many.series, shades(many), strict=True))
    assert shades(few, [few, others, many]) == [of_many["b"], of_many["a"]]
    for page in ([few, others], [few, elsewhere]):
        assert shades(few, page) == shades(few)
    axes = drawn([few], [many]).axes
    faces = [[bar.get_facecolor() for bar in rectangles(each)] for each in axes]
    assert faces[0] == [faces[1][2]] * 2 + [faces[1][0]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_nothing_is_cut_off_and_no_labels_overlap(columns):
    heights = np.random.default_rng(2).uniform(40, 60, (10, 7))
    one = panel(heights, heights / 20, reference=("random encoder (38.0)", 38.0))
    one = replace(one, groups=[f"yes\n0.{n}5" for n in range(7)])
    figure = drawn([one] * columns, [replace(one, series=["x" * 12] * 10)] * columns)
    renderer = figure.canvas.get_renderer()
    whole, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
    assert 0 <= whole.x0 <= whole.x1 <= width
    assert 0 <= whole.y0 <= whole.y1 <= height
    assert width * DPI == PAGE * DPI
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [axes.xaxis.label, axes.title, *axes.texts, *axes.get_xticklabels()]
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:place]), texts[place]


def test_equal_numbers_give_equal_files(tmp_path):
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        figure = drawn([panel([[50.0, 60.0], [52.0, 61.0]], [[1.0, 2.0], [1.0, 1.0]])])
        files.append([path.read_bytes() for path in save(figure, tmp_path / name / "picture")])
    assert files[0] == files[1]


def test_a_cut_axis_is_told():
    texts = [drawn([panel(heights)]).texts[0].get_text() for heights in ([[60, 62]], [[1, 50]])]
    assert ["starts at 0" in text for text in texts] == [True, False]


def test_words_for_it_name_what_is_drawn_each_once():
    one = panel([[1, 2]], group_title="l2 norm, Temperature", series_title="")
    assert describe_bars([[one, one]]) == "Bars of top-1 (%) by l2 norm and temperature"
    other = panel([[1, 2]], value_title="Entropy (nats)")
    assert describe_bars([[one, other]]) == (
        "Bars of top-1 (%) and entropy (nats) by l2 norm, temperature, batch size and epochs"
    )


def test_long_names_of_groups_are_broken_where_they_may_be():
    names = ["VAT+Entropy Min.\nResNet-50", "Custom-ResNet", "", "S4L (Rot+VAT+En. M.)", "a b"]
    broken = group_names(panel(np.ones((1, 5)), groups=names), 5 * 8 * NARROW * 1.03)
    assert broken[:3] == ["VAT+\nEntropy\nMin.\nResNet-50", "Custom-\nResNet", ""]
    assert broken[3:] == ["S4L\n(Rot+\nVAT+En.\nM.)", "a b"]
    wide = group_names(panel(np.ones((1, 5)), groups=names), 100)
    assert wide == names
