"""What a block of representations must be before it is summed or scored, and what is done to its rows first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.records import DominantSubspace

_CHECKED_AT_ONCE = 8192


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
    for start in range(0, block.shape[0], _CHECKED_AT_ONCE):
        finite = np.isfinite(block[start : start + _CHECKED_AT_ONCE]).all(axis=1)  # [piece]
        if not finite.all():
            raise ValueError(f"row {start + int(np.argmin(finite))} of the block is not finite")


def normalised(block: NDArray[Any]) -> NDArray[np.float64]:
    """Return the rows divided by their norms, float64 [rows, hidden]; a row of zeros stays as it is."""
    rows = block.astype(np.float64)  # [rows, hidden]
    norms = np.linalg.norm(rows, axis=1, keepdims=True)  # [rows, 1]
    np.divide(rows, norms, out=rows, where=norms > 0)
    return rows


def centred(
    block: NDArray[Any], subspace: DominantSubspace, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the rows as the subspace was found from them: ``(x - mean) / scale``, x over its norm where it says so.

    Parameters
    ----------
    block
        Representations, float32 or float64 [rows, hidden].
    out
        Where to put the result, float64 [rows, hidden].

    Returns
    -------
    Float64 [rows, hidden].
    """
    rows = normalised(block) if subspace.normalised_rows else block
    result: NDArray[np.float64] = np.subtract(rows, subspace.mean, out=out, dtype=np.float64)
    if subspace.scale is not None:
        result /= subspace.scale
    return result
