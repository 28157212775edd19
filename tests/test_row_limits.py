"""A row may show a thousand images, and four times the pixels of one picture: more costs the row, and no memory."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

import scalselect
from small_pools import command, record


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        Image.effect_noise((40, 30), 60).convert("RGB").save(tmp_path / f"{number}.png")
    return tmp_path


def pool_of(folder, *shown):
    """Write a row for each list of images."""
    records = []
    for row, images in enumerate(shown):
        item = record(row, images[0])
        item["conversations"][0]["value"] = "<image>" * len(images) + "Which?"
        records.append({**item, "image": images})
    path = folder / "pool.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def of_run(pool, model, **options):
    """Return what a run finds of each row: reason and detail."""
    out = pool.parent / "run"
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    assert command("represent", pool, "--model", model, "--output", out, "--max-skipped", "100%", *words) == 0
    rows = pq.read_table(out / "representations" / "shard-0000000.rows.parquet").to_pylist()
    return [(row["reason"], row["detail"]) for row in rows]


def of_check(pool, rows, **options):
    """Return what a check finds of each row: kind and detail."""
    found = dict.fromkeys(range(rows), (None, None))
    for problem in scalselect.check(pool, **options).examples:
        assert problem.effect == "skipped"
        found[problem.row] = problem.kind, problem.detail
    return list(found.values())


def test_more_than_a_thousand_images_are_not_opened(folder, checkpoints):
    model = checkpoints("qwen2_5_vl")
    pool = pool_of(folder, ["0.png"], ["gone.png"] * 1001, ["gone.png"] * 1000)
    told = of_run(pool, model)
    assert told[:2] == [(None, None), ("too_long", "shows 1,001 images, more than 1,000")]
    assert told[2][0] == "image_missing"
    assert of_check(pool, 3) == of_check(pool, 3, model=model) == told
    assert [kind for kind, _ in of_check(pool, 3, decode="off")] == [None, "too_long", "image_missing"]


def test_pictures_of_a_row_have_a_limit_together(folder, checkpoints):
    model = checkpoints("qwen2_5_vl")
    names = [f"{number}.png" for number in range(5)]
    pool = pool_of(folder, names[:4], [*names, "gone.png"], names[:1])
    detail = (
        "`4.png`: up to this picture the row shows 6,000 pixels together, more than 4,800 (4 times --decode-max-pixels)"
    )
    told = of_run(pool, model, decode_max_pixels=1200)
    assert told == [(None, None), ("image_too_large", detail), (None, None)]
    limit = {"decode_max_pixels": 1200}
    assert of_check(pool, 3, **limit) == of_check(pool, 3, model=model, **limit) == told


def test_what_counts_is_the_picture_as_it_is_seen(folder, checkpoints):
    model = checkpoints("qwen2_5_vl")
    pool = pool_of(folder, ["0.png"] * 5)
    options = {"decode_max_pixels": 1200, "image_resize": "before", "image_max_pixels": 900}
    assert of_run(pool, model, **options) == [(None, None)]
    assert of_check(pool, 1, **options) == of_check(pool, 1, model=model, **options) == [(None, None)]
