"""The style sheet: texts and marks stand out from what is behind them, on light and on dark screens."""

import re
from itertools import product
from pathlib import Path

import pytest

import scalselect.report_page

STYLE = (Path(scalselect.report_page.__file__).parent / "static" / "page.css").read_text(encoding="utf-8")
TEXTS = [*product(["ink", "quiet", "link"], ["paper", "raised"]), ("ink", "warn-paper")]
MARKS = [*product(["chosen", "others", "skipped", "text-only", "barred", "focus"], ["paper"]), ("warn-line", "paper")]


def palettes():
    found = {}
    for place, block in enumerate(re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)):
        found["light" if place == 0 else "dark"] = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
    return found


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("words", "behind"), TEXTS)
def test_texts_can_be_read(scheme, words, behind):
    palette = palettes()[scheme]
    assert contrast(palette[words], palette[behind]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("mark", "behind"), MARKS)
def test_marks_can_be_seen(scheme, mark, behind):
    palette = palettes()[scheme]
    assert contrast(palette[mark], palette[behind]) >= 3


def test_both_palettes_name_the_same_colours_and_all_that_are_used():
    light, dark = palettes()["light"], palettes()["dark"]
    assert set(light) == set(dark)
    used = set(re.findall(r"var\(--([a-z-]+)\)", STYLE)) - {"sans", "mono"}
    assert used <= set(light)


def test_dark_colours_are_for_screens_alone():
    assert "@media screen and (prefers-color-scheme: dark)" in STYLE
    assert len(re.findall(r"prefers-color-scheme", STYLE)) == 1
