"""What is known of the rows that a diagnosis looks at: of all rows counts, of a few the hashes of their content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.representation_store import RepresentationStore


@dataclass(frozen=True, slots=True, eq=False)
class RowFacts:
    """Facts of the rows of a pool.

    Attributes
    ----------
    turns, images
        Counts of every record, int64 [pool].
    text_tokens
        Tokens of every conversation but those of images, int64 [pool]; -1 where they are not known.
    recorded
        Whether the rows come from records at all: vectors made elsewhere have neither text nor images.
    """

    turns: NDArray[np.int64]
    images: NDArray[np.int64]
    text_tokens: NDArray[np.int64]
    recorded: bool
    _hashed: pa.Table  # row, text_sha256, image_sha256 of the rows asked for, ascending

    def content_codes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return equal codes for rows with the same images and conversation, int64 [rows]."""
        part = self._of(rows)
        keys = pc.binary_join_element_wise(part["text_sha256"], pc.binary_join(part["image_sha256"], " "), " ")
        keys = pc.coalesce(keys, pc.cast(part["row"], pa.string()))  # a row whose text has no hash is like no other
        codes: NDArray[np.int64] = keys.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        return codes

    def image_pairs(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the place of a row and the code of an image for every image of every row, int64 [pairs] each."""
        lists = self._of(rows)["image_sha256"].combine_chunks()
        codes = lists.flatten().dictionary_encode().indices.to_numpy(zero_copy_only=False)
        return pc.list_parent_indices(lists).to_numpy().astype(np.int64), codes.astype(np.int64)

    def _of(self, rows: NDArray[np.int64]) -> pa.Table:
        return self._hashed.take(pa.array(np.searchsorted(self._hashed["row"].to_numpy(), rows)))


def read_row_facts(store: RepresentationStore, shards: range, pool_rows: int, hashed: NDArray[np.int64]) -> RowFacts:
    """Read every shard's rows once.

    Parameters
    ----------
    pool_rows
        Number of rows of the pool.
    hashed
        Rows whose hashes are kept, int64.

    Raises
    ------
    DamagedFileError
        If a file of a shard is not what was published.
    """
    counts = {name: np.zeros(pool_rows, dtype=np.int64) for name in ("turns", "images")}
    text_tokens = np.full(pool_rows, -1, dtype=np.int64)  # [pool]
    wanted = np.zeros(pool_rows, dtype=np.bool_)  # [pool]
    wanted[hashed] = True
    recorded, parts = False, []
    for shard in shards:
        known = store.rows(shard, ["row", "text_sha256", "image_sha256", "tokens", "vision_tokens", *counts])
        here = known["row"].to_numpy()  # [shard]
        for name, of_all in counts.items():
            of_all[here] = known[name].to_numpy()
        text = pc.subtract(known["tokens"], known["vision_tokens"])
        text_tokens[here] = pc.fill_null(text, -1).to_numpy()
        recorded = recorded or known["text_sha256"].null_count < known.num_rows
        parts.append(known.select(["row", "text_sha256", "image_sha256"]).filter(pa.array(wanted[here])))
    together = pa.concat_tables(parts).combine_chunks()
    return RowFacts(counts["turns"], counts["images"], text_tokens, recorded, together.sort_by("row"))
