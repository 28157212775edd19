"""Vectors made elsewhere that lie in one piece of a file: NumPy's .npy and safetensors, read by range of rows."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.lib import format as npy_format
from safetensors import SafetensorError, safe_open

from scalselect.errors import DataChangedError, DatasetError
from scalselect.storage import sha256_of_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.records import IdType

REPRESENTATIONS = "representations"
INSTRUCTION_REPRESENTATIONS = "instruction_representations"

_WANTED = "wanted: float16, float32 or float64 [rows, hidden]"
_BFLOAT16 = "BF16"
_SAFETENSORS_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", _BFLOAT16: "<u2"}  # bfloat16 is read as its bits


class VectorFile(ABC):
    """One vector a row in a file, read by range of rows; never more of it in memory than was asked for.

    Attributes
    ----------
    path
        The file.
    rows, hidden
        Number of vectors, and of their dimensions.
    dtype
        What `read` returns: float64 where the file holds float64, else float32, which holds every value of the
        shorter types exactly.
    has_instruction
        The file holds a second vector of every row.
    ignored
        Names of columns or tensors that were not read.
    """

    path: Path
    rows: int
    hidden: int
    dtype: np.dtype[Any]
    has_instruction: bool = False
    ignored: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version = _version_of(path)

    def fingerprint(self) -> dict[str, str | int]:
        """Return `sha256` and number of `bytes` of the file. Raises DataChangedError where it changed meanwhile."""
        found: dict[str, str | int] = {"sha256": sha256_of_file(self.path), "bytes": self.path.stat().st_size}
        self.check_unchanged()
        return found

    def check_unchanged(self) -> None:
        """Raise DataChangedError where the file is no longer the one that was opened."""
        try:
            unchanged = _version_of(self.path) == self._version
        except OSError as error:
            raise DataChangedError(f"vectors changed while they were read: {self.path} ({error.strerror})") from error
        if not unchanged:
            raise DataChangedError(
                f"vectors changed while they were read: {self.path} (another size or time of change than at the "
                "beginning); begin again in another folder"
            )

    def ids(self, start: int, stop: int) -> list[tuple[str | None, IdType]]:
        """Return id and type of id of rows [start, stop): those of the file, or that there are none."""
        return [(None, "absent")] * (stop - start)

    @abstractmethod
    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the vectors of rows [start, stop), float32 or float64 [stop - start, hidden], a copy."""

    @abstractmethod
    def read_instruction(self, start: int, stop: int) -> NDArray[Any] | None:
        """Return the second vectors of rows [start, stop), as `read` does; None where the file has none."""


@dataclass(frozen=True, slots=True)
class _PlacedMatrix:
    """Where a matrix lies in a file. `is_bfloat16`: its elements are the upper halves of float32 numbers."""

    dtype: np.dtype[Any]
    shape: tuple[int, int]
    offset: int
    order: Literal["C", "F"] = "C"
    is_bfloat16: bool = False

    def read(self, path: Path, start: int, stop: int) -> NDArray[Any]:
        # Mapped anew for every read: pages of a mapping that stays would count as memory of this process.
        mapped = np.memmap(path, self.dtype, mode="r", offset=self.offset, shape=self.shape, order=self.order)
        part = mapped[start:stop]  # [part, hidden]
        if self.is_bfloat16:
            return (part.astype(np.uint32) << 16).view(np.float32)
        return np.array(part, dtype=read_as(part.dtype), order="C", subok=False)


class ArrayVectors(VectorFile):
    """Vectors of a .npy or .safetensors file; open them with `from_npy` or `from_safetensors`."""

    def __init__(
        self,
        path: Path,
        matrix: _PlacedMatrix,
        instruction: _PlacedMatrix | None = None,
        ignored: tuple[str, ...] = (),
    ) -> None:
        super().__init__(path)
        check_shape(path, matrix.shape)
        self._matrix, self._instruction = matrix, instruction
        self.rows, self.hidden = matrix.shape
        self.dtype = np.dtype(np.float32) if matrix.is_bfloat16 else read_as(matrix.dtype)
        self.has_instruction = instruction is not None
        self.ignored = ignored

    @classmethod
    def from_npy(cls, path: Path) -> Self:
        """Open the array of a .npy file. Raises DatasetError."""
        try:
            array = npy_format.open_memmap(path, mode="r")
        except (ValueError, EOFError) as error:
            raise DatasetError(f"vectors cannot be read: {path} ({error}; {_WANTED})") from error
        check_dtype(path, array.dtype)
        if array.ndim != 2:  # noqa: PLR2004  a matrix
            raise DatasetError(
                f"vectors must be a matrix: {path} holds an array of shape {list(array.shape)} ({_WANTED})"
            )
        check_shape(path, array.shape)
        order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
        return cls(path, _PlacedMatrix(array.dtype, array.shape, array.offset, order))

    @classmethod
    def from_safetensors(cls, path: Path) -> Self:
        """Open the tensor `representations` of a safetensors file, or its only matrix. Raises DatasetError."""
        tensors = _headers(path)
        matrices = [name for name, header in tensors.items() if len(header["shape"]) == 2]  # noqa: PLR2004  a matrix
        chosen = [name for name in matrices if name != INSTRUCTION_REPRESENTATIONS]
        shown = ", ".join(f"{name} {header['dtype']} {header['shape']}" for name, header in sorted(tensors.items()))
        if REPRESENTATIONS in tensors:
            chosen = [REPRESENTATIONS]
        if len(chosen) != 1:
            raise DatasetError(
                f"vectors must be one tensor named `{REPRESENTATIONS}`, or the only matrix: {path} holds "
                f"{shown or 'no tensor'} ({_WANTED})"
            )
        matrix = _placed(path, chosen[0], tensors)
        instruction = None
        if INSTRUCTION_REPRESENTATIONS in tensors:
            instruction = _placed(path, INSTRUCTION_REPRESENTATIONS, tensors)
            if instruction.shape != matrix.shape:
                raise DatasetError(
                    f"both vectors of a row must have the same dimensions: {path} holds {chosen[0]} "
                    f"{list(matrix.shape)} and {INSTRUCTION_REPRESENTATIONS} {list(instruction.shape)}"
                )
        read = {chosen[0], INSTRUCTION_REPRESENTATIONS}
        return cls(path, matrix, instruction, tuple(sorted(set(tensors) - read)))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the vectors of rows [start, stop), float32 or float64 [stop - start, hidden], a copy."""
        return self._matrix.read(self.path, start, stop)

    def read_instruction(self, start: int, stop: int) -> NDArray[Any] | None:
        """Return the second vectors of rows [start, stop), as `read` does; None where the file has none."""
        return None if self._instruction is None else self._instruction.read(self.path, start, stop)


def read_as(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the number type in which numbers of this type are computed with: float64, or float32."""
    return np.dtype(np.float64 if dtype.itemsize == np.dtype(np.float64).itemsize else np.float32)


def check_dtype(path: Path, dtype: Any, where: str = "") -> None:
    """Raise DatasetError where numbers of this NumPy type are no vectors."""
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise DatasetError(f"vectors must be floating-point numbers: {path} holds {dtype}{where} ({_WANTED})")


def check_shape(path: Path, shape: tuple[int, ...]) -> None:
    """Raise DatasetError where there are no rows, or no dimensions."""
    if 0 in shape:
        raise DatasetError(f"vectors must have at least one row and one dimension: {path} holds {list(shape)}")


def _headers(path: Path) -> dict[str, dict[str, Any]]:
    """Return number type, shape and place of every tensor of a safetensors file. Raises DatasetError."""
    try:
        with safe_open(path, framework="numpy"):  # checks header and places
            pass
    except SafetensorError as error:
        raise DatasetError(f"vectors cannot be read: {path} ({error}; {_WANTED})") from error
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        headers: dict[str, dict[str, Any]] = json.loads(stream.read(length))
    headers.pop("__metadata__", None)
    for header in headers.values():
        header["offset"] = 8 + length + header["data_offsets"][0]
    return headers


def _placed(path: Path, name: str, tensors: dict[str, dict[str, Any]]) -> _PlacedMatrix:
    header = tensors[name]
    if header["dtype"] not in _SAFETENSORS_TYPES:
        raise DatasetError(
            f"vectors must be floating-point numbers: {path} holds {header['dtype']} in {name} ({_WANTED})"
        )
    if len(header["shape"]) != 2:  # noqa: PLR2004  a matrix
        raise DatasetError(f"vectors must be a matrix: {path} holds {name} of shape {header['shape']} ({_WANTED})")
    rows, hidden = header["shape"]
    dtype = np.dtype(_SAFETENSORS_TYPES[header["dtype"]])
    return _PlacedMatrix(dtype, (rows, hidden), header["offset"], is_bfloat16=header["dtype"] == _BFLOAT16)


def _version_of(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
