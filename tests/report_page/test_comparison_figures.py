"""Figures of two runs: points, cells, bars and curves stand where a plain count puts them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from compared_pages import places_of, scores
from scalselect.report_page.comparison_figures import (
    LEVELS,
    agreement_curve,
    agreement_drawing,
    angle_drawing,
    part_bar,
    rank_counts,
    rank_drawing,
)
from scalselect.report_page.number_words import percent

SIZES = ((540, 540), (340, 340))
CELLS = {540: 54, 340: 36}


def parsed(drawing):
    return ET.fromstring(str(drawing.markup("f", "title", "description", "wide")))


def texts(root, kind):
    return [element.text for element in root.findall("text") if element.get("class") == kind]


def places_between(value, ends):
    """Return how far along an axis places in units stand, given those of its two ends."""
    return (np.asarray(value, dtype=float) - ends[0]) / (ends[1] - ends[0])


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
    assert parsed(agreement_drawing(numbers, shared, [(1.0, 1.0)], 340, 250)).find("circle") is not None


def test_ranks_are_counted_in_cells():
    places = places_of(*scores(1_000))
    counts = rank_counts(places, 7)
    plain = np.zeros((7, 7), dtype=int)
    for a, b in places.T:
        plain[a * 7 // 1_000, b * 7 // 1_000] += 1
    np.testing.assert_array_equal(counts, plain)


@pytest.mark.parametrize("size", SIZES)
def test_few_rows_are_points(size):
    places = places_of(*scores(100))
    drawing = rank_drawing(places, (10, 20), *size)
    root = parsed(drawing)
    (points,) = [path for path in root.findall("path") if path.get("class") == "points"]
    found = np.array(re.findall(r"M([\d.]+) ([\d.]+)h0", points.get("d")), dtype=float)
    assert found.shape == (100, 2)
    across, up = drawing.place_x([0, 1]), drawing.place_y([0, 1])
    np.testing.assert_allclose(places_between(found[:, 0], across), (places[0] + 0.5) / 100, atol=3e-4)
    np.testing.assert_allclose(places_between(found[:, 1], up), (places[1] + 0.5) / 100, atol=3e-4)
    assert up[0] > up[1]  # the best of both lie at the lower left
    assert across[0] < across[1]
    upright, level = [line for line in root.findall("line") if line.get("class") == "mark"]
    assert places_between(upright.get("x1"), across) == pytest.approx(0.1, abs=1e-3)
    assert places_between(level.get("y1"), up) == pytest.approx(0.2, abs=1e-3)
    assert texts(root, "words") == ["A's budget", "B's budget"]


@pytest.mark.parametrize("size", SIZES)
def test_many_rows_are_a_density(size):
    places, cells = places_of(*scores(20_000)), CELLS[size[0]]
    drawing = rank_drawing(places, (None, None), *size)
    root = parsed(drawing)
    levels = {int(path.get("class")[-1]): path.get("d") for path in root.findall("path")}
    assert sorted(levels) == list(range(1, LEVELS + 1))
    counts = rank_counts(places, cells)
    covered = np.zeros((cells, cells), dtype=int)
    across, up = drawing.place_x([0, 1]), drawing.place_y([0, 1])
    for level, outline in levels.items():
        for left, high, right, low in re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)V([\d.]+)H\1z", outline):
            start, stop = (places_between([left, right], across) * cells).round().astype(int)
            line, above = (places_between([low, high], up) * cells).round().astype(int)
            assert above == line + 1
            covered[start:stop, line] += level
    np.testing.assert_array_equal(covered > 0, counts > 0)
    # The more rows, the stronger the shade.
    assert (np.diff(covered.ravel()[np.argsort(counts, axis=None)]) >= 0).all()
    assert covered.max() == LEVELS
    assert sum(map(len, levels.values())) < 60_000
    assert texts(root, "words") == []


def test_bars_are_as_long_as_their_parts():
    root = ET.fromstring(str(part_bar((30.0, 10.5, 39.5), 160.0, "a bar")))
    bars = root.findall("rect")
    assert [bar.get("class") for bar in bars] == ["only-a", "both", "only-b"]
    np.testing.assert_allclose(
        [float(bar.get("width")) + 2 for bar in bars], np.array([30, 10.5, 39.5]) * 6.25, atol=0.1
    )
    np.testing.assert_allclose([float(bar.get("x")) for bar in bars], [0, 187.5, 253.1], atol=0.1)
    assert [bar.find("title").text for bar in bars] == ["A alone: 30", "both: 10.5", "B alone: 39.5"]
    assert root.get("aria-label") == "a bar"


def test_words_of_a_bar_are_no_markup():
    hostile = '"><script>alert(1)</script>'
    root = ET.fromstring(str(part_bar((1.0, 1.0, 1.0), 3.0, hostile)))
    assert {element.tag for element in root.iter()} == {"svg", "rect", "title"}
    assert root.get("aria-label") == hostile


@pytest.mark.parametrize("size", [(540, 300), (340, 250)])
def test_the_curve_of_agreement_starts_at_a_thousandth(size):
    numbers, shared = agreement_curve(places_of(*scores(50_000)))
    drawing = agreement_drawing(numbers, shared, [(0.16, 0.5), (0.0001, 0.2)], *size)
    root = parsed(drawing)
    line = next(line for line in root.findall("polyline") if line.get("class") == "line leverage")
    points = np.array([pair.split(",") for pair in line.get("points").split()], dtype=float)
    inside = numbers >= 50
    across, up = drawing.place_x([0.001, 1]), drawing.place_y([0, 1])
    np.testing.assert_allclose(
        places_between(points[:, 0], across), 1 + np.log10(numbers[inside] / 50_000) / 3, atol=4e-4
    )
    np.testing.assert_allclose(places_between(points[:, 1], up), shared[inside] / numbers[inside], atol=4e-4)
    (dot,) = root.findall("circle")  # what lies left of the axis is left out
    assert dot.find("title").text == f"of the best {percent(0.16)}, {percent(0.5)} in common"
    chance = next(line for line in root.findall("polyline") if line.get("class") == "line even")
    ends = [tuple(map(float, pair.split(","))) for pair in chance.get("points").split()]
    assert ends[-1] == pytest.approx((across[1], up[1]), abs=0.1)


def test_angles_stand_at_their_height():
    drawing = angle_drawing(np.array([0.0, 45.0, 90.0]), 340, 250)
    root = parsed(drawing)
    heights = places_between([dot.get("cy") for dot in root.findall("circle")], drawing.place_y([0, 90]))
    np.testing.assert_allclose(heights, [0, 0.5, 1], atol=1e-3)
    named = [text for text in texts(root, "tick") if text]
    assert [text for text in ("1", "2", "3") if named.count(text) != 1] == []
    assert "4" not in named
    assert parsed(angle_drawing(np.linspace(0, 80, 300), 340, 250)).findall("circle") == []
