"""The words of a check: nothing wider than 80 columns, nothing lost in JSON, sizes and lengths as people say them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.check_summary import JsonReport, facts_of_check, readable_bytes, text_of_check
from scalselect.checking import CheckResult
from scalselect.dataset.validation import Problem


def result_of(problems=(), **changes):
    kinds = {}
    for problem in problems:
        kinds[problem.kind, problem.effect] = kinds.get((problem.kind, problem.effect), 0) + 1
    told = [{"kind": kind, "effect": effect, "problems": number} for (kind, effect), number in kinds.items()]
    facts = {
        "data_sets": [{"name": "pool", "location": "/pool.json", "format": "llava", "container": "json", "rows": 9}],
        "like": None,
        "decode": "on",
        "max_length": None,
        "kinds": told,
        "examples": list(problems),
        "counts": {"rows": 9, "text_only": 1, "images": 8, "image_bytes": 2_500_000, "truncated": 3},
        "notes": [],
        "lengths": {},
        "estimate": None,
        "seconds": 2.0,
        "problems": len(problems),
    }
    return CheckResult(**{**facts, **changes})


problems = st.builds(
    Problem,
    row=st.none() | st.integers(0, 10**7),
    source=st.text(st.characters(categories=("L", "N")), min_size=1, max_size=9),
    id=st.none() | st.text(max_size=60),
    kind=st.sampled_from(["image_missing", "ends_with_user"]),
    effect=st.sampled_from(["skipped", "dropped"]),
    detail=st.text(max_size=200),
)


@given(st.lists(problems, max_size=12))
def test_lines_are_short_and_printable_and_json_keeps_everything(found):
    result = result_of(found)
    text = text_of_check(result)
    assert all(len(line) <= 80 and line.isprintable() for line in text.split("\n"))
    written = []
    report = JsonReport(written.append)
    for problem in found:
        report(problem)
    report.close(result)
    content = json.loads("".join(written))
    assert [Problem(**problem) for problem in content.pop("problems")] == found
    assert content == json.loads(json.dumps(facts_of_check(result)))
    assert (content["problems_found"], content["ok"]) == (len(found), not found)


def test_of_many_problems_a_few_are_shown():
    found = [Problem(row, "pool", str(row), "image_missing", "skipped", "gone") for row in range(8)]
    text = text_of_check(result_of(found))
    assert "image_missing                        8  skipped" in text
    assert "  row 4 (id 4): gone\n  3 more; --json lists all" in text
    assert "row 5" not in text


def test_a_long_detail_goes_on_in_the_next_line():
    detail = "`a/long/folder/of/images/with/a/name.png`: the useful words stand at the very end of it, namely here"
    text = text_of_check(result_of([Problem(3, "pool", "row-3", "image_missing", "skipped", detail)]))
    assert "namely here" in " ".join(text.split())
    assert "\n    " in text


def test_one_row_is_one_row():
    text = text_of_check(result_of(counts={"rows": 1, "text_only": 0, "images": 1}))
    assert "1 row, 0 of them" in text


def test_several_data_sets_are_named_beside_the_row():
    found = [Problem(3, "vqa", None, "image_missing", "skipped", "gone")]
    two = [{"name": name} for name in ("vqa", "ocr")]
    assert "  vqa row 3: gone" in text_of_check(result_of(found, data_sets=two))
    assert "  row 3: gone" in text_of_check(result_of(found))


def test_lengths_and_what_is_cut():
    lengths = {"tokens": {"0%": 5.0, "100%": 4096.0}, "vision_tokens": {"0%": 4.0, "100%": 576.0}}
    assert "0% 5, 100% 4,096" in text_of_check(result_of(lengths=lengths))
    assert "no length limit: nothing is cut" in text_of_check(result_of(lengths=lengths))
    found = [Problem(3, "pool", None, "too_long", "skipped", "an image token lies beyond")]
    text = text_of_check(result_of(found, lengths=lengths, max_length=2048))
    assert "--max-length 2,048 cuts 3 rows and refuses 1" in text


@pytest.mark.parametrize("assumed", [True, False])
def test_the_estimate_says_what_it_assumes(assumed):
    estimate = {
        "reading_seconds": 600.0,
        "processes": 4,
        "bytes": 9_830_000_000,
        "hidden_size": 4096,
        "hidden_size_assumed": assumed,
    }
    text = text_of_check(result_of(estimate=estimate))
    assert "problems   none" in text
    assert "9.8 GB" in text
    assert "10 min by 4 processes" in " ".join(text.split())
    assert ("that of many models of 7B" in " ".join(text.split())) is assumed


def test_sizes():
    assert [readable_bytes(size) for size in (0, 999, 1000, 23_456, 5.1e6, 2e9, 3.4e12)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "23.5 kB",
        "5.1 MB",
        "2.0 GB",
        "3.4 TB",
    ]
