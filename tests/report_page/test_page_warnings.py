"""Warnings: each appears where its numbers say so, and only there."""

from types import SimpleNamespace

import pyarrow as pa
import pytest

from scalselect.report_page.page_warnings import page_warnings

EVEN = [0.1, None, *[0.1] * 998]


def run_of(rows=1000, records=1000, limit=None):
    return {"represent": {"limit": limit, "rows": rows, "data_records": records}}


def material(selection=None, diagnostics=None, run=None, scores=EVEN):
    calm = {
        "warnings": [],
        "rows": {"pool": 1000, "scored": 980, "skipped": 20, "text_only": 0},
        "noted": {"uniform": 0},
        "strata": {},
    }
    selection = {**calm, **(selection or {})}
    return SimpleNamespace(selection=selection, diagnostics=diagnostics, run=run or run_of(), table=table_of(scores))


def table_of(scores):
    return pa.table({"leverage_score": pa.array(scores, pa.float64())})


def redundancy(near, exact):
    sets = {"chosen": {"near_copies": near, "exact_copies": exact}, "random": {"near_copies": 0.01, "exact_copies": 0}}
    return {"redundancy": sets, "rows": {"chosen": 100}}


def sources(**pairs):
    items = [{"value": name, "pool_rows": pool, "chosen_rows": chosen} for name, (pool, chosen) in pairs.items()]
    return {"balance": {"source": {"values": len(items), "over": items[:1], "under": items[1:]}}}


def test_nothing_to_warn_of():
    assert page_warnings(material()) == []
    assert page_warnings(material(diagnostics=redundancy(0.05, 0))) == []
    assert page_warnings(material(diagnostics=redundancy(None, None))) == []
    assert page_warnings(SimpleNamespace(selection=None, diagnostics=None, run=run_of(), table=table_of(EVEN))) == []


def test_a_trial_is_told_before_all_else():
    trial = run_of(100, 4000, limit=100)
    found = page_warnings(material({"warnings": ["the subspace is not unique"]}, run=trial))
    assert found[0].startswith("A trial: `--limit` left out 3,900 rows of 4,000")
    assert "the first 100 alone" in found[0]
    assert (
        page_warnings(SimpleNamespace(selection=None, diagnostics=None, run=trial, table=table_of([None]))) == found[:1]
    )
    assert page_warnings(material(run=run_of(4000, 4000, limit=5000))) == []


def test_those_of_the_selection_come_first():
    found = page_warnings(material({"warnings": ["the subspace is not unique"]}, redundancy(0.5, 0)))
    assert found[0] == "The subspace is not unique."
    assert "Many near-copies: 50 %" in found[1].replace("\u202f", " ")


@pytest.mark.parametrize(
    ("usual", "words"),
    [
        (0.01, "alike, more than of a random choice (1 %)."),
        (0.45, "about as many, 45 %, so the pool is what repeats itself."),
        (0.9, "it would be more, 90 %, so the pool is what repeats itself."),
    ],
)
def test_near_copies_are_held_against_a_random_choice(usual, words):
    told = redundancy(0.5, 0)
    told["redundancy"]["random"]["near_copies"] = usual
    (found,) = page_warnings(material(diagnostics=told))
    assert words in found.replace("\u202f", " ")


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([None, 0.001, 0.9, *[0.0001] * 997], "One row alone, row 2, holds 90 % of all leverage"),
        ([0.5, *[0.0001] * 496, 0.5, 0.5], "The 4 rows of highest score, 0.8 % of those with a score, hold"),
        ([0.5, *[0.001] * 998], None),
    ],
)
def test_few_rows_that_hold_most_of_the_leverage(scores, words):
    found = page_warnings(material(scores=scores))
    assert len(found) == (words is not None)
    assert not found or words in found[0].replace("\u202f", " ")


def test_exact_copies():
    (found,) = page_warnings(material(diagnostics=redundancy(0.1, 7)))
    assert found.replace("\u202f", " ").startswith("7 chosen rows (7 %) repeat images and conversation")


@pytest.mark.parametrize(("skipped", "warned"), [(50, False), (51, True)])
def test_many_skipped_rows(skipped, warned):
    rows = {"pool": 1200, "scored": 900, "skipped": skipped, "text_only": 200}
    assert bool(page_warnings(material({"rows": rows}))) == warned


def test_rows_without_attention():
    (found,) = page_warnings(material({"noted": {"uniform": 60}}))
    assert "60 rows" in found


def test_a_starved_stratum_and_source():
    strata = {
        "fed": {"candidates": 500, "quota": 95, "chosen": 95},
        "starved": {"candidates": 400, "quota": 2, "chosen": 2},
        "gone": {"candidates": 100, "quota": 0, "chosen": 0},
        "small": {"candidates": 10, "quota": 0, "chosen": 0},
    }
    (found,) = page_warnings(material({"strata": strata}))
    assert (
        found == "Starved strata: gone (no row chosen, 10 by its share) and starved (2 rows chosen, 38 by its share)."
    )
    (found,) = page_warnings(material(diagnostics=sources(a=(500, 100), b=(500, 20))))
    assert found == "Starved data set: b (20 rows chosen, 60 by its share)."
    assert page_warnings(material(diagnostics=sources(a=(500, 60), b=(500, 50)))) == []
