"""How the vectors of a shard lie in a file: as they come, or as float16 about the shard's own mean.

The mean of representations is many times their spread, so float16 of raw values would lose the digits that the
spread lives in. Of each vector x is kept ``(x - shift) / scale`` in float16, with ``shift`` the mean of the shard's
vectors rounded to float32 and ``scale`` the power of two that brings the largest deviation to between 2^13 and 2^14:
far from float16's limit of 65504, and as far as possible from the small numbers that have fewer digits.
A row with NaN or infinity says nothing of the mean, and comes back as NaN throughout.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Vectors = NDArray[np.float32] | NDArray[np.float64]

Kind = Literal["representations", "instruction_representations"]
_NAMES = {  # of the tensors: vectors, shift and scale
    "representations": ("representations", "shift", "scale"),
    "instruction_representations": ("instruction_representations", "instruction_shift", "instruction_scale"),
}
_LARGEST_EXPONENT = 14  # of the largest deviation once scaled
_SMALLEST_SCALE = -126  # exponent of the smallest float32 that has all its digits


def encode_vectors(vectors: Vectors, kind: Kind, dtype: str) -> dict[str, NDArray[np.generic]]:
    """Return the tensors that hold some vectors.

    Parameters
    ----------
    vectors
        Float32, or float64 where vectors made elsewhere are, [rows, hidden]; rows may hold NaN or infinity.
    kind
        Decides the tensors' names: `representations`, `shift`, `scale`, or those of the instruction's vectors.
    dtype
        `float32`, which keeps float64 as well, or `float16`.

    Returns
    -------
    Name to tensor: float32 or float64 [rows, hidden] as given, or float16 [rows, hidden], float32 [hidden] and
    float32 [1].

    Raises
    ------
    ValueError
        If `dtype` is neither.
    """
    name, shift_name, scale_name = _NAMES[kind]
    if dtype == "float32":
        # The writer takes the bytes as they lie, whatever the strides.
        kept = np.float64 if vectors.dtype == np.float64 else np.float32
        return {name: np.ascontiguousarray(vectors, dtype=kept)}
    if dtype != "float16":
        raise ValueError(f"vectors are stored as float32 or float16: {dtype!r}")
    wide = np.asarray(vectors, dtype=np.float64)  # [rows, hidden]
    is_finite = np.isfinite(wide).all(axis=1)  # [rows]
    finite = wide[is_finite]  # [finite, hidden]
    # Sums run down the rows, one after the other, so their digits depend on no thread.
    mean = finite.mean(axis=0) if len(finite) else np.zeros(wide.shape[1])  # [hidden]
    shift = mean.astype(np.float32)  # [hidden]
    centre = shift.astype(np.float64)
    largest = float(np.abs(finite - centre).max(initial=0.0))
    exponent = max(math.frexp(largest)[1] - _LARGEST_EXPONENT, _SMALLEST_SCALE) if largest else 0
    deviations = np.full(wide.shape, np.nan, dtype=np.float16)  # [rows, hidden]
    deviations[is_finite] = np.ldexp(finite - centre, -exponent)
    return {name: deviations, shift_name: shift, scale_name: np.array([math.ldexp(1.0, exponent)], dtype=np.float32)}


def decode_vectors(tensors: Mapping[str, NDArray[np.generic]], kind: Kind) -> Vectors | None:
    """Return vectors from the tensors that hold them, or from some of their rows; None where there are none.

    Returns
    -------
    Float32 or float64 [rows, hidden] as stored, or float64 [rows, hidden] put together from float16: that loses no
    digit, but for one rounding of a float64 sum.
    """
    name, shift_name, scale_name = _NAMES[kind]
    stored = tensors.get(name)
    if stored is None or stored.dtype != np.float16:
        return cast("Vectors | None", stored)
    vectors: NDArray[np.float64] = stored.astype(np.float64)  # [rows, hidden]
    vectors *= float(tensors[scale_name][0])
    vectors += tensors[shift_name].astype(np.float64)
    return vectors


def read_vectors(stored: Any, kind: Kind, places: NDArray[np.int64]) -> Vectors | None:
    """Return some vectors of an open safetensors file, read without the others; None where there are none.

    Parameters
    ----------
    stored
        What `safetensors.safe_open(..., framework="numpy")` yields.
    places
        Rows of the tensor, int64 [wanted], at least one.
    """
    name, *beside = _NAMES[kind]
    there = set(stored.keys())
    if name not in there:
        return None
    rows = stored.get_slice(name)
    tensors = {other: stored.get_tensor(other) for other in beside if other in there}
    return decode_vectors({**tensors, name: np.concatenate([rows[int(at) : int(at) + 1] for at in places])}, kind)
