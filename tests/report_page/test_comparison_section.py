"""The page of two runs: its numbers are those that were measured, texts of the data stay text, nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from dataclasses import replace

import numpy as np
import pytest

from compared_pages import Page, in_both, material, sample
from scalselect.report_page.comparison_section import comparison_sections
from scalselect.report_page.comparison_words import row_words, value_words, words_of_time
from scalselect.report_page.number_words import percent
from scalselect.report_page.page import page_bytes

STYLES = ("page.css", "comparison.css")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{7*7}}\x1b[31m\n\ud800"


def written(given):
    return page_bytes("Two runs", "A and B", comparison_sections(given), style_files=STYLES, script_files=())


def page(**changes):
    return Page(written(material(**changes)))


def numbers(item):
    dtype = {"u32": "<u4"}[item["type"]]
    return np.frombuffer(base64.b64decode(item["bytes"]), dtype=dtype)


def lead(shown, section):
    """Return the first paragraph of a section."""
    places = {each.get("id"): place for place, each in enumerate(shown.elements)}
    return next(each["text"] for each in shown.elements[places[section] :] if each["tag"] == "p")


def test_numbers_are_those_of_the_comparison():
    given = material()
    shown = Page(written(given))
    comparison = given.comparison
    choice, ranks = shown.data["comparison-choice"], shown.data["comparison-ranks"]
    sets = [set(np.flatnonzero(place < 30).tolist()) for place in given.places]
    assert choice == {"rows_a": 30, "rows_b": 30, "shared": len(sets[0] & sets[1]), "at_random": 30 * 30 / 200}
    only = shown.data["comparison-samples"]
    assert (set(only["only_a"]), set(only["only_b"])) == (sets[0] - sets[1], sets[1] - sets[0])
    assert ranks["rank_correlation"] == comparison.rank_correlation
    best, shared = numbers(ranks["best"]), numbers(ranks["shared"])
    for item in ranks["top"]:
        plain = len(
            set(np.flatnonzero(given.places[0] < item["rows"])) & set(np.flatnonzero(given.places[1] < item["rows"]))
        )
        assert item["shared"] == plain
    np.testing.assert_array_equal(shared, [np.count_nonzero((given.places < n).all(axis=0)) for n in best])
    assert shown.data["comparison-subspaces"]["angles"] == [1.0, 5.0, 60.0]
    told = lead(shown, "comparison-choice")
    assert told.startswith(f"{choice['shared']} rows were chosen by both: {percent(choice['shared'] / 30)} of A's 30")
    assert "would share 4.5, on average" in told


def test_tables_repeat_what_figures_show():
    shown = page()
    cells = [each["text"] for each in shown.elements if each["tag"] in {"td", "th"}]
    shared = shown.data["comparison-choice"]["shared"]
    told = [each["text"].split("\n")[0] for each in shown.of_class("p", "bar-name")]
    assert told == [
        f"These two runs{30 - shared} A alone {shared} both {30 - shared} B alone",
        "Two random choices, on average25.5 A alone 4.5 both 25.5 B alone",
    ]
    lines = [cells[at : at + 4] for at in range(len(cells))]
    for item in shown.data["comparison-ranks"]["top"]:
        best, share = percent(item["percent"] / 100), percent(item["shared"] / item["rows"])
        assert [best, str(item["rows"]), str(item["shared"]), share] in lines
    assert cells[cells.index("energy") :][1:3] == ["0.9", "0.95"]
    assert cells[cells.index("gap s_k / s_k+1") :][1:3] == ["1.25", "none left"]


def test_no_more_than_chance_is_said():
    given = material()
    overlap = given.comparison.overlap
    few = type(overlap)(rows_a=30, rows_b=30, shared=5, at_random=4.9)
    assert "no more than chance" in lead(Page(written(material(overlap=few))), "comparison-choice")
    assert "no more than chance" not in lead(page(), "comparison-choice")


@pytest.mark.parametrize(
    ("correlation", "words"),
    [
        (0.95, "nearly alike"),
        (0.6, "with many exceptions"),
        (0.1, "in different ways"),
        (-0.9, "the other way round"),
        (None, "no order of scores"),
    ],
)
def test_agreement_of_ranks_in_words(correlation, words):
    assert words in lead(page(rank_correlation=correlation), "comparison-runs")


@pytest.mark.parametrize(
    ("angles", "words"),
    [
        ([1.0, 2.0], "lies almost wholly in the larger one"),
        ([1.0, 30.0], "lies largely in the larger one"),
        ([1.0, 50.0, 80.0], "2 are nearer to a right angle"),
    ],
)
def test_angles_in_words(angles, words):
    assert words in lead(page(angles=np.array(angles)), "comparison-subspaces")


def test_what_cannot_be_compared_says_why():
    shown = page(
        overlap=None,
        overlap_reason="nothing was selected in A",
        angles=None,
        angles_reason="vectors of 6 and 9 dimensions have no angle",
        places=np.empty((2, 0), dtype=np.int64),
        options={},
        notes=("the models differ",),
    )
    assert lead(shown, "comparison-choice") == "Chosen rows are not compared: nothing was selected in A."
    assert lead(shown, "comparison-ranks") == "No row has a score in both runs."
    assert "vectors of 6 and 9 dimensions have no angle." in lead(shown, "comparison-subspaces")
    assert "same options" in lead(shown, "comparison-options")
    assert shown.first("li", **{"class": None})["text"]
    assert [each["text"] for each in shown.all("li") if "models" in each["text"]] == ["The models differ."]
    assert "comparison-samples" not in {each.get("id") for each in shown.elements}
    assert shown.all("svg") == []


def test_only_some_of_many_are_shown_and_that_is_said():
    shown = page(only_rows=(1234, 1))
    headings = [each["text"] for each in shown.all("h3")]
    assert headings == ["A alone chose 1,234 rows", "B alone chose 1 row"]
    notes = [each["text"] for each in shown.of_class("p", "note")]
    count = len(shown.data["comparison-samples"]["only_a"])
    assert f"The {count} best ranked of them are shown." in notes
    assert sum("best ranked" in note for note in notes) == 1


def test_cards_show_picture_and_conversation():
    rows = [in_both(7, 0.5, 0.25, id=None), in_both(8, other_score=0, other_rank=None, other_reason="image_missing")]
    rows.append(in_both(9, other_reason="duplicate_of:17"))
    longer = sample(7, question="[image 1] Why? " + "x" * 400)
    shown = page(
        only=(tuple(rows), ()),
        only_rows=(3, 0),
        samples={7: longer, 8: sample(8, thumbnail=None, fault="gone")},
        no_samples=None,
    )
    cards = {card["data-row"]: card for card in shown.of_class("li", "compared-card")}
    assert list(cards) == ["7", "8", "9"]
    (picture,) = shown.all("img")
    assert base64.b64decode(picture["src"].removeprefix("data:image/webp;base64,")) == b"webp"
    assert (picture["width"], picture["height"]) == ("64", "48")
    assert picture["alt"].startswith("Image of row 7: Why? xxx")
    assert len(picture["alt"]) <= 100
    assert "A: rank 1, score 0.5" in cards["7"]["text"]
    assert "B: rank 2, score 0.25" in cards["7"]["text"]
    assert "row 7\n" in cards["7"]["text"]
    assert "x" * 400 in cards["7"]["text"]  # the whole conversation
    assert "row 8, id id-8" in cards["8"]["text"]
    assert "No picture: gone" in cards["8"]["text"]
    assert "B: no score: an image is missing" in cards["8"]["text"]
    assert "score 0.25; barred: a copy of row 17" in cards["9"]["text"]
    assert "no-pictures" in cards["9"]["class"]


def test_letters_follow_the_run_that_chose():
    shown = page(only=((), (in_both(3, rank=5, other_rank=60),)), only_rows=(0, 1))
    (card,) = shown.of_class("li", "compared-card")
    assert card["text"].index("B: rank 5") < card["text"].index("A: rank 60")


def test_texts_from_the_data_stay_text():
    row = in_both(1, id=HOSTILE, source=HOSTILE, other_reason=HOSTILE)
    told = sample(1, question=HOSTILE, answer=HOSTILE, thumbnail=None, fault=HOSTILE)
    hostile = material(
        only=((row,), (row,)),
        samples={1: told},
        no_samples=HOSTILE,
        notes=(HOSTILE,),
        options={"score": {HOSTILE: (HOSTILE, [HOSTILE])}},
        overlap_reason=HOSTILE,
    )
    content = written(hostile)
    shown, plain = (
        Page(content),
        page(only=((in_both(),), (in_both(),)), samples={0: sample(thumbnail=None)}, notes=("n",)),
    )
    assert len(shown.all("script")) == 1
    assert shown.all("img") == []
    assert {each["tag"] for each in shown.elements} == {each["tag"] for each in plain.elements}
    assert {key for each in shown.elements for key in each} == {key for each in plain.elements for key in each}
    assert b"\x1b" not in content
    text = "".join(each["text"] for each in shown.all("main"))
    assert text.count("</script><script>alert(1)</script>") >= 12
    assert "{{7*7}}" in text
    assert "49" not in {each["text"] for each in shown.elements}


def test_alternatives_of_pictures_stay_text():
    shown = page(only=((in_both(1),), ()), samples={1: sample(1, question=HOSTILE)})
    (picture,) = shown.all("img")
    assert "</script><script>alert(1)</script><img src=x" in picture["alt"]
    assert set(picture) == {"tag", "text", "src", "width", "height", "alt", "decoding"}


def test_the_page_allows_itself_alone():
    content = written(material(samples={}, no_samples=None))
    shown = Page(content)
    policy = shown.first("meta", **{"http-equiv": "Content-Security-Policy"})["content"]
    digest = base64.b64encode(hashlib.sha256(shown.first("style")["text"].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "script-src 'none'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not any("style" in each for each in shown.elements)
    assert not any(key.startswith("on") for each in shown.elements for key in each)
    for each in shown.elements:
        for key in ("src", "href"):
            assert (each.get(key) or "#").startswith(("#", "data:"))


def test_same_records_same_bytes():
    assert written(material()) == written(material())


@pytest.mark.slow
def test_many_rows_take_seconds_and_little_room():
    given = material(rows=600_000, chosen=96_000)
    few = tuple(rows[:50] for rows in given.only)
    given = replace(given, only=few)
    began = time.process_time()
    content = written(given)
    assert time.process_time() - began < 3
    assert len(content) < 250_000
    assert Page(content).data["comparison-choice"]["rows_a"] == 96_000


def test_every_figure_has_a_text_alternative_and_ids_are_unique():
    shown = page()
    assert all(len(bar["aria-label"]) > 20 for bar in shown.of_class("svg", "parts"))
    ids = [each["id"] for each in shown.elements if "id" in each]
    assert len(ids) == len(set(ids))
    figures = shown.of_class("svg", "figure")
    assert len(figures) == 6
    texts = {each.get("id"): each["text"] for each in shown.elements}
    for figure in figures:
        assert figure["role"] == "img"
        assert all(len(texts[name]) > 5 for name in figure["aria-labelledby"].split())


def test_contrast_of_texts_and_colours():
    """Bars are told apart by 3 to 1 from the paper; `only-a` and `only-b` differ in lightness from `both`."""
    from importlib import resources

    style = "".join(
        (resources.files("scalselect.report_page") / "static" / name).read_text(encoding="utf-8") for name in STYLES
    )
    schemes = [{}, {}]
    for block in re.findall(r"(@media screen[^{]*\{\s*)?:root \{(.*?)\}", style, re.DOTALL):
        schemes[bool(block[0])] |= dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block[1]))
    assert all({"only-a", "only-b", "both", "paper"} <= set(scheme) for scheme in schemes)
    for scheme in schemes:
        for name in ("only-a", "only-b", "both"):
            assert contrast(scheme[name], scheme["paper"]) >= 3
            assert name == "both" or contrast(scheme[name], scheme["both"]) >= 1.4


def contrast(first, second):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted([luminance(first), luminance(second)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_values_in_words():
    assert [row_words(number) for number in (3, 3.0, 12.64, 12345.6)] == ["3", "3", "12.6", "12,346"]
    assert value_words(None) == "not given"
    assert value_words("0123456789abcdef" * 4) == "0123456789ab..."
    assert value_words(["a", 1]) == '["a", 1]'
    assert value_words("off") == "off"
    assert words_of_time("2026-11-26T05:08:14+00:00") == "2026-11-26 05:08 UTC"
    assert words_of_time("long ago") == "long ago"
