"""Which rows a page shows: the highest, both sides of the cut, the lowest, and every reason for skipping."""

import numpy as np
import pyarrow as pa
import pytest

from scalselect.report_page.shown_rows import explained_rows, passed_over, shown_rows
from scalselect.scores_file import SCORES_SCHEMA


def table_of(statuses, scores, selected=None, reasons=None):
    """Return a table of scores; ranks as scoring gives them."""
    rows = len(statuses)
    scored = [row for row in range(rows) if statuses[row] == "scored"]
    ranks = {row: rank for rank, row in enumerate(sorted(scored, key=lambda row: (-scores[row], row)), 1)}
    columns = {
        "row": list(range(rows)),
        "source": ["pool"] * rows,
        "id": [None] * rows,
        "id_type": ["absent"] * rows,
        "status": list(statuses),
        "reason": reasons or [None] * rows,
        "leverage_score": [scores[row] if row in ranks else None for row in range(rows)],
        "rank": [ranks.get(row) for row in range(rows)],
        "selected": [None] * rows if selected is None else [row in selected for row in range(rows)],
        "stratum": [None] * rows,
    }
    return pa.table({name: pa.array(columns[name], SCORES_SCHEMA.field(name).type) for name in SCORES_SCHEMA.names})


def plain(groups):
    return {name: rows.tolist() for name, rows in groups.items()}


@pytest.fixture
def scores():
    """Return scores that fall with the row."""
    return [1.0 - row / 100 for row in range(20)]


def test_both_sides_of_the_cut(scores):
    table = table_of(["scored"] * 20, scores, selected=set(range(8)))
    assert plain(shown_rows(table, 3)) == {
        "highest": [0, 1, 2],
        "just_in": [7, 6, 5],
        "just_out": [8, 9, 10],
        "lowest": [19, 18, 17],
        "skipped": [],
    }


def test_a_small_choice_is_shown_at_both_its_ends(scores):
    table = table_of(["scored"] * 20, scores, selected={0, 1, 2, 3, 4})
    assert plain(shown_rows(table, 10)) == {
        "highest": [0, 1, 2],
        "just_in": [4, 3],
        "just_out": [5, 6, 7, 8, 9, 10, 11, 12],
        "lowest": [19, 18, 17, 16, 15, 14, 13],
        "skipped": [],
    }


def test_without_a_cut_the_lowest_scores_are_among_the_lowest(scores):
    table = table_of(["scored"] * 20, scores, selected={1, 4, 9, 15, 18, 19})
    assert passed_over(table) == 14
    assert plain(shown_rows(table, 4)) == {
        "highest": [0, 1, 2],
        "just_in": [15, 9, 4],
        "just_out": [3, 5, 6, 7],
        "lowest": [19, 18, 17, 16],
        "skipped": [],
    }
    assert shown_rows(table, 20)["lowest"].tolist() == [19, 18, 17, 16, 15]  # a quarter


def test_barred_rows_were_not_passed_over(scores):
    reasons = [None] * 8 + ["excluded", "duplicate_of:1"] + [None] * 10
    chosen = {*range(8), 10}
    assert passed_over(table_of(["scored"] * 20, scores, selected=chosen, reasons=reasons)) == 0
    assert passed_over(table_of(["scored"] * 20, scores, selected=chosen)) == 2
    assert passed_over(table_of(["scored"] * 20, scores)) == 0


def test_before_anything_was_chosen(scores):
    groups = shown_rows(table_of(["scored"] * 20, scores), 4)
    assert plain(groups) == {
        "highest": [0, 1, 2, 3],
        "just_in": [],
        "just_out": [],
        "lowest": [19, 18, 17, 16],
        "skipped": [],
    }


def test_before_scoring_some_rows_are_shown_and_none_are_lowest(scores):
    table = table_of(["skipped", *["scored"] * 19], scores)
    for name in ("leverage_score", "rank", "selected"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.nulls(20, table.schema.field(name).type))
    assert plain(shown_rows(table, 4)) == {
        "highest": [1, 2, 3, 4],
        "just_in": [],
        "just_out": [],
        "lowest": [],
        "skipped": [0],
    }


def test_barred_rows_are_not_just_out(scores):
    reasons = [None] * 8 + ["excluded", "duplicate_of:1"] + [None] * 10
    table = table_of(["scored"] * 20, scores, selected=set(range(8)), reasons=reasons)
    assert plain(shown_rows(table, 3))["just_out"] == [10, 11, 12]


def test_a_frequent_reason_hides_no_other(scores):
    statuses = ["skipped"] * 6 + ["scored"] * 14
    reasons = ["image_missing"] * 4 + ["image_unreadable", "too_long"] + [None] * 14
    table = table_of(statuses, scores, reasons=reasons)
    assert plain(shown_rows(table, 4))["skipped"] == [0, 4, 5, 1]


def test_every_group_in_turn_is_explained(scores):
    table = table_of(["scored"] * 20, scores, selected=set(range(8)))
    assert explained_rows(table, 6).tolist() == [0, 1, 6, 7, 8, 19]


def test_nothing_at_all():
    assert all(rows.size == 0 and rows.dtype == np.int64 for rows in shown_rows(table_of([], [])).values())
