"""Numbers as the page's scripts read them: the bytes of an array in base64, exact and compact."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAMES = {"<f8": "f64", "<f4": "f32", "<u4": "u32", "<u2": "u16", "|u1": "u8", "<i4": "i32"}


def encoded(values: NDArray[Any]) -> dict[str, Any]:
    """Return an array as a value of JSON, ``{"type": "f32", "shape": [...], "bytes": "..."}``.

    Parameters
    ----------
    values
        Of dtype float64, float32, uint32, uint16, uint8 or int32.

    Raises
    ------
    ValueError
        For any other dtype.
    """
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    if little.dtype.str not in _NAMES:
        raise ValueError(f"arrays of this type are not read by the page: {values.dtype}")
    content = base64.b64encode(np.ascontiguousarray(little).tobytes()).decode()
    return {"type": _NAMES[little.dtype.str], "shape": list(values.shape), "bytes": content}
