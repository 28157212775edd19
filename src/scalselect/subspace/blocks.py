"""What a block of representations must be before it is summed or scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
