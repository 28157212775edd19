"""The samples: cards, filters and overlays agree with the records that they are made from."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from built_runs import small_records
from in_page import SHOW_MORE, settled
from PIL import Image

from scalselect.explanations_file import read_explanations
from scalselect.report_page.shown_rows import shown_rows
from scalselect.run_folder import RunFolder

pytestmark = pytest.mark.slow
WORDS = {
    "image_missing": "an image is missing",
    "image_unreadable": "an image cannot be read",
    "marker_mismatch": "not as many image markers as images",
}


@pytest.fixture(scope="module")
def groups(run):
    return {name: rows.tolist() for name, rows in shown_rows(pq.read_table(run / "scores.parquet")).items()}


def open_group(page, group):
    """Show all cards of a group and return their rows, in order."""
    page.select_option("#samples-group", group)
    return shown(page)


def shown(page):
    page.evaluate(SHOW_MORE)
    return page.locator("#samples-list .card").evaluate_all("all => all.map((each) => Number(each.dataset.row))")


def counted(page):
    return [int(each.replace(",", "")) for each in re.findall(r"[\d,]+", page.locator("#samples-count").inner_text())]


def test_each_group_has_its_rows(show, report, groups):
    with show(report) as page:
        assert all(groups.values())
        told = page.locator("#samples-group option").all_inner_texts()
        assert len(told) == len(groups) + 1
        assert told[-1] == f"All groups ({sum(map(len, groups.values()))})"
        for (name, rows), option in zip(groups.items(), told, strict=False):
            assert f"({len(rows)})" in option
            assert open_group(page, name) == rows
            assert counted(page) == [len(rows)] * 2
        assert open_group(page, "") == [row for rows in groups.values() for row in rows]


def test_cards_say_what_scores_parquet_says(show, run, report, scores, groups):
    records = small_records(run)
    cards = """all => all.map((card) => ({
      row: Number(card.dataset.row), title: card.querySelector("h3").innerText,
      facts: Object.fromEntries(
        [...card.querySelectorAll("dt")].map((each) => [each.innerText, each.nextSibling.innerText])),
      exact: card.querySelector("dd [title]")?.title,
      instruction: card.querySelector(".instruction")?.textContent ?? null }))"""
    with show(report) as page:
        open_group(page, "")
        for card in page.locator("#samples-list .card").evaluate_all(cards):
            row, said = card["row"], card["facts"]
            assert card["title"].startswith(f"Row {row}")
            assert said["id"] == scores["id"][row] == records[row]["id"]
            assert said["source"] == scores["source"][row]
            if scores["status"][row] == "skipped":
                assert "skipped" in card["title"]
                assert "score" not in said
                assert said["skipped"] == WORDS[scores["reason"][row]]
                assert said["detail"]
                continue
            assert float(card["exact"]) == scores["leverage_score"][row]
            assert float(said["score"]) == float(f"{scores['leverage_score'][row]:.6g}")
            assert said["rank"] == f"{scores['rank'][row]:,}"
            assert said["stratum"] == scores["stratum"][row]
            assert ("not chosen" in card["title"]) == (not scores["selected"][row])
            asked = records[row]["conversations"][0]["value"].replace("<image>\n", "")
            assert card["instruction"] == f"[image 1] {asked}"


def test_pictures_are_those_of_the_records(show, run, report, groups):
    with show(report) as page:
        open_group(page, "highest")
        found = page.locator("#samples-list .card img").evaluate_all(
            """all => Promise.all(all.map((each) => each.decode()
                 .then(() => [each.naturalWidth, each.naturalHeight, each.alt])))"""
        )
        assert len(found) == len(groups["highest"])
        for (width, height, alt), row in zip(found, groups["highest"], strict=True):
            assert (width, height) == (64, 64)  # those of easy-vqa
            assert alt.startswith(f"Image 1 of row {row}: ")
            assert small_records(run)[row]["conversations"][0]["value"].removeprefix("<image>\n") in alt


def test_filters_leave_what_fits_them(show, run, report, scores, groups):
    records, rows = small_records(run), [row for some in groups.values() for row in some]
    with show(report) as page:
        page.select_option("#samples-group", "")
        for source in ("shapes", "colours"):
            page.select_option("#samples-source", source)
            wanted = [row for row in rows if scores["source"][row] == source]
            assert counted(page)[1] == len(wanted) > 10
            assert shown(page) == wanted
        page.select_option("#samples-source", "")
        page.fill("#samples-search", "  TRIANGLE ")
        wanted = [
            row for row in rows if "triangle" in " ".join(turn["value"] for turn in records[row]["conversations"])
        ]
        assert shown(page) == wanted
        assert wanted
        page.fill("#samples-search", records[rows[3]]["id"])
        assert rows[3] in shown(page)
        for asked in (f"row {rows[3]}", f"#{rows[3]}", f" Row {rows[3]:,} "):
            page.fill("#samples-search", asked)
            assert shown(page) == [rows[3]]
        page.fill("#samples-search", "there is no such word")
        assert shown(page) == []
        assert page.locator("#samples-count").inner_text() == "No sample fits these filters"
        page.fill("#samples-search", "")
        page.check("#samples-explained")
        explained = read_explanations(RunFolder(run).explanations)[0].rows
        assert shown(page) == [row for row in rows if row in explained]
        assert 0 < counted(page)[1] < len(rows)


def alphas(canvas):
    """Return how opaque an overlay is in the middle of each cell of an 8 x 8 grid, 0 to 255."""
    address = canvas.evaluate("each => each.toDataURL()")
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))[..., 3]
    height, width = picture.shape
    middles = (np.arange(8) + 0.5) / 8
    return picture[np.ix_((middles * height).astype(int), (middles * width).astype(int))].ravel().astype(float)


def test_overlays_show_attention_and_the_tokens_kept(show, run, report, groups):
    explained = read_explanations(RunFolder(run).explanations)[0].rows
    row = next(row for row in groups["highest"] if row in explained)
    with show(report) as page:
        canvas = page.locator(f"#samples-list .card[data-row='{row}'] canvas")
        page.select_option("#samples-overlay", "attention")
        share = explained[row].attention
        np.testing.assert_allclose(alphas(canvas), 0.8 * 255 * share / share.max(), atol=2.5)
        page.select_option("#samples-overlay", "kept")
        clear = alphas(canvas) == 0
        np.testing.assert_array_equal(clear, explained[row].kept)
        page.select_option("#samples-overlay", "off")
        assert canvas.is_hidden()
        words = page.locator(f"#samples-list .card[data-row='{row}'] .attention").inner_text()
        assert f"{explained[row].kept.sum()} of 64" in words


def test_what_the_model_does_not_see_is_hatched(show, run, report, groups):
    explained = read_explanations(RunFolder(run).explanations)[0].rows
    row = next(row for row in groups["highest"] if row in explained)
    with show(report) as page:
        canvas = page.locator(f"#samples-list .card[data-row='{row}'] canvas")
        canvas.evaluate("each => Object.assign(each.overlay, { area: [0.25, 0, 0.75, 1], whole: false })")
        for kind in ("kept", "attention"):
            page.select_option("#samples-overlay", kind)
            found = alphas(canvas).reshape(8, 8)
            assert (found[:, [0, 1, 6, 7]] >= 150).all()  # 0.6 of 255, and lines
        assert found[:, 2:6].min() < 150


def test_a_sample_is_found_on_the_map(show, report, groups):
    with show(report) as page:
        row = groups["highest"][2]
        page.locator(f"#samples-list .card[data-row='{row}'] .to-map").click()
        assert page.get_attribute("#map-panel", "data-row") == str(row)
        assert page.evaluate("document.activeElement.id") == "map-canvas"
        page.wait_for_timeout(700)  # it may scroll smoothly
        assert page.locator("#map-panel h3").first.inner_text() == f"Row {row}"
        top = page.locator("#map").bounding_box()["y"]
        assert -5 < top < 300


def test_the_keyboard_goes_on_where_new_cards_begin(show, report, groups):
    with show(report) as page:
        page.select_option("#samples-group", "")
        page.locator("#samples-more").focus()
        page.keyboard.press("Enter")
        settled(page)
        following = [row for rows in groups.values() for row in rows][24]
        assert page.evaluate("Number(document.activeElement.dataset.row)") == following


def test_a_conversation_opens_by_keyboard(show, run, report, groups):
    record = small_records(run)[groups["highest"][0]]
    with show(report) as page:
        card = page.locator("#samples-list .card").first
        card.locator("summary").focus()
        page.keyboard.press("Enter")
        settled(page)
        turns = card.locator(".turn p").all_inner_texts()
        assert turns[1:] == [turn["value"] for turn in record["conversations"]][1:]
