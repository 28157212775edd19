"""The page of two runs, opened everywhere as the page of one is."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from chromium import DESKTOP, PHONE
from in_page import TOO_WIDE, look_at_all

pytestmark = pytest.mark.slow
NARROW = {"width": 340, "height": 700}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE, NARROW], ids=lambda size: str(size["width"]))
@pytest.mark.parametrize("which", ["comparison", "hostile_comparison"])
def test_it_opens_and_nothing_moves_or_is_too_wide(show, request, which, size, dark):
    with show(request.getfixturevalue(which), size=size, dark=dark) as page:
        assert page.locator("main > section").count() >= 4
        look_at_all(page)
        page.wait_for_timeout(100)
        assert page.evaluate("seen.shifts.filter((each) => !each.typed)") == []
        assert page.evaluate(TOO_WIDE) == []


def test_it_shows_what_one_run_alone_chose(show, run, other, comparison):
    first, second = (set(chosen(folder)) for folder in (run, other))
    with show(comparison) as page:
        shown = page.locator("[data-row]").evaluate_all("all => all.map((each) => Number(each.dataset.row))")
        text = page.locator("main").inner_text()
        loaded = page.locator("img").evaluate_all(
            "all => Promise.all(all.map((each) => each.decode().then(() => each.naturalWidth)))"
        )
    for alone in (first - second, second - first):
        assert alone
        assert len(alone & set(shown)) == min(len(alone), 50)
        assert str(len(alone)) in text
    assert set(shown) <= first ^ second
    assert str(len(first & second)) in text
    assert loaded
    assert min(loaded) > 0


def chosen(run):
    table = pq.read_table(run / "scores.parquet")
    return [row for row, selected in enumerate(table["selected"].to_pylist()) if selected]
