"""Vectors come back as they were given: exactly from float32, within float16 of their spread from float16."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, from_dtype
from safetensors import safe_open

from scalselect.stored_vectors import decode_vectors, encode_vectors, read_vectors
from small_pools import command, scores_of, write_pool

pytestmark = pytest.mark.usefixtures("shared_models_kept")

VISION, INSTRUCTION = "representations", "instruction_representations"


def there_and_back(vectors, kind=VISION):
    tensors = encode_vectors(vectors, kind, "float16")
    return tensors, decode_vectors(safetensors.numpy.load(safetensors.numpy.save(tensors)), kind)


def far_from_zero(rows=500, hidden=24, seed=0):
    """Return vectors whose mean is 300 times their spread, in directions of very different width."""
    rng = np.random.default_rng(seed)
    spread = rng.normal(size=(rows, hidden)) * np.geomspace(1, 0.05, hidden)
    return (300 * rng.normal(size=hidden) + spread).astype(np.float32)


def leverage(vectors, rank=5):
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    return (np.linalg.svd(centred, full_matrices=False)[0][:, :rank] ** 2).sum(axis=1)


def test_float32_is_kept_bit_for_bit():
    vectors = np.asfortranarray(far_from_zero())
    tensors = encode_vectors(vectors, VISION, "float32")
    assert list(tensors) == [VISION]
    back = decode_vectors(safetensors.numpy.load(safetensors.numpy.save(tensors)), VISION)
    assert back.dtype == np.float32
    assert back.tolist() == vectors.tolist()


def test_names_and_types_of_the_tensors():
    vectors = far_from_zero(7, 3)
    described = {name: (x.dtype, x.shape) for name, x in encode_vectors(vectors, VISION, "float16").items()}
    assert described == {
        "representations": (np.float16, (7, 3)),
        "shift": (np.float32, (3,)),
        "scale": (np.float32, (1,)),
    }
    names = set(encode_vectors(vectors, INSTRUCTION, "float16"))
    assert names == {INSTRUCTION, "instruction_shift", "instruction_scale"}
    with pytest.raises(ValueError, match="float32 or float16: 'int8'"):
        encode_vectors(vectors, VISION, "int8")


def test_scores_of_vectors_far_from_zero():
    """float16 of the raw values would be a hundred times worse, so the test can fail."""
    vectors = far_from_zero()
    _, back = there_and_back(vectors)
    assert back.dtype == np.float64
    exact = leverage(vectors)
    assert np.max(np.abs(leverage(back) - exact) / exact) < 2e-3
    assert np.median(np.abs(leverage(back) - exact) / exact) < 4e-4
    raw = leverage(vectors.astype(np.float16))
    assert np.median(np.abs(raw - exact) / exact) > 1e-2


def test_the_formula_is_the_documented_one():
    vectors = far_from_zero()
    tensors, back = there_and_back(vectors)
    plain = tensors["shift"].astype(float) + float(tensors["scale"][0]) * tensors[VISION].astype(float)
    assert np.array_equal(plain, back)
    assert np.allclose(tensors["shift"], vectors.astype(float).mean(axis=0), rtol=1e-7, atol=0)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(0, 5), st.integers(1, 4)),
        elements=from_dtype(np.dtype(np.float32), allow_nan=False, allow_infinity=False),
    )
)
def test_any_finite_vectors(vectors):
    """Within float16's 11 bits of each deviation, or of the 2^-24 of the largest where that is less."""
    tensors, back = there_and_back(vectors)
    assert np.isfinite(tensors[VISION]).all()
    assert np.log2(float(tensors["scale"][0])).is_integer()
    assert back.shape == vectors.shape
    exact = vectors.astype(np.float64)
    deviations = np.abs(exact - tensors["shift"].astype(np.float64))
    largest = deviations.max(initial=0.0)
    rounding = np.maximum(np.abs(exact), np.abs(tensors["shift"].astype(np.float64))) * 2.0**-52
    smallest = 2.0**-150  # of a float32
    assert (np.abs(back - exact) <= np.maximum(deviations * 2.0**-11, largest * 2.0**-36) + rounding + smallest).all()


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 7e4, 1e30, 3e38])
def test_neither_overflow_nor_lost_digits_whatever_the_size(size):
    vectors = (np.random.default_rng(3).uniform(-1, 1, size=(50, 4)) * size).astype(np.float32)
    tensors, back = there_and_back(vectors)
    assert 2**13 <= np.abs(tensors[VISION].astype(float)).max() <= 2**14
    exact = vectors.astype(np.float64)
    spread = np.abs(exact - exact.mean(axis=0))
    # The mean is a float32 like the values, which has less digits near the smallest of all.
    assert (np.abs(back - exact) <= spread * 2.0**-10 + np.abs(exact) * 1e-9 + 1e-45).all()


def test_rows_without_a_vector_say_nothing_of_the_mean():
    vectors = far_from_zero(9, 4)
    holes = vectors.copy()
    holes[2] = np.nan
    holes[5, 1] = np.inf
    tensors, back = there_and_back(holes, INSTRUCTION)
    kept = [0, 1, 3, 4, 6, 7, 8]
    other, expected = there_and_back(vectors[kept], INSTRUCTION)
    assert np.array_equal(back[kept], expected)
    assert np.isnan(back[[2, 5]]).all()
    assert np.array_equal(tensors["instruction_shift"], other["instruction_shift"])
    nothing = np.full((3, 4), np.nan, dtype=np.float32)
    assert np.isnan(there_and_back(nothing, INSTRUCTION)[1]).all()


@pytest.mark.parametrize("rows", [0, 1, 6])
def test_vectors_without_spread_come_back_exactly(rows):
    vectors = np.tile(np.array([[1e-3, 123.456, -7e8]], dtype=np.float32), (rows, 1))
    assert np.array_equal(there_and_back(vectors)[1], vectors.astype(np.float64))


def test_whole_numbers_about_a_mean_that_is_none_come_back_exactly():
    """Deviations are taken from the stored shift: from the mean itself they would be off by its rounding."""
    vectors = np.array([[1e7], [1e7 + 1], [1e7 + 3]], dtype=np.float32)  # their mean has no float32
    assert there_and_back(vectors)[1].tolist() == vectors.tolist()


def test_equal_vectors_are_equal_bytes_whatever_the_layout():
    vectors = far_from_zero(300, 16)
    vectors[7] = np.nan
    layouts = [vectors, np.asfortranarray(vectors), np.repeat(vectors, 2, axis=1)[:, ::2]]
    saved = [safetensors.numpy.save(encode_vectors(x, VISION, "float16")) for x in layouts]
    assert len({hashlib.sha256(content).hexdigest() for content in saved}) == 1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_some_rows_are_read_without_the_others(tmp_path, dtype):
    vectors = far_from_zero(20, 4)
    tensors = encode_vectors(vectors, VISION, dtype)
    safetensors.numpy.save_file(tensors, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as stored:
        some = read_vectors(stored, VISION, np.array([3, 17]))
        assert read_vectors(stored, INSTRUCTION, np.array([3])) is None
    everything = decode_vectors(tensors, VISION)
    assert some.dtype == everything.dtype
    assert np.array_equal(some, everything[[3, 17]])


def test_a_run_in_float16(tmp_path, pictures, checkpoints):
    data = write_pool(tmp_path / "data", pictures, rows=17)
    words = ["run", data, "--model", checkpoints("llava"), "--budget", "5", "--shard-size", "5"]
    words += ["--vectors", "vision+instruction"]
    for dtype in ("float32", "float16"):
        assert command(*words, "--store-dtype", dtype, "--output", tmp_path / dtype) == 0
        assert json.loads((tmp_path / dtype / "run.json").read_text())["represent"]["store_dtype"] == dtype
    wide, narrow = (scores_of(tmp_path / dtype) for dtype in ("float32", "float16"))
    assert narrow["leverage_score"] == pytest.approx(wide["leverage_score"], rel=1e-2)
    assert narrow["leverage_score"] != wide["leverage_score"]
    shard = safetensors.numpy.load_file(tmp_path / "float16" / "representations" / "shard-0000001.safetensors")
    assert {name: str(x.dtype) for name, x in shard.items()} == {
        "representations": "float16",
        "shift": "float32",
        "scale": "float32",
        "instruction_representations": "float16",
        "instruction_shift": "float32",
        "instruction_scale": "float32",
        "rows": "int64",
    }
    assert command(*words, "--output", tmp_path / "float16") == 2
