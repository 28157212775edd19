"""Ranges of rows looked at: every problem with its row and reason, the same whether files are decoded or looked for."""

from __future__ import annotations

import json
import os

import pytest
from PIL import Image

from scalselect.dataset.image_outcomes import DecodeImages, FindImages
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.dataset.opening import open_pool
from scalselect.dataset.validation import RowChecker
from scalselect.image_files import PictureView
from small_pools import record


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "whole.png")
    Image.new("RGBA", (8, 6)).save(tmp_path / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path


def pool_of(folder, *records, name="pool"):
    path = folder / f"{name}.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return JoinedPool([open_pool(path)])


def looked_at(pool, *, decode=True, like=None, rows=None):
    examine = DecodeImages(PictureView()) if decode else FindImages()
    return RowChecker(pool, examine, like)(pool.rows if rows is None else rows)


def told(found):
    return [(problem.row, problem.kind, problem.effect) for problem in found.problems]


def test_every_problem_has_its_row_and_reason(folder):
    pool = pool_of(
        folder,
        record(0, "whole.png"),
        record(1, "gone.png"),
        record(2, "broken.png"),
        record(3, "clear.png"),
        {**record(4, "whole.png"), "image": ["whole.png", "gone.png"]},
        "no object",
        record(6, "turned.jpg"),
        {"id": 7, "conversations": [{"from": "human", "value": "Hi"}]},
    )
    found = looked_at(pool)
    assert told(found) == [
        (1, "image_missing", "skipped"),
        (2, "image_unreadable", "skipped"),
        (4, "marker_mismatch", "skipped"),
        (5, "invalid_record", "skipped"),
    ]
    assert found.problems[0].id == "row-1"
    assert "gone.png" in found.problems[0].detail
    expected = {"rows": 8, "unusable": 2, "text_only": 1, "images": 5, "alpha": 1, "exif_rotated": 1}
    assert {name: found.counts[name] for name in expected} == expected
    sizes = [(folder / name).stat().st_size for name in ("whole.png", "clear.png", "turned.jpg")]
    assert found.counts["image_bytes"] == sum(sizes)
    missing_alone = looked_at(pool, decode=False)
    assert told(missing_alone) == [problem for problem in told(found) if problem[0] != 2]


def test_a_trainer_does_something_else_with_a_missing_image(folder):
    pool = pool_of(folder, record(0, "gone.png"))
    assert told(looked_at(pool, like="ms-swift")) == [(0, "image_missing", "replaced")]
    assert told(looked_at(pool, like="trl")) == [(0, "image_missing", "stops the run")]


def test_rules_of_a_trainer_come_beside_the_reasons(folder):
    ends = record(0, "whole.png")
    ends["conversations"] = ends["conversations"][:1]
    pool = pool_of(folder, ends, record(1, "whole.png"), {"conversations": []})
    found = looked_at(pool, like="llamafactory")
    assert told(found) == [
        (0, "ends_with_user", "dropped"),
        (2, "no_usable_turn", "skipped"),
        (2, "empty_conversation", "dropped"),
    ]
    assert set(found.kinds) == {0}
    assert found.kinds[0].first_rows["id"] == {"string": 0}


def test_rows_of_a_range_alone(folder):
    pool = pool_of(folder, *(record(row, "gone.png") for row in range(6)))
    found = looked_at(pool, rows=range(2, 4))
    assert [problem.row for problem in found.problems] == [2, 3]
    assert found.counts["rows"] == len(found.ids) == 2


def test_ids_are_equal_where_they_are_the_same(folder):
    ids = [1, "1", None, "a", "a", 1.0]
    pool = pool_of(folder, *({**record(0, "whole.png"), "id": value} for value in ids), record(6, "whole.png"))
    hashes = looked_at(pool, decode=False).ids.tolist()
    assert hashes[3] == hashes[4]
    assert len(set(hashes)) == 6


def test_in_another_process_the_data_are_opened_anew(folder, monkeypatch):
    pool = pool_of(folder, record(0, "whole.png"), record(1, "gone.png"))
    checker = RowChecker(pool, FindImages(), None)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert told(checker(pool.rows)) == [(1, "image_missing", "skipped")]
    assert checker._pool is not pool
    assert checker._pool.rows == pool.rows


def test_failures_of_the_system_are_told_of_the_row(folder, monkeypatch):
    from scalselect.dataset import image_outcomes

    def fails(_path, **_options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(image_outcomes, "open_image", fails)
    pool = pool_of(folder, record(0, str(folder / "never-opened-before.png")))
    (problem,) = looked_at(pool).problems
    assert (problem.kind, "Input/output error" in problem.detail) == ("image_unreadable", True)
