"""The map: pointer, finger and keyboard find the rows of scores.parquet, and what is chosen is what is drawn."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from built_runs import small_records
from chromium import PHONE
from in_page import settled
from PIL import Image

from scalselect.report_page.shown_rows import shown_rows
from scalselect.run_folder import RunFolder

pytestmark = pytest.mark.slow
PLACES = "(rows) => rows.map((row) => scalselectReport.map.placeOf(row))"


def scored_rows(scores):
    return [row for row, status in enumerate(scores["status"]) if status == "scored"]


def places_of(page, rows):
    """Return where the dots of rows are, [rows, 2] pixels of the window; NaN where they are not drawn."""
    page.locator("#map-canvas").scroll_into_view_if_needed()
    settled(page)
    found = page.evaluate(PLACES, list(rows))
    return np.array([[np.nan, np.nan] if each is None else [each["x"], each["y"]] for each in found])


def lonely_rows(page, rows, least=4):
    """Return rows whose dots are so far from all others that a pointer cannot mistake them."""
    at = places_of(page, rows)
    away = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1))
    np.fill_diagonal(away, np.inf)
    return [row for row, least_away in zip(rows, away.min(axis=1), strict=True) if least_away > least]


def told(page, where):
    """Return what a tooltip says, name -> value."""
    lines = [line.split(" ", 1) for line in page.locator(where).inner_text().splitlines()]
    return {name: value for name, value in lines if name != "click"}


def facts(page, where):
    return dict(
        zip(page.locator(f"{where} dt").all_inner_texts(), page.locator(f"{where} dd").all_inner_texts(), strict=True)
    )


def expected(scores, row):
    """Return what the map says of a row."""
    of = sum(score is not None for score in scores["leverage_score"])
    return {
        "row": f"{row:,}",
        "rank": f"{scores['rank'][row]:,} of {of:,}",
        "source": scores["source"][row],
        "choice": "chosen" if scores["selected"][row] else "not chosen",
    }


def agrees(said, scores, row):
    wanted = expected(scores, row)
    assert {name: said[name] for name in wanted} == wanted
    assert float(said["score"]) == pytest.approx(scores["leverage_score"][row], rel=5e-6)


def test_pointing_at_a_dot_tells_its_row(show, report, scores):
    with show(report) as page:
        rows = lonely_rows(page, scored_rows(scores))
        assert len(rows) > 20
        for row, (x, y) in list(zip(rows, places_of(page, rows), strict=True))[::5]:
            page.mouse.move(x + 1, y - 1)
            assert page.locator("#map-tooltip").is_visible()
            agrees(told(page, "#map-tooltip"), scores, row)
            assert page.get_attribute("#map-canvas", "data-row") == str(row)
        page.mouse.move(5, 5)
        assert page.locator("#map-tooltip").is_hidden()


def test_dots_stand_at_their_coordinates(show, run, report, scores):
    rows = scored_rows(scores)
    coordinates = RunFolder(run).read_coordinates().vision
    with show(report) as page:
        for pair, (x, y) in enumerate([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]):
            page.select_option("#map-pair", str(pair))
            settled(page)
            at = places_of(page, rows)
            for axis, side, sign in ((x, 0, 1), (y, 1, -1)):
                values = coordinates[:, axis]
                inside = (at[:, side] > at[:, side].min() + 0.5) & (at[:, side] < at[:, side].max() - 0.5)
                slope, start = np.polyfit(values[inside], at[inside, side], 1)
                assert sign * slope > 0
                np.testing.assert_allclose(slope * values[inside] + start, at[inside, side], atol=0.05)


def test_a_click_keeps_the_row_with_picture_and_conversation(show, run, report, scores):
    records = small_records(run)
    with show(report) as page:
        shown = page.evaluate("scalselectReport.data.samples.cards.map((card) => card.row)")
        row = next(row for row in lonely_rows(page, scored_rows(scores)) if row in shown)
        (place,) = places_of(page, [row])
        page.mouse.click(*place)
        panel = page.locator("#map-panel")
        assert panel.get_attribute("data-row") == str(row)
        said = facts(page, "#map-panel .row-facts")
        agrees(said, scores, row)
        assert panel.locator("img").evaluate("each => each.decode().then(() => each.naturalWidth)") > 0
        turns = records[row]["conversations"]
        question = turns[0]["value"].replace("<image>\n", "")
        assert panel.locator(".instruction").inner_text() == f"[image 1] {question}"
        panel.locator("summary").click()
        assert panel.locator(".turn").count() == len(turns)
        assert turns[-1]["value"] in panel.locator(".turn").last.inner_text()
        page.mouse.move(5, 5)
        assert page.locator("#map-marker").is_visible()
        page.click("#map-release")
        assert panel.get_attribute("data-row") is None
        assert page.evaluate("document.activeElement.id") == "map-canvas"


def test_a_finger_finds_a_dot(show, report, scores):
    with show(report, size=PHONE, has_touch=True, is_mobile=True) as page:
        rows = lonely_rows(page, scored_rows(scores), least=6)
        row = rows[len(rows) // 2]
        (place,) = places_of(page, [row])
        page.touchscreen.tap(place[0] + 1, place[1])
        agrees(facts(page, "#map-panel .row-facts"), scores, row)


def test_the_keyboard_does_all_of_it(show, report, scores):
    by_rank = sorted(scored_rows(scores), key=lambda row: scores["rank"][row])
    with show(report) as page:
        page.locator("#map-show").focus()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "map-canvas"

        def pointed():
            return int(page.get_attribute("#map-canvas", "data-row"))

        page.keyboard.press("Home")
        assert pointed() == by_rank[0]
        page.keyboard.press("PageDown")
        assert pointed() == by_rank[1]
        agrees(told(page, "#map-tooltip"), scores, by_rank[1])
        assert f"row {by_rank[1]}" in page.locator("#map-readout").inner_text()
        page.keyboard.press("PageUp")
        assert pointed() == by_rank[0]
        page.keyboard.press("End")
        assert pointed() == by_rank[-1]
        for key, side, sign in (("ArrowRight", 0, 1), ("ArrowDown", 1, 1), ("ArrowLeft", 0, -1), ("ArrowUp", 1, -1)):
            before = pointed()
            page.keyboard.press(key)
            first, second = places_of(page, [before, pointed()])
            assert pointed() != before
            assert sign * (second - first)[side] > 0
        row = pointed()
        page.keyboard.press("Enter")
        assert page.get_attribute("#map-panel", "data-row") == str(row)
        agrees(facts(page, "#map-panel .row-facts"), scores, row)
        page.keyboard.press("Escape")
        assert page.get_attribute("#map-panel", "data-row") is None


def test_dots_that_are_asked_for_are_drawn(show, run, report, scores):
    rows, selected = scored_rows(scores), scores["selected"]
    samples = set(np.concatenate(list(shown_rows(pq.read_table(run / "scores.parquet")).values())).tolist())
    wanted = {
        "all": rows,
        "chosen": [row for row in rows if selected[row]],
        "others": [row for row in rows if not selected[row]],
        "shown": [row for row in rows if row in samples],
        "none": [],
    }
    with show(report) as page:
        options = page.locator("#map-show option").evaluate_all("all => all.map((each) => each.value)")
        assert options == list(wanted)
        for kind in (*wanted, "all"):
            page.select_option("#map-show", kind)
            drawn = [row for row, at in zip(rows, places_of(page, rows), strict=True) if not np.isnan(at[0])]
            assert drawn == wanted[kind]


def looked_at(page):
    """Return what is on the screen: a function (place) -> red, green and blue there."""
    page.mouse.move(5, 5)
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    scale = page.evaluate("devicePixelRatio")
    return lambda place: picture[int(place[1] * scale), int(place[0] * scale)]


def named_colour(page, name):
    text = page.evaluate("(name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()", name)
    return np.array([int(text[at : at + 2], 16) for at in (1, 3, 5)])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("density", [1, 2.5])
def test_dots_have_the_colour_of_their_choice(show, report, scores, dark, density):
    with show(report, dark=dark, device_scale_factor=density) as page:
        rows = lonely_rows(page, scored_rows(scores), least=8)
        page.select_option("#map-colour", "choice")
        places = places_of(page, rows)
        vivid = [np.ptp(named_colour(page, name)) for name in ("--chosen", "--others")]
        assert vivid[0] > 4 * vivid[1]  # a blue and a grey
        pixel, checked = looked_at(page), set()
        for row, place in zip(rows, places, strict=True):
            blue = bool(np.ptp(pixel(place)) > vivid[0] / 2)
            assert blue == scores["selected"][row], (row, pixel(place))
            checked.add(blue)
        assert checked == {True, False}
        page.emulate_media(color_scheme="light" if dark else "dark")
        settled(page)
        row = next(row for row in rows if scores["selected"][row])
        (place,) = places_of(page, [row])
        assert (
            np.abs(looked_at(page)(place) - named_colour(page, "--chosen")).sum() < 120
        )  # drawn anew in the other scheme


def test_the_legend_counts_sources(show, report, scores):
    rows = scored_rows(scores)
    counts = {name: sum(scores["source"][row] == name for row in rows) for name in ("shapes", "colours")}
    with show(report) as page:
        for kind in ("source", "stratum"):
            page.select_option("#map-colour", kind)
            settled(page)
            keys = page.locator("#map-legend .key").all_inner_texts()
            assert keys[:2] == [f"{name} ({count})" for name, count in counts.items()]
        page.select_option("#map-colour", "score")
        settled(page)
        quarters = [float(each) for each in page.locator("#map-legend .ramp-numbers span").all_inner_texts()]
        known = np.quantile([scores["leverage_score"][row] for row in rows], [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(quarters, known, rtol=0.06)


def test_another_size_of_the_window_moves_the_dots_with_the_box(show, report, scores):
    rows = scored_rows(scores)
    with show(report) as page:
        page.set_viewport_size({"width": 800, "height": 900})
        settled(page)
        at, box = places_of(page, rows), page.locator("#map-canvas").bounding_box()
        assert (at[:, 0] > box["x"]).all()
        assert (at[:, 0] < box["x"] + box["width"]).all()
        row = lonely_rows(page, rows)[0]
        page.mouse.move(*places_of(page, [row])[0])
        agrees(told(page, "#map-tooltip"), scores, row)
