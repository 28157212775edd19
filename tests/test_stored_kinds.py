"""Vectors of both kinds and both number types are read from a store: by blocks, and a few rows alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scalselect.errors import DamagedFileError
from scalselect.representation_store import RepresentationStore
from small_shards import FACTS, identity, mixed_shard, scored


def test_a_few_rows_are_read_without_the_rest(tmp_path):
    store = RepresentationStore(tmp_path)
    rng = np.random.default_rng(0)
    kept = {}
    for shard in range(3):
        rows = range(shard, 12, 3)  # as in a run in image order
        vectors = rng.normal(size=(4, 5)).astype(np.float32)
        store.publish(shard, range(4 * shard, 4 * shard + 4), [scored(row) for row in rows], vectors, FACTS, rows=rows)
        kept |= dict(zip(rows, vectors, strict=True))
    wanted = np.array([1, 2, 6, 7, 11])
    assert store.vectors_at(range(3), wanted).tolist() == [kept[row].tolist() for row in wanted]
    assert store.vectors_at(range(3), wanted[:0]).size == 0
    with pytest.raises(ValueError, match="1 of 2 rows have no representations"):
        store.vectors_at(range(3), np.array([3, 12]))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_blocks_of_instruction_vectors_leave_out_rows_without_one(tmp_path, dtype):
    store = RepresentationStore(tmp_path)
    _, records, vectors = mixed_shard()
    second = 300 + vectors
    second[1] = np.nan
    nothing = np.full((3, 8), np.nan, dtype=np.float32)
    for shard, instruction in enumerate((second, nothing, second)):
        start = 5 * shard
        store.publish(
            shard,
            range(start, start + 5),
            [replace(record, identity=identity(start + i)) for i, record in enumerate(records)],
            vectors,
            FACTS,
            instruction_representations=instruction,
            store_dtype=dtype,
        )
    blocks = list(store.blocks(range(3), "instruction_representations"))
    assert [rows.tolist() for rows, _ in blocks] == [[0, 4], [10, 14]]
    assert np.allclose(blocks[1][1], second[[0, 2]], rtol=1e-5)
    assert [rows.tolist() for rows, _ in store.blocks(range(3))] == [[0, 2, 4], [5, 7, 9], [10, 12, 14]]
    wanted = np.array([4, 10])
    few = store.vectors_at(range(3), wanted, "instruction_representations")
    assert np.array_equal(few, [blocks[0][1][1], blocks[1][1][0]])
    assert few.dtype == (np.float32 if dtype == "float32" else np.float64)
    assert np.allclose(store.vectors_at(range(3), wanted), [vectors[2], vectors[0]], rtol=1e-2, atol=1e-3)
    assert np.isnan(store.instruction_representations(0)).all(axis=1).tolist() == [False, True, False]


def test_vectors_that_were_not_stored_are_missed(tmp_path):
    store = RepresentationStore(tmp_path)
    store.publish(0, *mixed_shard(), FACTS)
    assert store.instruction_representations(0) is None
    with pytest.raises(DamagedFileError, match="shard 0 holds no instruction_representations"):
        list(store.blocks(range(1), "instruction_representations"))
    with pytest.raises(ValueError, match="1 of 1 rows have no instruction_representations"):
        store.vectors_at(range(1), np.array([2]), "instruction_representations")
