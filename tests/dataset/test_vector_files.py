"""Vectors made elsewhere come back as they lie in their file, by any range of rows; what are no vectors is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from scalselect.dataset.vector_files import open_vectors
from scalselect.errors import DataChangedError, DatasetError, OptionError
from scalselect.storage import sha256_of_file

RNG = np.random.default_rng(3)
X = RNG.normal(size=(23, 5))


def lists(matrix, *, size=None, kind=None):
    values = pa.array(matrix.ravel()) if kind is None else pa.array(matrix.ravel(), kind)
    if size is not None:
        return pa.FixedSizeListArray.from_arrays(values, size)
    return pa.ListArray.from_arrays(pa.array(range(0, matrix.size + 1, matrix.shape[1]), pa.int32()), values)


def npy(path, matrix, order="C"):
    np.save(path / "X.npy", np.asarray(matrix, order=order))
    return path / "X.npy"


def npy_fortran(path, matrix):
    return npy(path, matrix, order="F")


def npy_big_endian(path, matrix):
    return npy(path, matrix.astype(matrix.dtype.newbyteorder(">")))


def parquet(path, columns, row_group_size=7):
    pq.write_table(pa.table(columns), path / "X.parquet", row_group_size=row_group_size)
    return path / "X.parquet"


def parquet_lists(path, matrix):
    return parquet(path, {"embedding": lists(matrix)})


def parquet_fixed_lists(path, matrix):
    return parquet(path, {"embedding": lists(matrix, size=matrix.shape[1])})


def parquet_columns(path, matrix):
    return parquet(path, {f"f.{dimension}": column for dimension, column in enumerate(matrix.T)})


def tensors(path, **arrays):
    safetensors.numpy.save_file(arrays, path / "X.safetensors")
    return path / "X.safetensors"


def one_tensor(path, matrix):
    return tensors(path, anything=matrix, biases=np.zeros(3))


WRITERS = [npy, npy_fortran, npy_big_endian, parquet_lists, parquet_fixed_lists, parquet_columns, one_tensor]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("write", WRITERS)
def test_every_range_of_rows_comes_back(tmp_path, write, dtype):
    matrix = X.astype(dtype)
    vectors = open_vectors(write(tmp_path, matrix))
    assert (vectors.rows, vectors.hidden) == matrix.shape
    assert vectors.dtype == (np.float64 if dtype == np.float64 else np.float32)
    # Forwards, backwards, with overlaps and gaps: not only in the order of one pass.
    for start, stop in [(0, 23), (0, 4), (4, 9), (9, 9), (20, 23), (6, 8), (7, 14), (1, 23), (22, 23)]:
        part = vectors.read(start, stop)
        assert part.dtype == vectors.dtype
        assert part.flags.c_contiguous
        np.testing.assert_array_equal(part, matrix[start:stop].astype(vectors.dtype))
        assert vectors.ids(start, stop) == [(None, "absent")] * (stop - start)
    assert vectors.read_instruction(0, 3) is None
    assert not vectors.has_instruction


def test_bfloat16_is_read_exactly(tmp_path):
    import torch
    from safetensors.torch import save_file

    matrix = torch.randn(9, 4, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(1))
    save_file({"representations": matrix}, tmp_path / "X.safetensors")
    vectors = open_vectors(tmp_path / "X.safetensors")
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors.read(2, 9), matrix.float().numpy()[2:9])


def test_what_is_read_is_a_copy(tmp_path):
    for write in WRITERS:
        vectors = open_vectors(write(tmp_path, X.copy()))
        vectors.read(0, 23)[:] = 0
        np.testing.assert_array_equal(vectors.read(0, 23), X)


def test_fingerprint_is_that_of_the_file(tmp_path):
    path = npy(tmp_path, X)
    assert open_vectors(path).fingerprint() == {"sha256": sha256_of_file(path), "bytes": path.stat().st_size}


@pytest.mark.parametrize("write", [npy, parquet_lists, one_tensor])
def test_a_changed_file_is_noticed(tmp_path, write):
    path = write(tmp_path, X)
    vectors = open_vectors(path)
    vectors.check_unchanged()
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataChangedError, match=f"vectors changed while they were read: {path}"):
        vectors.check_unchanged()
    path.unlink()
    with pytest.raises(DataChangedError, match="No such file"):
        vectors.check_unchanged()


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["007", "", None], [("007", "string"), ("", "string"), (None, "null")]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), [("b", "string"), ("a", "string"), ("b", "string")]),
        ([7, None, 12345678901234567], [("7", "number"), (None, "null"), ("12345678901234567", "number")]),
        ([0.5, 2.0, None], [("0.5", "number"), ("2.0", "number"), (None, "null")]),
    ],
)
def test_ids_and_columns_about_a_row_are_no_dimensions(tmp_path, ids, expected):
    about = {"id": ids, "source": ["a"] * 3, "image_sha256": [["x"]] * 3, "tokens": [1, 2, 3], "note": ["n"] * 3}
    wide = open_vectors(parquet(tmp_path, {**about, "a": X[:3, 0], "b": X[:3, 1]}, row_group_size=2))
    np.testing.assert_array_equal(wide.read(0, 3), X[:3, :2])
    assert (wide.ids(0, 3), wide.ids(1, 3)) == (expected, expected[1:])
    assert wide.ignored == ("source", "image_sha256", "tokens", "note")
    listed = open_vectors(parquet(tmp_path, {**about, "v": lists(X[:3]), "loss": X[:3, 0]}))
    np.testing.assert_array_equal(listed.read(0, 3), X[:3])
    assert listed.ids(0, 3) == expected
    assert listed.ignored == ("source", "image_sha256", "tokens", "note", "loss")


def test_second_vectors_and_the_name_that_decides(tmp_path):
    other = X[:, ::-1].astype(np.float32)
    columns = {"other": lists(other), "representations": lists(X), "instruction_representations": lists(other)}
    arrays = {"other": other, "representations": X, "instruction_representations": np.ascontiguousarray(other)}
    for path in (parquet(tmp_path, columns), tensors(tmp_path, **arrays)):
        vectors = open_vectors(path)
        assert vectors.has_instruction
        assert vectors.ignored == ("other",)
        np.testing.assert_array_equal(vectors.read(3, 9), X[3:9])
        np.testing.assert_array_equal(vectors.read_instruction(3, 9), other[3:9])


@pytest.mark.parametrize("name", ["X.pt", "X", "X.csv", "X.npz"])
def test_other_endings_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(OptionError, match=r"file that ends in \.npy, \.parquet, \.safetensors: .*X"):
        open_vectors(tmp_path / name)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"representations does not exist: .*X\.npy"):
        open_vectors(tmp_path / "X.npy")
    (tmp_path / "X.npy").mkdir()
    with pytest.raises(DatasetError, match=r"representations is a folder: .*X\.npy"):
        open_vectors(tmp_path / "X.npy")


@pytest.mark.parametrize("name", ["X.npy", "X.parquet", "X.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no such file", b"\x93NUMPY", b"PAR1"])
def test_damaged_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=rf"vectors cannot be read: .*{name} \(.*wanted: "):
        open_vectors(tmp_path / name)


@pytest.mark.parametrize("write", [npy, npy_fortran, parquet_lists, one_tensor])
def test_files_that_were_cut_off_are_refused(tmp_path, write):
    path = write(tmp_path, X)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DatasetError, match="vectors cannot be read"):
        open_vectors(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (X.astype(np.int64), r"must be floating-point numbers: .*X\.npy holds int64 \(wanted: float16, float32 or"),
        (X.astype(complex), "must be floating-point numbers: .* holds complex128"),
        (X.astype(np.longdouble), "must be floating-point numbers: .* holds float128"),
        (X > 0, "must be floating-point numbers: .* holds bool"),
        (X.astype(object), "vectors cannot be read: .*object"),
        (X[0], r"must be a matrix: .* holds an array of shape \[5\]"),
        (X[:, None], r"must be a matrix: .* holds an array of shape \[23, 1, 5\]"),
        (X[:0], r"at least one row and one dimension: .* holds \[0, 5\]"),
        (X[:, :0], r"at least one row and one dimension: .* holds \[23, 0\]"),
    ],
)
def test_arrays_that_are_no_vectors_are_refused(tmp_path, array, message):
    with pytest.raises(DatasetError, match=message):
        open_vectors(npy(tmp_path, array))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X, "b": X}, r"one tensor named `representations`, or the only matrix: .* holds a F64 \[23, 5\], b F64"),
        ({"a": X[0]}, r"or the only matrix: .* holds a F64 \[5\]"),
        ({"instruction_representations": X}, "one tensor named `representations`"),
        ({"representations": X[0], "a": X}, r"must be a matrix: .* holds representations of shape \[5\]"),
        ({"representations": X.astype(np.int32)}, "holds I32 in representations"),
        ({"representations": X[:0]}, r"at least one row and one dimension: .* holds \[0, 5\]"),
        ({"a": X, "instruction_representations": X[:, :3].copy()}, r"same dimensions: .*\[23, 5\] .*\[23, 3\]"),
    ],
)
def test_tensors_that_are_no_vectors_are_refused(tmp_path, arrays, message):
    with pytest.raises(DatasetError, match=message):
        open_vectors(tensors(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"v": [[1.0, 2.0], [3.0, 4.0], [5.0]]},
            "must all have as many dimensions: .* v has 2 in row 0 and 1 in row 2",
        ),
        ({"v": [[1.0], None, [5.0]]}, "must be complete: .* column v is null in row 1"),
        ({"v": [[1.0, 2.0], [3.0, 4.0], [None, 5.0]]}, "must be complete: .* column v holds a null in row 2"),
        ({"a": [1.0, 2.0, None], "b": [1.0, 2.0, 3.0]}, "must be complete: .* column a is null in row 2"),
        ({"v": [[1, 2], [3, 4]]}, "must be floating-point numbers: .* holds int64 in column v"),
        ({"a": [1.0, 2.0], "b": [1, 2]}, "must be floating-point numbers: .* holds int64 in column b"),
        ({"v": [[1.0]], "w": [[1.0]]}, r"several columns may be the vectors: .*; name one of them `representations`"),
        ({"id": ["a"], "text": ["b"]}, "no column holds vectors: .* holds id string, text string"),
        ({"representations": ["a"]}, "must be floating-point numbers: .* holds string"),
        ({"v": [[], []]}, "must be floating-point numbers: .* holds null"),
        ({"v": pa.array([[], []], pa.list_(pa.float32()))}, r"at least one row and one dimension: .* holds \[2, 0\]"),
        ({"v": pa.array([], pa.list_(pa.float32()))}, "at least one row and one dimension"),
        ({"id": [[1]], "a": [1.0]}, "ids must be text or numbers: .* column id holds list"),
        (
            {"representations": [[1.0, 2.0]], "instruction_representations": [[1.0]]},
            "same dimensions: .* columns representations and instruction_representations",
        ),
    ],
)
def test_tables_that_are_no_vectors_are_refused(tmp_path, columns, message):
    with pytest.raises(DatasetError, match=message):
        open_vectors(parquet(tmp_path, columns, row_group_size=2))


PEAK = """\
import sys
from pathlib import Path
from scalselect.dataset.vector_files import open_vectors
vectors = open_vectors(sys.argv[1])
vectors.read(0, 100), vectors.ids(0, 100)

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

before = peak()
for start in range(0, vectors.rows, 1000):
    vectors.read(start, start + 1000), vectors.ids(start, start + 1000)
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("write", [npy, parquet_lists, one_tensor])
def test_reading_in_pieces_never_holds_the_file(tmp_path, write):
    path = write(tmp_path, np.zeros((100_000, 128), np.float32) + RNG.normal(size=128).astype(np.float32))  # 51 MB
    shown = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True).stdout
    assert int(shown) < 12_000  # KiB
