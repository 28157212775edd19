"""Blocks of representations as float64 pieces about an origin, so that memory is one piece whatever the block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PIECE_ROWS = 8192


def check_block(block: NDArray[Any], hidden: int | None = None) -> None:
    """Refuse what is not a block of finite representations.

    Parameters
    ----------
    block
        Representations, float32 or float64 [rows, hidden].
    hidden
        Number of feature dimensions expected; None for any.

    Raises
    ------
    ValueError
        Naming the shape, the number type or the first row that is not finite.
    """
    if block.ndim != 2 or (hidden is not None and block.shape[1] != hidden):  # noqa: PLR2004  a matrix
        wanted = "[rows, hidden]" if hidden is None else f"[rows, {hidden}]"
        raise ValueError(f"a block of representations must be {wanted}: {list(block.shape)}")
    if block.dtype not in (np.float32, np.float64):
        raise ValueError(f"a block of representations must be float32 or float64: {block.dtype}")
    for start in range(0, block.shape[0], PIECE_ROWS):
        finite = np.isfinite(block[start : start + PIECE_ROWS]).all(axis=1)  # [piece]
        if not finite.all():
            raise ValueError(f"row {start + int(np.argmin(finite))} of the block is not finite")


def pieces_about(block: NDArray[Any], origin: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield ``block - origin`` in float64 and C order, at most `PIECE_ROWS` rows at a time.

    Every piece lies in the same memory: it is to be used before the next one is asked for.

    Parameters
    ----------
    block
        Representations, float32 or float64 [rows, hidden].
    origin
        What is subtracted from every row, float64 [hidden].
    """
    buffer = np.empty((min(block.shape[0], PIECE_ROWS), block.shape[1]))  # [piece, hidden]
    for start in range(0, block.shape[0], PIECE_ROWS):
        part = block[start : start + PIECE_ROWS]  # [piece, hidden]
        yield np.subtract(part, origin, out=buffer[: part.shape[0]], dtype=np.float64)
