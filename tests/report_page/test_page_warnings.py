"""Warnings: each appears where its numbers say so, and only there."""

from types import SimpleNamespace

import pytest

from scalselect.report_page.page_warnings import page_warnings


def run_of(rows=1000, records=1000, limit=None):
    return {"represent": {"limit": limit, "rows": rows, "data_records": records}}


def material(selection=None, diagnostics=None, run=None):
    calm = {
        "warnings": [],
        "rows": {"pool": 1000, "scored": 980, "skipped": 20, "text_only": 0},
        "noted": {"uniform": 0},
        "strata": {},
    }
    return SimpleNamespace(selection={**calm, **(selection or {})}, diagnostics=diagnostics, run=run or run_of())


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
    assert page_warnings(SimpleNamespace(selection=None, diagnostics=None, run=run_of())) == []


def test_a_trial_is_told_before_all_else():
    trial = run_of(100, 4000, limit=100)
    found = page_warnings(material({"warnings": ["the subspace is not unique"]}, run=trial))
    assert found[0].startswith("A trial: `--limit` left out 3,900 rows of 4,000")
    assert "the first 100 alone" in found[0]
    assert page_warnings(SimpleNamespace(selection=None, diagnostics=None, run=trial)) == found[:1]
    assert page_warnings(material(run=run_of(4000, 4000, limit=5000))) == []


def test_those_of_the_selection_come_first():
    found = page_warnings(material({"warnings": ["the subspace is not unique"]}, redundancy(0.5, 0)))
    assert found[0] == "The subspace is not unique."
    assert "Many near-copies: 50 %" in found[1].replace("\u202f", " ")


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
