"""Figures: values stand where they belong, ticks are round, texts stay text."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from scalselect.report_page.figures import Axis, Drawing, Scale, two_sizes

SVG = {"class": "figure wide"}


def drawing_of(x, y, width=540, height=300):
    return Drawing(width, height, Axis(scale=x, name="x", words=str), Axis(scale=y, name="y", words=str))


def parsed(drawing, **names):
    words = {"name": "f", "title": "title", "description": "what it shows", "size": "wide", **names}
    return ET.fromstring(str(drawing.markup(**words)))


@pytest.mark.parametrize(
    ("scale", "most", "ticks"),
    [
        (Scale(0.0, 1.0), 5, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Scale(0.0, 0.128), 5, [0.0, 0.05, 0.1]),
        (Scale(0.0, 32.4), 4, [0.0, 10.0, 20.0, 30.0]),
        (Scale(0.5, 45.5), 6, [10.0, 20.0, 30.0, 40.0]),
        (Scale(1.0, 400.0, log=True), 6, [1.0, 10.0, 100.0]),
        (Scale(1e-9, 1.0, log=True), 5, [1e-9, 1e-7, 1e-5, 1e-3, 0.1]),
        (Scale(0.02, 0.2, log=True), 4, [0.02, 0.05, 0.1, 0.2]),
        (Scale(0.021, 0.022, log=True), 4, [0.021, 0.022]),
    ],
)
def test_ticks_are_round(scale, most, ticks):
    assert scale.ticks(most) == pytest.approx(ticks)


def test_scales_place_values():
    np.testing.assert_allclose(Scale(0, 10).shares([0, 5, 10, 20, -1]), [0, 0.5, 1, 1, 0])
    np.testing.assert_allclose(Scale(1, 100, log=True).shares([1, 10, 100, 0]), [0, 0.5, 1, 0])


def test_a_line_goes_through_its_points():
    drawing = drawing_of(Scale(0, 10), Scale(0, 1))
    drawing.line([0, 5, 10], [0, 1, 0.5], "leverage")
    line = parsed(drawing).find("polyline")
    points = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
    (left, bottom), (middle, top), (right, half) = points
    assert middle == pytest.approx((left + right) / 2, abs=0.06)
    assert half == pytest.approx((top + bottom) / 2, abs=0.06)
    assert left < right
    assert top < bottom
    ticks = {text.text: float(text.get("y")) for text in parsed(drawing).findall("text") if text.get("class") == "tick"}
    assert ticks["1.0"] - 4 == pytest.approx(top, abs=0.06)


def test_a_bar_stands_on_the_axis():
    drawing = drawing_of(Scale(0, 10), Scale(0, 100))
    drawing.bar(2, 4, 50, "chosen", "fifty")
    bar = parsed(drawing).find("rect")
    assert float(bar.get("y")) + float(bar.get("height")) == pytest.approx(300 - 44, abs=0.06)
    assert float(bar.get("height")) == pytest.approx((300 - 44 - 26) / 2, abs=0.06)
    assert bar.get("class") == "bar chosen"
    assert bar.find("title").text == "fifty"


def test_words_lie_inside_and_are_text():
    drawing = drawing_of(Scale(0, 10), Scale(0, 1), width=340)
    drawing.upright(9.9, "<b>words at the right end & more</b>")
    drawing.upright(0.1, "left")
    svg = parsed(drawing, title="<script>", description='"&')
    words = [text for text in svg.findall("text") if text.get("class") == "words"]
    assert [text.get("text-anchor") for text in words] == ["end", "start"]
    assert words[0].text == "<b>words at the right end & more</b>"
    assert svg.find("title").text == "<script>"
    assert svg.get("aria-labelledby") == "f-t f-d"
    assert svg.find("desc").get("id") == "f-d"
    assert not [part for part in svg.iter() if "style" in part.attrib]


def test_a_figure_is_drawn_for_both_widths():
    markup = two_sizes("f", "t", "d", lambda width, height: drawing_of(Scale(0, 1), Scale(0, 1), width, height))
    both = ET.fromstring(f"<div>{markup}</div>")
    assert [svg.get("class") for svg in both] == ["figure wide", "figure narrow"]
    assert [svg.get("viewBox") for svg in both] == ["0 0 540 300", "0 0 340 250"]
