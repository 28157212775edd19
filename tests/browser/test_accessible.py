"""What a page is to someone who does not see it well, or has no pointer: names, order, focus, contrast."""

from __future__ import annotations

from itertools import pairwise

import pytest
from chromium import DESKTOP, PHONE
from in_page import FAINT_TEXTS, HEADINGS, WITHOUT_NAMES, look_at_all, settled

pytestmark = pytest.mark.slow
PAGES = ["report", "hostile_report", "comparison"]


@pytest.mark.parametrize("which", PAGES)
def test_everything_has_a_name(show, request, which):
    with show(request.getfixturevalue(which)) as page:
        look_at_all(page)
        assert page.evaluate(WITHOUT_NAMES) == []
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.evaluate("document.title").strip()


def test_missing_names_would_be_noticed(show, report):
    with show(report) as page:
        page.evaluate(
            """() => {
              const add = (name, attributes = {}) => {
                const made = document.createElement(name);
                for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
                document.querySelector("main").append(made);
              };
              add("img"); add("canvas"); add("input"); add("button"); add("section"); add("p", { id: "map" });
              add("p", { "aria-labelledby": "nothing" });
            }"""
        )
        found = [each.split(":")[0] for each in page.evaluate(WITHOUT_NAMES)]
        assert sorted(found) == sorted(
            [
                "no alternative text",
                "no name",
                "no role",
                "no label",
                "no words",
                "no name",
                "id twice",
                "no element nothing",
            ]
        )


@pytest.mark.parametrize("which", PAGES)
def test_headings_go_down_a_step_at_a_time(show, request, which):
    with show(request.getfixturevalue(which)) as page:
        look_at_all(page)
        headings = page.evaluate(HEADINGS)
    levels = [level for level, _ in headings]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(following <= level + 1 for level, following in pairwise(levels)), headings
    assert all(words for _, words in headings)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("which", PAGES)
def test_texts_stand_out_from_what_is_behind_them(show, request, which, dark):
    for size in (DESKTOP, PHONE):
        with show(request.getfixturevalue(which), dark=dark, size=size) as page:
            look_at_all(page)
            for by in page.locator("#map-colour option").evaluate_all("all => all.map((each) => each.value)"):
                page.select_option("#map-colour", by)
                settled(page)
                assert page.evaluate(FAINT_TEXTS, [4.5, "#map"]) == []
            assert page.evaluate(FAINT_TEXTS, [4.5]) == []
            if not dark and size == DESKTOP:
                page.emulate_media(media="print")
                assert page.evaluate(FAINT_TEXTS, [4.5]) == []


def test_faint_text_would_be_noticed(show, report):
    with show(report) as page:
        page.evaluate("document.querySelector('h1').style.color = '#999'")
        page.evaluate("document.querySelector('svg.figure text').style.fill = 'rgb(28 33 40 / 40%)'")
        assert [round(ratio) for _, ratio, *_ in page.evaluate(FAINT_TEXTS, [4.5])] == [3, 2]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("which", ["report", "comparison"])
def test_the_focus_is_seen_wherever_it_goes(show, request, which, dark):
    focus = """() => {
      const node = document.activeElement, style = getComputedStyle(node), box = node.getBoundingClientRect();
      return { what: node.outerHTML.slice(0, 100), body: node === document.body, width: parseFloat(style.outlineWidth),
        line: style.outlineStyle, seen: box.width > 0 && box.bottom > 0 && box.top < innerHeight };
    }"""
    with show(request.getfixturevalue(which), dark=dark) as page:
        page.emulate_media(reduced_motion="reduce")
        reached = []
        for _ in range(60):
            page.keyboard.press("Tab")
            at = page.evaluate(focus)
            if at["body"]:
                break
            reached.append(at["what"])
            assert at["line"] != "none", at
            assert at["width"] >= 2, at
            assert at["seen"], at
        assert 'class="skip"' in reached[0]
        assert len(reached) > 8
        if which == "report":
            words = " ".join(reached)
            for name in (
                "budget-rows",
                "map-pair",
                "map-colour",
                "map-show",
                "map-canvas",
                "samples-group",
                "samples-search",
            ):
                assert f'id="{name}"' in words


def test_the_first_tab_leads_to_the_content(show, report):
    with show(report) as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        inside = page.evaluate("document.querySelector('main').contains(document.activeElement)")
        assert inside
