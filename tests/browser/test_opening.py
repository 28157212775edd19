"""Pages open everywhere: alone, in either scheme, at every width, without scripts, on paper."""

from __future__ import annotations

import re

import pytest
from chromium import DESKTOP, PHONE
from in_page import TOO_WIDE, look_at_all, settled

pytestmark = pytest.mark.slow
NARROW = {"width": 340, "height": 700}
SECTIONS = ["happened", "spectrum", "leverage", "map", "samples", "balance", "reproduce"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('<img src="https://example.org/x.png" alt="x">', "request: https://example.org/x.png"),
        ('<link rel="stylesheet" href="http://example.org/x.css">', "request: http://example.org/x.css"),
        ("<script>fetch('https://example.org/x')</script>", "request: https://example.org/x"),
        ("<script>console.log('a word')</script>", "console log: a word"),
        ("<script>throw new Error('broken')</script>", "error: broken"),
        ("<script>alert('here')</script>", "dialog: here"),
        ("<script>window.__pwned = 1</script>", "ran: __pwned"),
        (
            '<meta http-equiv="Content-Security-Policy" content="script-src \'none\'"><script>1</script>',
            "policy: script-src-elem",
        ),
    ],
)
def test_a_page_that_does_what_it_must_not_is_noticed(show, tmp_path, content, complaint):
    file = tmp_path / "bad.html"
    file.write_text(f"<!doctype html><title>x</title>{content}")
    with pytest.raises(AssertionError, match=re.escape(complaint)), show(file) as page:
        page.wait_for_timeout(100)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE, NARROW], ids=lambda size: str(size["width"]))
def test_it_opens_and_nothing_moves(show, report, size, dark):
    with show(report, size=size, dark=dark) as page:
        assert page.locator("main > section").evaluate_all("all => all.map((each) => each.id)") == SECTIONS
        assert page.locator("#samples-list .card").count() > 0
        page.mouse.wheel(0, 4000)
        page.wait_for_timeout(300)
        assert page.evaluate("seen.shifts.filter((each) => !each.typed)") == []
        paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper)[:3])) < 200) == dark


def test_a_jump_of_the_layout_would_be_noticed(show, report):
    with show(report) as page:
        page.evaluate("() => document.querySelector('header').append(document.createElement('hr'))")
        page.wait_for_timeout(300)
        assert page.evaluate("seen.shifts.length") > 0


@pytest.mark.parametrize("size", [DESKTOP, PHONE, NARROW], ids=lambda size: str(size["width"]))
@pytest.mark.parametrize("which", ["report", "hostile_report"])
def test_nothing_is_wider_than_the_window(show, request, which, size):
    with show(request.getfixturevalue(which), size=size) as page:
        look_at_all(page)
        assert page.evaluate(TOO_WIDE) == []


def test_a_phone_shows_the_figures_made_for_it(show, report):
    for size, kind in ((DESKTOP, "wide"), (PHONE, "narrow")):
        with show(report, size=size) as page:
            kinds = page.locator("svg.figure:visible").evaluate_all("all => all.map((each) => each.classList[1])")
            assert set(kinds) == {kind}
            assert len(kinds) >= 4
            small = page.locator("svg.figure:visible text").evaluate_all(
                "all => all.map((each) => each.getBoundingClientRect().height).filter((each) => each && each < 9)"
            )
            assert small == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE, NARROW], ids=lambda size: str(size["width"]))
def test_words_of_selects_are_not_cut(show, report, size):
    cut = """all => all.map((each) => {
      const style = getComputedStyle(each), pen = document.createElement("canvas").getContext("2d");
      pen.font = style.font;
      const words = each.selectedOptions[0].textContent, arrow = 16;
      const room = each.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - arrow;
      return pen.measureText(words).width > room ? words : "";
    }).filter(Boolean)"""
    with show(report, size=size) as page:
        assert page.locator("select").evaluate_all(cut) == []


def test_it_can_be_read_without_scripts(show, report, scores):
    with show(report, script=False) as page:
        assert page.locator("main > section").count() == len(SECTIONS)
        assert page.locator("#map noscript p").is_visible()
        page.click("#samples-as-table summary")
        rows = page.locator("#samples-table tbody tr")
        told = dict(
            zip(rows.locator("th").all_inner_texts(), rows.locator("td:nth-child(5)").all_inner_texts(), strict=True)
        )
        assert len(told) > 200
        for row, score in told.items():
            known = scores["leverage_score"][int(row)]
            assert (float(score) if score else None) == known
        assert page.locator("button.copy:visible").count() == 0


def test_on_paper_it_is_light_and_has_no_controls(show, report):
    with show(report, dark=True) as page:
        page.emulate_media(media="print", color_scheme="dark")
        settled(page)
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
        shown = page.locator("nav, select, input, button").evaluate_all(
            """all => all.filter((each) => each.checkVisibility({ visibilityProperty: true }))
                 .map((each) => each.outerHTML)"""
        )
        assert shown == []
        content = page.pdf(format="A4")
    assert content.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 30
