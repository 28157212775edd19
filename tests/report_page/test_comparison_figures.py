"""Figures of two runs: points, cells, bars and curves stand where a plain count puts them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from compared_pages import places_of, scores
from scalselect.report_page import comparison_figures
from scalselect.report_page.comparison_figures import (
    LEVELS,
    agreement_curve,
    agreement_figure,
    angle_figure,
    both_sizes,
    overlap_bars,
    rank_counts,
    rank_figure,
)

WIDTHS = (540, 340)
LEFT, RIGHT = 48, 14


def parsed(markup):
    return ET.fromstring(f"<svg>{markup}</svg>")


def texts(root, kind):
    return [element.text for element in root.findall("text") if element.get("class") == kind]


def unit(width, values):
    """Return horizontal places as shares of the axis."""
    return (np.asarray(values) - LEFT) / (width - LEFT - RIGHT)


def test_agreement_is_that_of_sets():
    places = places_of(*scores(300))
    numbers, shared = agreement_curve(places)
    best = [[{row for row in range(300) if place[row] < number} for number in numbers] for place in places]
    assert shared.tolist() == [len(a & b) for a, b in zip(*best, strict=True)]
    assert (numbers[0], numbers[-1], shared[-1]) == (1, 300, 300)
    assert len(numbers) < 160


def test_agreement_of_one_row():
    numbers, shared = agreement_curve(places_of(np.array([1.0]), np.array([2.0])))
    assert (numbers.tolist(), shared.tolist()) == ([1], [1])
    assert parsed(agreement_figure(numbers, shared, [(1.0, 1.0)], 340)).find("polyline") is not None


def test_ranks_are_counted_in_cells():
    places = places_of(*scores(1_000))
    counts = rank_counts(places, 7)
    plain = np.zeros((7, 7), dtype=int)
    for a, b in places.T:
        plain[a * 7 // 1_000, b * 7 // 1_000] += 1
    np.testing.assert_array_equal(counts, plain)


@pytest.mark.parametrize("width", WIDTHS)
def test_few_rows_are_points(width):
    places = places_of(*scores(100))
    root = parsed(rank_figure(places, (10, 20), width))
    (points,) = [path for path in root.findall("path") if path.get("class") == "points"]
    found = np.array(re.findall(r"M([\d.]+) ([\d.]+)h0", points.get("d")), dtype=float)
    assert found.shape == (100, 2)
    np.testing.assert_allclose(unit(width, found[:, 0]), (places[0] + 0.5) / 100, atol=2e-4)
    # Upwards is worse in B: the best of both lies at the lower left.
    np.testing.assert_array_equal(np.argsort(-found[:, 1]), np.argsort(places[1]))
    marks = [line for line in root.findall("line") if line.get("class") == "mark"]
    assert unit(width, float(marks[0].get("x1"))) == pytest.approx(0.1, abs=1e-3)
    assert texts(root, "words") == ["A's budget", "B's budget"]


@pytest.mark.parametrize("width", WIDTHS)
def test_many_rows_are_a_density(width):
    places = places_of(*scores(20_000))
    root = parsed(rank_figure(places, (None, None), width))
    levels = {int(path.get("class")[-1]): path for path in root.findall("path")}
    assert sorted(levels) == list(range(1, LEVELS + 1))
    cells = {540: 54, 340: 36}[width]
    counts = rank_counts(places, cells)
    assert counts.sum() == 20_000
    side = (width - LEFT - RIGHT) / cells
    covered = np.zeros((cells, cells), dtype=int)
    heights = [
        tuple(map(float, numbers))
        for numbers in re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)V([\d.]+)", "".join(p.get("d") for p in levels.values()))
    ]
    bottom = max(low for *_, low in heights)
    for level, path in levels.items():
        for left, high, right, low in re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)V([\d.]+)", path.get("d")):
            start, stop = round((float(left) - LEFT) / side), round((float(right) - LEFT) / side)
            line = round((bottom - float(low)) / side)
            assert float(low) - float(high) == pytest.approx(side, abs=0.11)
            covered[start:stop, line] += level
    np.testing.assert_array_equal(covered > 0, counts > 0)
    # The more rows, the darker.
    order = np.argsort(counts, axis=None)
    assert (np.diff(covered.ravel()[order]) >= 0).all()
    assert covered.max() == LEVELS
    assert len(str(rank_figure(places, (None, None), width))) < 100_000
    assert texts(root, "words") == []


def test_bars_are_as_long_as_their_parts():
    root = parsed(overlap_bars([("runs", 10.0, 30.0, 20.0), ("chance", 30.0, 10.5, 39.5)], 340))
    bars = root.findall("rect")
    assert [bar.get("class") for bar in bars] == ["only-a", "both", "only-b"] * 2
    widths = [float(bar.get("width")) + 1 for bar in bars]
    np.testing.assert_allclose(widths, 340 / 80 * np.array([10, 30, 20, 30, 10.5, 39.5]), atol=0.06)
    np.testing.assert_allclose([float(bar.get("x")) for bar in bars[:3]], [0, 42.5, 170], atol=0.06)
    assert texts(root, "words") == ["runs", "chance"]
    assert texts(root, "tick") == ["10 A alone · 30 both · 20 B alone", "30 A alone · 10.5 both · 39.5 B alone"]
    assert bars[1].find("title").text == "both: 30"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_curve_of_agreement_starts_at_a_thousandth(width):
    numbers, shared = agreement_curve(places_of(*scores(50_000)))
    root = parsed(agreement_figure(numbers, shared, [(0.16, 0.5), (0.0001, 0.2)], width))
    line = next(line for line in root.findall("polyline") if line.get("class") == "line agreement")
    points = np.array([pair.split(",") for pair in line.get("points").split()], dtype=float)
    inside = numbers >= 50
    np.testing.assert_allclose(unit(width, points[:, 0]), 1 + np.log10(numbers[inside] / 50_000) / 3, atol=2e-4)
    bottom, top = 300 - 44, 26
    np.testing.assert_allclose((bottom - points[:, 1]) / (bottom - top), shared[inside] / numbers[inside], atol=3e-4)
    assert texts(root, "words") == ["50%"]  # what lies left of the axis is left out
    (dot,) = root.findall("circle")
    assert dot.find("title").text == "best 16.0%: 50.0% in common"


def test_angles_stand_at_their_height():
    root = parsed(angle_figure(np.array([0.0, 45.0, 90.0]), 340))
    heights = [float(dot.get("cy")) for dot in root.findall("circle")]
    assert heights == [pytest.approx(216), pytest.approx((216 + 26) / 2), pytest.approx(26)]
    assert len(parsed(angle_figure(np.linspace(0, 80, 300), 340)).findall("circle")) == 0


def test_words_of_figures_are_no_markup():
    hostile = '</svg><script>alert(1)</script>"'
    bars = [(hostile, 1.0, 1.0, 1.0)]
    drawn = both_sizes("n", hostile, hostile, lambda width: width, lambda width: overlap_bars(bars, width))
    root = ET.fromstring(f"<div>{drawn}</div>")
    assert {element.tag for element in root.iter()} == {"div", "svg", "title", "desc", "text", "rect"}
    assert [svg.get("class") for svg in root] == ["figure wide", "figure narrow"]
    for svg in root:
        names = svg.get("aria-labelledby").split()
        assert [svg.find(f"*[@id='{name}']").text for name in names] == [hostile, hostile]
        assert svg.get("viewBox") == f"0 0 {svg.get('width')} {svg.get('height')}"


def test_rows_on_average_need_not_be_whole():
    assert [comparison_figures.row_words(n) for n in (3, 3.0, 12.64, 12345.6)] == ["3", "3", "12.6", "12,346"]
