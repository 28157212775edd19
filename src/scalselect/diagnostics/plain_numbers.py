"""Numbers as JSON knows them: no numpy types, and null for what is not a finite number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return the same content in the types of JSON.

    Parameters
    ----------
    value
        Dicts, lists, tuples, arrays, numbers, strings and None, nested in any way.

    Returns
    -------
    Dicts with string keys, lists, and plain values; NaN and infinity become None, lone surrogates, which UTF-8 does
    not know, question marks.
    """
    if isinstance(value, dict):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return value
