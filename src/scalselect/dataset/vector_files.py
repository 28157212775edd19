"""Vectors made elsewhere: one file, opened by the ending of its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scalselect.dataset.vector_arrays import ArrayVectors
from scalselect.dataset.vector_tables import TableVectors
from scalselect.errors import DatasetError, OptionError
from scalselect.hub_locations import pinned
from scalselect.local_copies import local_copy
from scalselect.remote_files import is_remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from scalselect.dataset.vector_arrays import VectorFile

_OPENED_BY: dict[str, Callable[[Path], VectorFile]] = {
    ".npy": ArrayVectors.from_npy,
    ".parquet": TableVectors,
    ".safetensors": ArrayVectors.from_safetensors,
}


def open_vectors(path: str | Path) -> VectorFile:
    """Open a file of vectors, one a row: ``X.npy``, ``X.parquet`` or ``X.safetensors``; of a URL a local copy.

    A .npy file holds one matrix [rows, hidden]; a safetensors file a tensor `representations`, or one matrix alone,
    and if wanted `instruction_representations`; a Parquet file one column of lists (`representations` where there are
    several, `instruction_representations` beside it), or one column a dimension, and if wanted a column `id`.

    Raises
    ------
    OptionError
        If the name ends otherwise.
    DatasetError
        If there is no such file, or it does not hold such vectors: not floating-point, not a matrix, no rows, short
        or missing vectors, or several things that may be meant.
    """
    if isinstance(path, str) and is_remote(path):
        return _open_remote(path)
    path = Path(path)
    opener = _OPENED_BY.get(path.suffix.lower())
    if opener is None:
        raise OptionError(
            f"representations must be a file that ends in {', '.join(_OPENED_BY)}: {path} (for example "
            "numpy.save('X.npy', X), X float32 [rows, hidden])"
        )
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise DatasetError(f"file of representations {problem}: {path}")
    try:
        return opener(path)
    except OSError as error:
        raise DatasetError(f"vectors cannot be read: {path} ({error.strerror})") from error


def _open_remote(location: str) -> VectorFile:
    try:
        copy = local_copy(pinned(location))
    except FileNotFoundError as error:
        raise DatasetError(f"file of representations does not exist: {location} ({error.strerror})") from None
    except OSError as error:
        raise DatasetError(f"vectors cannot be read: {location} ({error.strerror})") from error
    try:
        return open_vectors(copy)
    except (DatasetError, OptionError) as error:
        raise type(error)(str(error).replace(str(copy), location)) from error
