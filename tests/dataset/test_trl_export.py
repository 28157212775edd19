"""Samples as TRL wants them, read back by Hugging Face datasets and laid out by a chat template."""

from __future__ import annotations

import io

import datasets
import jinja2
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scalselect.dataset.trl_export import TRL_SCHEMA, trl_row, write_trl
from scalselect.records import ImagePart, ImageReference, RowIdentity, Sample, TextPart, Turn


def picture(colour):
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(stream, "PNG")
    return stream.getvalue()


def sample(*turns, images=(), row=0, id_="a"):
    """Return a sample of turns such as ("user", 0, "text"), numbers being images."""
    parts = [
        Turn(role, tuple(ImagePart(x) if isinstance(x, int) else TextPart(x) for x in said)) for role, *said in turns
    ]
    identity = RowIdentity(row, "pool", id_, "absent" if id_ is None else "string")
    return Sample(identity, tuple(parts), tuple(images), images_in_front=False, text_sha256="")


def by_path(image):
    return {"bytes": None, "path": image.path}


def written(path, samples, cell_of=by_path):
    with path.open("wb") as stream:
        write_trl(samples, stream, cell_of)
    return datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(path.parent / "cache"))


def files(folder, number):
    for i in range(number):
        (folder / f"{i}.png").write_bytes(picture((i, 0, 0)))
    return [ImageReference(f"{i}.png", str(folder / f"{i}.png")) for i in range(number)]


def test_datasets_reads_pictures_and_blocks_of_two_keys(tmp_path):
    images = files(tmp_path, 3)
    found = written(
        tmp_path / "trl.parquet",
        [
            sample(("system", "Be kind."), ("user", 1, "left of", 0), ("assistant", "yes"), images=images[:2]),
            sample(("user", "hi"), ("assistant", "ho"), id_="007"),
            sample(("user", 0), ("assistant", ""), ("tool", "42"), images=images[2:], id_=None),
        ],
    )
    assert found.features["images"] == datasets.List(datasets.Image())
    block = found.features["messages"].feature["content"].feature
    assert list(block) == ["type", "text"]
    assert found["id"] == ["a", "007", None]
    first = found[0]
    assert [image.getpixel((0, 0))[0] for image in first["images"]] == [1, 0]  # in the order of the blocks
    assert [turn["role"] for turn in first["messages"]] == ["system", "user", "assistant"]
    assert first["messages"][1]["content"] == [
        {"type": "image", "text": None},
        {"type": "text", "text": "left of"},
        {"type": "image", "text": None},
    ]
    assert found[1]["images"] == []
    assert found[2]["messages"][1]["content"] == [{"type": "text", "text": ""}]


def test_bytes_stand_in_the_file(tmp_path):
    reference = ImageReference("a/b.png", "", embedded=(0, 0))
    found = written(
        tmp_path / "trl.parquet",
        [sample(("user", 0, "hi"), ("assistant", "yes"), images=[reference])],
        lambda _: {"bytes": picture((9, 8, 7)), "path": "b.png"},
    )
    assert found[0]["images"][0].getpixel((0, 0)) == (9, 8, 7)


@pytest.mark.parametrize(
    ("rows", "size", "groups"), [(2500, 0, [1000, 1000, 500]), (5, 40 * 2**20, [2, 2, 1]), (0, 0, [])]
)
def test_groups_are_bounded_in_rows_and_bytes(tmp_path, rows, size, groups):
    reference = ImageReference("a", "", embedded=(0, 0))
    content = bytes(size)
    samples = [sample(("user", 0), ("assistant", "x"), images=[reference], row=row) for row in range(rows)]
    with (tmp_path / "x.parquet").open("wb") as stream:
        write_trl(iter(samples), stream, lambda _: {"bytes": content, "path": None})
    file = pq.ParquetFile(tmp_path / "x.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == groups
    assert file.schema_arrow.names == TRL_SCHEMA.names
    assert file.schema_arrow.metadata == TRL_SCHEMA.metadata


TEXTS = st.text(min_size=1, max_size=8)
TURNS = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "system", "tool"]), st.lists(TEXTS | st.none(), max_size=4)),
    min_size=1,
    max_size=5,
)


@given(TURNS)
@settings(max_examples=200)
def test_one_image_for_every_block_that_stands_for_one(turns):
    count = iter(range(100))
    said = [(role, *[next(count) if part is None else part for part in parts]) for role, parts in turns]
    shown = next(count)
    row = trl_row(sample(*said, images=[ImageReference(str(i), f"/{i}") for i in range(shown)]), by_path)
    blocks = [block for message in row["messages"] for block in message["content"]]
    assert all(set(block) == {"type", "text"} for block in blocks)
    assert sum(block["type"] == "image" for block in blocks) == len(row["images"]) == shown
    assert [image["path"] for image in row["images"]] == [f"/{i}" for i in range(shown)]
    assert "".join(b["text"] for b in blocks if b["text"]) == "".join(p for _, parts in turns for p in parts if p)


TEMPLATE = (
    "{% for message in messages %}{% for content in message.content %}"
    "{% if content.type == 'image' or 'image' in content or 'image_url' in content %}<|image|>"
    "{% elif 'text' in content %}{{ content.text }}{% endif %}{% endfor %}\n{% endfor %}"
)


def test_a_template_of_qwens_kind_prints_each_image_once_and_every_text(tmp_path):
    images = files(tmp_path, 2)
    turns = [("user", 0, "one", 1, "two"), ("assistant", "three")]
    row = written(tmp_path / "trl.parquet", [sample(*turns, images=images)])[0]
    text = jinja2.Template(TEMPLATE).render(messages=row["messages"])
    assert text.split() == ["<|image|>one<|image|>two", "three"]
