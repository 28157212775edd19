"""The command that takes the pictures of the documentation, and the pictures that lie there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from chromium import executable
from PIL import Image

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
NAMES = {
    f"report-{part}-{width}-{scheme}.png"
    for part in ("happened", "map", "samples")
    for width in SIZES
    for scheme in ("light", "dark")
}


@pytest.mark.slow
def test_pictures_are_taken_of_a_page(report, tmp_path):
    executable()
    words = [sys.executable, ROOT / "examples" / "take_screenshots.py", report.parent, tmp_path / "images"]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    found = {path.name: path for path in (tmp_path / "images").iterdir()}
    assert found.keys() == NAMES
    assert len(told.splitlines()) == len(NAMES)
    check_pictures(found)


def test_pictures_of_the_documentation_are_small():
    found = {path.name: path for path in IMAGES.iterdir()}
    assert found.keys() == NAMES
    check_pictures(found)


def test_the_documentation_shows_them_all():
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    assert set(re.findall(r"images/([\w-]+\.png)", page)) == NAMES


def check_pictures(found):
    """Assert that pictures have the size of their window, their scheme, and not too many bytes."""
    for name, path in found.items():
        _, part, width, scheme = path.stem.split("-")
        assert path.stat().st_size <= 300_000, name
        with Image.open(path) as picture:
            assert picture.size == SIZES[width]
            red, green, blue = picture.convert("RGB").getpixel((2, 500))
            assert (red + green + blue > 600) == (scheme == "light"), part
