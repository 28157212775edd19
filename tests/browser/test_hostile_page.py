"""Texts of the data stay texts, whatever they look like: nothing runs, nothing is fetched, nothing is hidden."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hostile_run import PAYLOADS
from in_page import FOREIGN_ELEMENTS, look_at_all, settled

from scalselect.printable import printable

pytestmark = pytest.mark.slow
PAGES = ["hostile_report", "hostile_comparison"]
UNPRINTED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("which", PAGES)
def test_nothing_runs_and_nothing_becomes_markup(show, request, which, dark):
    with show(request.getfixturevalue(which.replace("hostile_", "")), dark=dark) as page:
        scripts = page.locator("script").count()
    with show(request.getfixturevalue(which), dark=dark) as page:
        look_at_all(page)
        assert page.evaluate(FOREIGN_ELEMENTS) == []
        assert page.locator("script").count() == scripts
        assert page.evaluate("document.styleSheets.length") == 1
        assert page.evaluate("[...document.querySelectorAll('style')].length") == 1
        assert page.evaluate("location.href").startswith("file:")


def test_what_would_be_foreign_is_noticed(show, report):
    with show(report) as page:
        page.evaluate(
            """() => {
              const link = document.createElement("a");
              link.setAttribute("href", "javascript:1");
              document.querySelector("main").append(link, document.createElement("iframe"));
              document.querySelector("h2").setAttribute("onclickx", "1");
            }"""
        )
        assert sorted(kind for kind, _ in page.evaluate(FOREIGN_ELEMENTS)) == ["address", "element", "handler"]


@pytest.mark.parametrize("which", PAGES)
def test_without_scripts_it_is_text_as_well(show, request, which):
    file = request.getfixturevalue(which)
    with show(file, script=False) as page:
        assert page.evaluate(FOREIGN_ELEMENTS) == []
    assert not UNPRINTED.search(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("which", PAGES)
def test_nothing_commands_a_terminal_or_turns_the_order_of_letters(show, request, which):
    with show(request.getfixturevalue(which)) as page:
        look_at_all(page)
        assert not UNPRINTED.search(page.evaluate("document.body.textContent"))
        assert "\\u202e" in page.locator("body").inner_text()


def test_it_is_shown_as_it_was_written(show, hostile_report):
    with show(hostile_report) as page:
        look_at_all(page)
        text = page.locator("main").evaluate("each => each.textContent")
    for payload in PAYLOADS:
        assert printable(payload) in text
    assert "{{ 7 * 7 }}" in text
    assert "\\u001b]0;named\\u0007" in text
    assert "\\u202egnp.exe" in text
    assert "half \\ud83d of a pair \\udc00" in text


def test_every_dot_and_every_filter_can_be_used(show, hostile_report):
    with show(hostile_report) as page:
        for by in page.locator("#map-colour option").evaluate_all("all => all.map((each) => each.value)"):
            page.select_option("#map-colour", by)
            settled(page)
        rows = page.evaluate("scalselectReport.data.samples.cards.filter((card) => card.rank).map((card) => card.row)")
        page.locator("#map-canvas").scroll_into_view_if_needed()
        for row in rows[::5]:
            place = page.evaluate("(row) => scalselectReport.map.placeOf(row)", row)
            page.mouse.move(place["x"], place["y"])
            assert page.locator("#map-tooltip").is_visible()
            page.mouse.click(place["x"], place["y"])
            page.evaluate("document.querySelector('#map-panel summary')?.click()")
        for control in ("#samples-source", "#samples-overlay", "#samples-group"):
            for value in page.locator(f"{control} option").evaluate_all("all => all.map((each) => each.value)"):
                page.select_option(control, value=value)
                assert page.locator("#samples-list .card").count() > 0
            page.locator(control).evaluate(
                "each => { each.selectedIndex = 0; each.dispatchEvent(new Event('change')); }"
            )
        page.select_option("#samples-group", "")
        for payload in PAYLOADS:
            page.fill("#samples-search", payload.replace("\ud83d", "").replace("\udc00", ""))
        page.fill("#samples-search", PAYLOADS[0])
        assert page.locator("#samples-list .card").count() > 0


def test_texts_of_a_million_characters_are_cut(show, hostile_report):
    assert hostile_report.stat().st_size < 3_000_000
    with show(hostile_report) as page:
        lengths = page.evaluate(
            "scalselectReport.data.samples.cards.flatMap((card) => card.turns.map((turn) => turn.text.length))"
        )
        assert np.max(lengths) < 20_000
        page.fill("#samples-search", "more characters")
        page.select_option("#samples-group", "")
        assert page.locator("#samples-list .card").count() >= 1
