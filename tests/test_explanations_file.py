"""`explanations.safetensors`: what is written comes back, and every flipped bit shows."""

from __future__ import annotations

import numpy as np
import pytest

from scalselect.errors import RunFolderError
from scalselect.explanations_file import Explanation, Explanations, read_explanations, write_explanations

INPUTS = {"format": 1, "store": "abc"}


def explanation(row, tokens):
    generator = np.random.default_rng(row)
    boxes = generator.random((tokens, 4)).astype(np.float32)
    boxes[-1] = np.nan
    return Explanation(
        row=row,
        attention=generator.random(tokens).astype(np.float32),
        kept=generator.random(tokens) < 0.5,
        image=np.zeros(tokens, dtype=np.int32),
        boxes=boxes,
    )


@pytest.fixture
def some():
    return Explanations(
        rows={9: explanation(9, 2), 2: explanation(2, 3)}, missing={12: "gone", 5: "gone"}, boxes_unknown="not known"
    )


def test_what_is_written_comes_back(tmp_path, some):
    write_explanations(tmp_path / "x", some, INPUTS)
    found, inputs = read_explanations(tmp_path / "x")
    assert inputs == INPUTS
    assert list(found.rows) == [2, 9]
    assert list(found.missing.items()) == [(5, "gone"), (12, "gone")]
    assert found.boxes_unknown == "not known"
    for row, one in found.rows.items():
        assert one.row == row
        for name in ("attention", "kept", "image", "boxes"):
            expected = getattr(some.rows[row], name)
            assert getattr(one, name).dtype == expected.dtype
            np.testing.assert_array_equal(getattr(one, name), expected)


@pytest.mark.parametrize("missing", [{}, {1: "no"}])
def test_no_rows(tmp_path, missing):
    write_explanations(tmp_path / "x", Explanations(rows={}, missing=missing, boxes_unknown=None), INPUTS)
    found, _ = read_explanations(tmp_path / "x")
    assert (found.rows, found.missing, found.boxes_unknown) == ({}, missing, None)


def test_the_same_content_gives_the_same_bytes(tmp_path, some):
    for name in ("x", "y"):
        write_explanations(tmp_path / name, some, INPUTS)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_every_flipped_byte_is_noticed(tmp_path, some):
    write_explanations(tmp_path / "x", some, INPUTS)
    content = (tmp_path / "x").read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        (tmp_path / "y").write_bytes(damaged)
        with pytest.raises(RunFolderError, match="y is not what was written"):
            read_explanations(tmp_path / "y")


@pytest.mark.parametrize("content", [b"", b"x", b"{}" * 20, None])
def test_what_is_no_such_file(tmp_path, some, content):
    write_explanations(tmp_path / "x", some, INPUTS)
    whole = (tmp_path / "x").read_bytes()
    (tmp_path / "y").write_bytes(whole[:-1] if content is None else content)
    with pytest.raises(RunFolderError, match="remove it, and `run` makes it anew"):
        read_explanations(tmp_path / "y")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_explanations(tmp_path / "x")
