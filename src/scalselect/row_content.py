"""What the rows of a run hold, as numbers that can be compared: keys of their content, codes of their images."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.representation_store import RepresentationStore

_KEY_BYTES = 16


def content_keys(store: RepresentationStore, shards: range) -> NDArray[np.uint64]:
    """Return a 128-bit key of every row's conversation text and image bytes, uint64 [pool, 2].

    Rows of equal content have equal keys; a row whose content was not hashed has zeros.
    """
    keys = []
    for shard in shards:
        known = store.rows(shard, ["row", "text_sha256", "image_sha256"]).to_pydict()
        digests = [
            bytes(_KEY_BYTES) if text is None else _key(f"{text} {' '.join(images)}")
            for text, images in zip(known["text_sha256"], known["image_sha256"], strict=True)
        ]
        keys.append((np.asarray(known["row"]), np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)))
    return _in_pool_order(keys)


def image_keys(store: RepresentationStore, shards: range) -> NDArray[np.uint64]:
    """Return a 128-bit key of every row's images in their order, uint64 [pool, 2]; zeros where it shows none."""
    keys = []
    for shard in shards:
        known = store.rows(shard, ["row", "image_sha256"]).to_pydict()
        digests = [_key(" ".join(images)) if images else bytes(_KEY_BYTES) for images in known["image_sha256"]]
        keys.append((np.asarray(known["row"]), np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)))
    return _in_pool_order(keys)


def codes_of(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return one number for every different key, int64 [pool]; keys of zeros are like no other."""
    _, codes = np.unique(keys, axis=0, return_inverse=True)  # [pool]
    codes = codes.reshape(-1).astype(np.int64)
    none = ~keys.any(axis=1)  # [pool]
    codes[none] = keys.shape[0] + np.flatnonzero(none)
    return codes


def row_images(store: RepresentationStore, shards: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which images every pool row shows; the same image twice in a row counts once.

    Returns
    -------
    tuple
        Where the codes of each row begin, int64 [pool + 1]; one number for every different image, the codes of each
        row one after another, int64 [shown].
    """
    rows, digests = [], []
    for shard in shards:
        known = store.rows(shard, ["row", "image_sha256"])
        counts = pc.list_value_length(known["image_sha256"]).to_numpy()
        rows.append(np.repeat(known["row"].to_numpy(), counts))
        flat = pc.list_flatten(known["image_sha256"]).to_pylist()
        digests.append(np.array([int(text[:16], 16) for text in flat], dtype=np.uint64))  # 64 of 256 bits
    shown = np.concatenate(rows)  # [shown]
    codes = np.unique(np.concatenate(digests), return_inverse=True)[1]  # [shown]
    pairs = np.unique(np.stack([shown, codes], axis=1), axis=0)  # [shown once, 2]
    pool = sum(store.report(shard).stop - store.report(shard).start for shard in shards)
    return np.searchsorted(pairs[:, 0], np.arange(pool + 1)).astype(np.int64), pairs[:, 1].astype(np.int64)


def _key(content: str) -> bytes:
    return hashlib.blake2b(content.encode(), digest_size=_KEY_BYTES).digest()


def _in_pool_order(parts: list[tuple[NDArray[np.int64], NDArray[np.uint64]]]) -> NDArray[np.uint64]:
    rows = np.concatenate([rows for rows, _ in parts])
    return np.concatenate([keys for _, keys in parts])[np.argsort(rows)]
