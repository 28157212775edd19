"""Formats as Hugging Face's `datasets` writes them: Arrow's nulls in every part, images as bytes or as bare paths."""

import io

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from scalselect.dataset.opening import open_pool
from scalselect.image_files import decode_image
from scalselect.records import ImagePart, Sample

PICTURES = [Image.effect_noise((20, 30), 20 * number).convert("RGB") for number in range(1, 4)]


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def trl_rows():
    """Return vision conversations as TRL has them: content lists, images in a column; the last one is text only."""
    image, ask, answer = {"type": "image"}, {"type": "text", "text": "Which?"}, {"type": "text", "text": "That."}
    return [
        {
            "messages": [
                {"role": "user", "content": [image, ask, image]},
                {"role": "assistant", "content": [answer]},
                {"role": "user", "content": [ask, image]},
                {"role": "assistant", "content": [answer]},
            ],
            "images": PICTURES,
        },
        {
            "messages": [{"role": "user", "content": [ask]}, {"role": "assistant", "content": [answer]}],
            "images": [],
        },
    ]


def tables(rows, tmp_path):
    column = datasets.List(datasets.Image())
    data = datasets.Dataset.from_list(rows).cast_column("images", column)
    data.to_parquet(tmp_path / "pool.parquet")
    data.save_to_disk(tmp_path / "saved")
    return data, [tmp_path / "pool.parquet", tmp_path / "saved"]


def parts(sample):
    assert isinstance(sample, Sample), sample
    return [[part.index if isinstance(part, ImagePart) else part.text for part in turn.parts] for turn in sample.turns]


def test_trl_conversations_in_tables_and_in_a_list(tmp_path):
    data, places = tables(trl_rows(), tmp_path)
    for place in [*places, list(data)]:
        pool = open_pool(place)
        assert pool.format == "messages"
        first, second = pool.read(0, 2)
        assert parts(first) == [[0, "Which?", 1], ["That."], ["Which?", 2], ["That."]]
        assert parts(second) == [["Which?"], ["That."]]
        assert second.images == ()
        for image, picture in zip(first.images, PICTURES, strict=True):
            shown = decode_image(pool.embedded_image(image)).picture
            assert (np.asarray(shown) == np.asarray(picture)).all()


def test_prompt_and_completion_of_trl_in_a_table(tmp_path):
    row = {
        "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]}],
        "completion": [{"role": "assistant", "content": [{"type": "text", "text": "That."}]}],
        "images": PICTURES[:1],
    }
    _, places = tables([row], tmp_path)
    for place in places:
        pool = open_pool(place)
        (sample,) = pool.read(0, 1)
        assert pool.format == "prompt-completion"
        assert parts(sample) == [[0, "Which?"], ["That."]]
        assert pool.embedded_image(sample.images[0]) == png(PICTURES[0])


def test_alpaca_rows_of_a_table_with_paths_beside_bytes(tmp_path):
    (tmp_path / "a.png").write_bytes(png(PICTURES[0]))
    rows = [
        {"instruction": "<image>Which?", "output": "That.", "images": [{"bytes": png(PICTURES[1]), "path": "b.png"}]},
        {"instruction": "<image>Which?", "output": "That.", "images": [{"bytes": None, "path": "a.png"}]},
    ]
    table = pa.Table.from_pylist([{**row, "history": None, "system": None} for row in rows])
    pq.write_table(table, tmp_path / "pool.parquet")
    pool = open_pool(tmp_path / "pool.parquet")
    first, second = pool.read(0, 2)
    assert pool.format == "alpaca"
    assert [first.images[0].text, second.images[0].text] == ["b.png", "a.png"]
    assert pool.embedded_image(first.images[0]) == png(PICTURES[1])
    if second.images[0].embedded is None:
        assert second.images[0].path == str(tmp_path / "a.png")
    else:
        assert pool.embedded_image(second.images[0]) == png(PICTURES[0])
