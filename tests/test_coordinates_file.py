"""Coordinates come back as they were written, in whatever order, as a safetensors file."""

import numpy as np
import pytest
import safetensors.numpy

from scalselect.coordinates_file import read_coordinates, writing_coordinates

INPUTS = {"store": "abc", "score": {"energy": 0.9}}
ROWS = np.array([0, 2, 3, 7, 8, 11])
RANKS = {"vision": 3, "instruction": 2}


def arrays():
    rng = np.random.default_rng(0)
    sizes = {"norms": (), "vision": (3,), "instruction": (2,)}
    return {name: rng.normal(size=(6, *size)).astype(np.float32) for name, size in sizes.items()}


def write(path, parts, ranks=RANKS):
    whole = arrays()
    with writing_coordinates(path, ROWS, ranks, INPUTS) as writer:
        for part in parts:
            for name in ("norms", *ranks):
                writer.write(name, ROWS[part], whole[name][part])
    return whole


@pytest.mark.parametrize("parts", [[[0, 1, 2, 3, 4, 5]], [[0, 1], [2, 3, 4], [], [5]], [[1, 4], [0, 2, 5], [3]]])
def test_parts_in_any_order_give_the_same_file(tmp_path, parts):
    whole = write(tmp_path / "parts", [np.array(part, dtype=int) for part in parts])
    write(tmp_path / "whole", [np.arange(6)])
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    read = read_coordinates(tmp_path / "parts")
    assert read.rows.tolist() == ROWS.tolist()
    for name, expected in whole.items():
        np.testing.assert_array_equal(getattr(read, name), expected)
        assert isinstance(getattr(read, name), np.memmap)


def test_others_can_read_the_file(tmp_path):
    whole = write(tmp_path / "file", [np.arange(6)])
    loaded = safetensors.numpy.load_file(tmp_path / "file")
    assert loaded.keys() == {"rows", *whole}
    for name, expected in whole.items():
        np.testing.assert_array_equal(loaded[name], expected)


def test_what_is_not_written_is_zero_and_a_missing_tensor_is_none(tmp_path):
    write(tmp_path / "file", [np.array([1])], {"vision": 3})
    read = read_coordinates(tmp_path / "file")
    assert read.instruction is None
    assert np.flatnonzero(np.abs(read.vision).sum(axis=1)).tolist() == [1]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), writing_coordinates(tmp_path / "file", ROWS, RANKS, INPUTS):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
