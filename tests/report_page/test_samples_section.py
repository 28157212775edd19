"""The samples of the page: what stands on a card, where it comes from, and that it is only ever text."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from materials import material_of

from scalselect.explanations_file import Explanation, Explanations
from scalselect.records import Reason
from scalselect.report_page import reason_words as words_module
from scalselect.report_page.leverage_section import leverage_section
from scalselect.report_page.map_section import map_section
from scalselect.report_page.material import ShownPicture, ShownSample, ShownTurn
from scalselect.report_page.page import page_bytes
from scalselect.report_page.reason_words import reason_words
from scalselect.report_page.samples_section import samples_section
from scalselect.report_page.shown_rows import shown_rows

HOSTILE = '</script><img src=x onerror="alert(1)"><!--'


def sample_of(row, *, question="what is it?", thumbnail=b"picture", **options):
    picture = ShownPicture(thumbnail=thumbnail, width=20, height=10, name="a.png")
    turns = (ShownTurn(role="user", text=question), ShownTurn(role="assistant", text="a shape"))
    return ShownSample(row=row, pictures=(picture,), turns=turns, **options)


def explained(row, tokens=4, place=(0.0, 0.0, 0.5, 0.5), image=0):
    attention = np.arange(1, tokens + 1, dtype=np.float32) / (tokens * (tokens + 1) / 2)
    side = round(tokens**0.5)
    y, x = np.divmod(np.arange(tokens), side)
    boxes = np.stack([x / side, y / side, (x + 1) / side, (y + 1) / side], axis=1).astype(np.float32)
    return Explanation(
        row=row,
        attention=attention,
        kept=np.arange(tokens) >= tokens // 2,
        image=np.full(tokens, image, dtype=np.int32),
        boxes=boxes if image >= 0 else np.full((tokens, 4), np.nan, dtype=np.float32),
    )


def explanations_of(rows, missing=None, boxes_unknown=None):
    return Explanations(rows={each.row: each for each in rows}, missing=missing or {}, boxes_unknown=boxes_unknown)


def cards_of(material):
    return {card["row"]: card for card in samples_section(material).data["cards"]}


def test_cards_have_the_numbers_of_the_table_and_the_order_of_the_groups():
    material = material_of(skipped=(2, 7))
    section = samples_section(material)
    cards = section.data["cards"]
    assert [card["row"] for card in cards] == [int(row) for rows in material.shown.values() for row in rows]
    lines = material.table.to_pylist()
    for card in cards:
        line = lines[card["row"]]
        assert (card["score"], card["rank"], card["id"], card["source"]) == (
            line["leverage_score"],
            line["rank"],
            line["id"],
            line["source"],
        )
        assert card["chosen"] == line["selected"]
        assert card["row"] in material.shown[card["group"]]
    assert [(group["name"], group["count"]) for group in section.content["groups"]] == [
        ("highest", 5),
        ("just_in", 5),
        ("just_out", 5),
        ("lowest", 5),
        ("skipped", 2),
    ]


def test_without_a_cut_no_group_is_said_to_be_at_one():
    material = material_of()
    assert samples_section(material).content["no_cut"] is None
    table = material.table
    selected = pc.greater(table["rank"], 40)  # the 20 lowest
    table = table.set_column(table.schema.get_field_index("selected"), table.schema.field("selected"), selected)
    lowest = pc.min(table.filter(selected)["leverage_score"]).as_py()
    chosen = {"selected": {"lowest_score": lowest}, "budgets": [{"asked": "20", "rows": 20}]}
    without = replace(material, table=table, shown=shown_rows(table, 5), selection=chosen)
    section = samples_section(without)
    titles = [group["title"] for group in section.content["groups"]]
    assert titles == ["Highest scores", "Chosen, lowest scores", "Not chosen, highest scores", "Lowest scores"]
    assert section.content["no_cut"].startswith(
        "The choice was not made by score alone: 40 rows were passed over for others that scored lower"
    )
    row = table["row"].to_pylist()[table["rank"].to_pylist().index(60)]
    assert next(card for card in section.data["cards"] if card["row"] == row)["group"] == "lowest"
    page = page_bytes("t", "s", [section]).decode()
    assert "at the cut" not in page
    assert "Just in" not in page
    assert "lowest chosen" not in str(leverage_section(without).content["histogram"])
    cut = pc.min(material.table.filter(material.table["selected"])["leverage_score"]).as_py()
    by_score = leverage_section(replace(material, selection={**chosen, "selected": {"lowest_score": cut}}))
    assert "lowest chosen" in str(by_score.content["histogram"])
    edges = np.frombuffer(base64.b64decode(by_score.data["edges"]["bytes"]), dtype="<f8")
    assert cut in edges


def test_a_skipped_row_tells_why_in_words_and_in_detail():
    card = cards_of(material_of(skipped=(2,), details={2: "`a.png`: No such file\nor directory"}))[2]
    assert card["reason"] == "an image is missing"
    assert card["detail"] == "`a.png`: No such file\\u000aor directory"
    assert "no_overlay" not in card


def test_samples_bring_turns_and_pictures_and_equal_pictures_are_kept_once():
    material = material_of()
    first, second, third = material.shown["highest"][:3].tolist()
    samples = {
        first: sample_of(first),
        second: sample_of(second, more_pictures=2),
        third: sample_of(third, thumbnail=b"o"),
    }
    section = samples_section(material_of(samples=samples))
    cards = {card["row"]: card for card in section.data["cards"]}
    assert cards[first]["turns"] == [{"role": "user", "text": "what is it?"}, {"role": "assistant", "text": "a shape"}]
    assert [base64.b64decode(each) for each in section.data["pictures"]] == [b"picture", b"o"]
    assert [cards[row]["pictures"][0]["picture"] for row in (first, second, third)] == [0, 0, 1]
    assert cards[second]["more"] == 2


def test_a_picture_that_cannot_be_shown_says_why():
    row = int(material_of().shown["highest"][0])
    picture = ShownPicture(thumbnail=None, width=0, height=0, name="a.png", fault="image missing: gone")
    sample = ShownSample(row=row, pictures=(picture,), turns=(ShownTurn(role="user", text="what?"),))
    card = cards_of(material_of(samples={row: sample}))[row]
    assert card["pictures"] == [{"name": "a.png", "fault": "image missing: gone"}]


def test_attention_is_told_relative_to_the_highest_cell():
    row = int(material_of().shown["highest"][0])
    material = material_of(samples={row: sample_of(row)}, explanations=explanations_of([explained(row)]))
    card = cards_of(material)[row]
    (overlay,) = card["overlay"]
    assert (overlay["image"], overlay["across"], overlay["area"]) == (0, 2, [0, 0, 1, 1])
    assert list(base64.b64decode(overlay["mass"])) == [64, 128, 191, 255]
    assert list(base64.b64decode(overlay["kept"])) == [0b00110000]
    assert card["attention"].startswith("70\u202f% of the instruction's attention lies on 2 of 4 image tokens")
    assert "no_overlay" not in card


def test_where_there_is_no_overlay_the_card_says_why():
    highest = material_of().shown["highest"].tolist()
    samples = {row: sample_of(row) for row in highest}
    found = explanations_of(
        [explained(highest[0]), explained(highest[1], image=-1)],
        missing={highest[2]: "its image has changed"},
        boxes_unknown="this family does not tell",
    )
    cards = cards_of(material_of(samples=samples, explanations=found))
    assert "overlay" in cards[highest[0]]
    assert cards[highest[1]]["no_overlay"] == "this family does not tell"
    assert cards[highest[1]]["attention"].endswith("lies on 2 of 4 image tokens.")
    assert cards[highest[2]]["no_overlay"] == "its image has changed"
    assert cards[highest[3]]["no_overlay"] == "attention was recorded for some of the shown rows only"
    without = cards_of(material_of(explanations=found))[highest[0]]
    assert without["no_overlay"] == "there is no picture to lay it over"
    assert without["attention"].startswith("70\u202f% of")
    none = samples_section(material_of(samples=samples))
    assert none.content["no_overlays"] == "attention was not recorded for this run"
    assert none.content["explained"] == 0


def test_the_page_has_a_table_for_those_without_scripts():
    material = material_of(skipped=(2,), samples={}, no_samples="the data of the run are gone")
    page = page_bytes("t", "s", [samples_section(material)]).decode()
    rows = re.findall(r'<tr data-row="(\d+)">', page)
    assert [int(row) for row in rows] == [int(row) for group in material.shown.values() for row in group]
    assert "the data of the run are gone" in page
    line = material.table.to_pylist()[int(rows[0])]
    assert f"<td>{line['leverage_score']}</td>" in page


@pytest.mark.parametrize("where", ["id", "source", "question", "name", "fault"])
def test_texts_of_the_data_are_never_markup(where):
    rows = 20
    ids = [HOSTILE] * rows if where == "id" else None
    source = [HOSTILE, "b"] * (rows // 2) if where == "source" else None
    texts = {name: HOSTILE if where == name else "fine" for name in ("question", "name", "fault")}
    samples = {
        row: ShownSample(
            row=row,
            pictures=(ShownPicture(thumbnail=None, width=0, height=0, name=texts["name"], fault=texts["fault"]),),
            turns=(ShownTurn(role="user", text=texts["question"]),),
        )
        for row in range(rows)
    }
    section = samples_section(material_of(rows, ids=ids, source=source, samples=samples))
    page = page_bytes("t", "s", [section]).decode()
    assert "<img" not in page.replace("<img>", "")
    assert "<!--" not in page
    assert page.count("</script>") == page.count("<script")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert HOSTILE in json.dumps(data, ensure_ascii=False).replace('\\"', '"')


def test_every_reason_has_words():
    assert set(words_module._WORDS) == {*map(str, Reason), "excluded", "max_per_image"}
    assert reason_words("duplicate_of:17") == "a copy of row 17"
    assert reason_words("something_new") == "something new"


def test_details_are_found_where_work_went_in_the_order_of_images():
    material = material_of(skipped=(2, 9), details={2: "two", 9: "nine"})
    material.run["represent"]["order"] = "image"
    cards = cards_of(material)
    assert (cards[2]["detail"], cards[9]["detail"]) == ("two", "nine")


def test_before_any_scoring_rows_are_shown_without_a_score():
    material = material_of()
    table = material.table
    for name in ("leverage_score", "rank", "selected"):
        place = table.schema.get_field_index(name)
        table = table.set_column(
            place, table.schema.field(name), pa.nulls(table.num_rows, table.schema.field(name).type)
        )
    unscored = replace(
        material, table=table, coordinates=np.empty((0, 0), dtype=np.float32), shown=shown_rows(table, 5)
    )
    cards = samples_section(unscored).data["cards"]
    assert cards
    assert {(card["score"], card["rank"], card["chosen"], card["status"]) for card in cards} == {
        (None, None, None, "scored")
    }
    page = page_bytes("t", "s", [map_section(unscored), samples_section(unscored)]).decode()
    assert "There is no map: the rows are not scored yet." in page
