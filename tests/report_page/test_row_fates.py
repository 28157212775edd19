"""What became of every row: each counted once, and every reason has words."""

import pyarrow as pa
import pytest

from scalselect.report_page.row_fates import row_fates


def table_of(*rows, scored=True):
    names = ("status", "selected", "reason", "leverage_score")
    types = (pa.string(), pa.bool_(), pa.string(), pa.float64())
    columns = [*zip(*rows, strict=True), [0.5 if scored and row[0] == "scored" else None for row in rows]]
    return pa.table({name: pa.array(column, kind) for name, kind, column in zip(names, types, columns, strict=True)})


def test_every_row_is_counted_once():
    table = table_of(
        *[("scored", True, None)] * 3,
        *[("scored", False, None)] * 4,
        ("scored", False, "duplicate_of:1"),
        ("scored", False, "duplicate_of:22"),
        ("scored", False, "excluded"),
        ("scored", False, "max_per_image"),
        *[("skipped", False, "image_missing")] * 2,
        ("skipped", False, "too_long"),
        ("text_only", True, None),
        ("text_only", False, None),
        ("text_only", False, "excluded"),
    )
    found = [(fate.kind, fate.reason, fate.rows) for fate in row_fates(table)]
    assert found == [
        ("chosen", None, 3),
        ("chosen", None, 1),
        ("others", None, 4),
        ("barred", "duplicate_of", 2),
        ("barred", "excluded", 1),
        ("barred", "max_per_image", 1),
        ("skipped", "image_missing", 2),
        ("skipped", "too_long", 1),
        ("text-only", None, 2),
    ]
    assert sum(rows for _, _, rows in found) == table.num_rows


@pytest.mark.parametrize("reason", ["of_later_versions", "excluded_for_good"])
def test_a_reason_of_another_version_is_told_as_it_is(reason):
    fates = row_fates(table_of(("scored", False, reason), ("skipped", False, reason)))
    assert [(fate.kind, fate.rows) for fate in fates] == [("barred", 1), ("skipped", 1)]
    assert all(reason.replace("_", " ") in fate.words for fate in fates)


def test_before_any_selection_no_row_was_refused():
    fates = row_fates(table_of(("scored", None, None), ("text_only", None, None)))
    assert [fate.words for fate in fates] == ["scored, nothing chosen yet", "text-only, without a score"]


def test_before_scoring_no_row_is_told_to_be_scored():
    fates = row_fates(table_of(("scored", None, None), ("scored", None, None), scored=False))
    assert [(fate.words, fate.rows) for fate in fates] == [("represented, not scored yet", 2)]
