"""Points and lines: what is drawn where, and labels that can be read."""

import math

import numpy as np
import pytest

from analysis.curves import Curve, Curves, curve_page, describe_curves
from analysis.drawing import style


def drawn(panel):
    with style():
        figure = curve_page([[panel]], "A caption.")
        figure.draw_without_rendering()
    return figure, figure.axes[0]


def panel(*curves, **changes):
    return Curves("Title", "Parameters", "Top-1", curves, **changes)


def test_points_and_intervals_are_where_they_belong():
    x, y, half = np.random.default_rng().uniform(1, 100, (3, 6))
    half[2] = math.nan
    _, axes = drawn(panel(Curve("a", x, y, half), log_x=True))
    (points,) = (line for line in axes.lines if line.get_label() == "a")
    assert points.get_xdata().tolist() == x.tolist()
    assert points.get_ydata().tolist() == y.tolist()
    assert points.get_linestyle() == "None"
    (bars,) = axes.collections
    spans = [segment[:, 1].tolist() for segment in bars.get_segments()]
    reach = np.nan_to_num(half)
    assert spans == [pytest.approx(ends) for ends in zip(y - reach, y + reach, strict=True)]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")


def test_curves_are_told_apart_by_colour_and_shape_and_named():
    curves = [Curve(f"series {n}", [1, 2], [n, n + 1]) for n in range(4)]
    figure, axes = drawn(panel(*curves))
    looks = {(line.get_color(), line.get_marker()) for line in axes.lines}
    assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == 4
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named == [curve.name for curve in curves]
    assert figure.bbox.contains(*axes.get_legend().get_window_extent().min)


def test_a_curve_has_one_look_on_a_page():
    def named(*names):
        return panel(*(Curve(name, [1, 2], [3, 4]) for name in names))

    def told(panels):
        with style():
            axes = curve_page([panels], "A caption.").axes
        return [
            {line.get_label(): (line.get_color(), line.get_marker()) for line in each.lines}
            for each in axes
        ]

    ours, theirs = told([named("SimCLR", "Random"), named("Other", "SimCLR")])
    assert ours["SimCLR"] == theirs["SimCLR"]
    assert len({ours["SimCLR"], ours["Random"], theirs["Other"]}) == 3
    # More than there are looks: each panel by itself.
    first, last = told([named(*"abc"), named(*"defg")])
    assert list(first.values()) == list(last.values())[:3]
    assert len(set(last.values())) == 4


def test_joined_curves_are_lines():
    _, axes = drawn(panel(Curve("a", [1, 2, 3], [3.0, 2.0, 0.1]), joined=True, log_y=True))
    assert axes.lines[0].get_linestyle() == "-"
    assert axes.get_yscale() == "log"


def test_small_numbers_on_a_logarithmic_axis_are_plain():
    _, axes = drawn(panel(Curve("a", [0.15, 20.0], [1.0, 2.0]), log_x=True))
    texts = [text.get_text() for text in axes.get_xticklabels()]
    assert {"0.2", "0.5", "1", "10"} <= set(texts)


def test_labels_of_neighbours_do_not_overlap():
    places = [(170.0, 71.4, "R101 (2x)"), (232.6, 72.0, "R152 (2x)"), (20.0, 54.5, "R34")]
    points = Curve("a", [x for x, *_ in places], [y for _, y, _ in places])
    _, axes = drawn(panel(points, labels=places, log_x=True))
    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == ["R34", "R101 (2x)", "R152 (2x)"]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_labels_of_points_above_each_other_do_not_overlap():
    heights = {"LA": 60.2, "MoCo": 60.6, "PIRL": 63.6, "CPCv2": 63.8, "R50": 69.3, "low": 54.0}
    places = [(24.0, y, name) for name, y in heights.items()]
    points = Curve("a", [x for x, *_ in places], [y for _, y, _ in places])
    _, axes = drawn(panel(points, labels=places, log_x=True))
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == len(places)
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{}], "Points of top-1 against parameters (a; b)"),
        ([{"log_x": True}], "Points of top-1 against parameters on a logarithmic axis (a; b)"),
        (
            [{"joined": True}, {"joined": True, "log_y": True}],
            "Lines of top-1 on linear and logarithmic axes against parameters (a; b)",
        ),
    ],
)
def test_words_for_it_name_axes_and_series(changes, words):
    curves = [Curve(name, [1, 2], [1, 2]) for name in "ab"]
    assert describe_curves([panel(*curves, **each) for each in changes]) == words
