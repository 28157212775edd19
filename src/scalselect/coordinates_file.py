"""The whitened coordinates of all scored rows on disk: `coordinates.safetensors`, written row by row, read by mapping.

They are what strategies and diagnostics look at, a small part of the vectors' own size.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from scalselect.local_copies import local_copy
from scalselect.remote_path import as_remote
from scalselect.representation_store import METADATA_KEY
from scalselect.storage import publish_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}


@dataclass(frozen=True, slots=True, eq=False)
class Coordinates:
    """Whitened coordinates of the scored rows, in pool order; arrays mapped from the file.

    Attributes
    ----------
    rows
        Pool positions, ascending, int64 [scored].
    norms
        Length of each centred vector, float32 [scored].
    vision
        ``(x - mean) V_k diag(1/s)``, the rows of U_k, float32 [scored, k].
    instruction
        The same of the instruction vectors, zeros where a row has none, float32 [scored, k']; None where the run has
        none.
    """

    rows: NDArray[np.int64]
    norms: NDArray[np.float32]
    vision: NDArray[np.float32]
    instruction: NDArray[np.float32] | None


class CoordinatesWriter:
    """Writes parts of the tensors to where they belong in the file."""

    def __init__(self, stream: IO[bytes], rows: NDArray[np.int64], begins: Mapping[str, int]) -> None:
        self._stream = stream
        self._rows = rows
        self._begins = begins

    def write(self, name: str, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Write the values of some rows.

        Parameters
        ----------
        name
            `norms`, `vision` or `instruction`.
        rows
            Their pool positions, ascending, int64 [part].
        values
            [part] or [part, k]; written as float32.
        """
        places = np.searchsorted(self._rows, rows)  # [part]
        content = np.ascontiguousarray(values, dtype="<f4")
        stride = content[:1].nbytes
        # Neighbours in the file are written at once: all of a shard, unless work went in the order of images.
        for run in np.split(np.arange(rows.size), np.flatnonzero(np.diff(places) != 1) + 1):
            if run.size:
                self._stream.seek(self._begins[name] + int(places[run[0]]) * stride)
                self._stream.write(content[run[0] : run[-1] + 1].tobytes())


@contextlib.contextmanager
def writing_coordinates(
    path: Path, rows: NDArray[np.int64], ranks: Mapping[str, int], inputs: Mapping[str, Any]
) -> Iterator[CoordinatesWriter]:
    """Yield a writer of a file that appears, whole, when the block ends; what is not written is zero.

    Parameters
    ----------
    rows
        Pool positions of all scored rows, ascending, int64 [scored].
    ranks
        Number of dimensions of `vision` and, where there is one, of `instruction`.
    inputs
        What the coordinates were made from, kept with them.
    """
    shapes = {"rows": [rows.size], "norms": [rows.size], **{name: [rows.size, k] for name, k in ranks.items()}}
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: json.dumps({"inputs": inputs}, sort_keys=True)}}
    end = 0
    for name, shape in shapes.items():
        kind = "I64" if name == "rows" else "F32"
        begin, end = end, end + int(np.prod(shape)) * _DTYPES[kind].itemsize
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # so that the numbers begin at a multiple of their size
    first = 8 + len(encoded)
    with publish_stream(path) as stream:
        stream.write(len(encoded).to_bytes(8, "little") + encoded + rows.astype("<i8").tobytes())
        stream.truncate(first + end)
        begins = {name: first + header[name]["data_offsets"][0] for name in shapes}
        yield CoordinatesWriter(stream, rows, begins)


def read_coordinates(path: Path) -> Coordinates:
    """Map a file of coordinates; of a remote one a copy, kept until the process ends. Raises FileNotFoundError."""
    if as_remote(path) is not None:
        path = local_copy(str(path))
    header, first = _header(path)
    arrays = {name: _mapped(path, facts, first) for name, facts in header.items() if name != "__metadata__"}
    return Coordinates(arrays["rows"], arrays["norms"], arrays["vision"], arrays.get("instruction"))


def _header(path: Path) -> tuple[dict[str, Any], int]:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"no file of coordinates: {path}")
        return json.loads(stream.read(length)), 8 + length


def _mapped(path: Path, facts: Mapping[str, Any], first: int) -> NDArray[Any]:
    shape = tuple(facts["shape"])
    if 0 in shape:  # nothing can be mapped
        return np.empty(shape, dtype=_DTYPES[facts["dtype"]])
    return np.memmap(path, _DTYPES[facts["dtype"]], "r", first + facts["data_offsets"][0], shape)
