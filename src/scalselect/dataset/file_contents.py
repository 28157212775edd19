"""What data files hold, taken as bytes: how one begins, and the hash that a data set of several is known by."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from scalselect.errors import DataChangedError
from scalselect.storage import sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def begins_with(path: Path, beginning: bytes) -> bool:
    """Tell whether a file can be read and begins with some bytes."""
    try:
        if not path.is_file():  # a pipe could be read only once
            return False
        with path.open("rb") as stream:
            return stream.read(len(beginning)) == beginning
    except (OSError, ValueError):  # what opens it will say why; a NUL byte
        return False


def sha256_of_files(paths: Sequence[Path]) -> str:
    """Return the hexadecimal SHA-256 of a file; of several, that of one line for each in their order.

    A line is `SHA256 SIZE` and a line feed. Raises DataChangedError where a file is gone.
    """
    try:
        hashes = [sha256_of_file(path) for path in paths]
        lines = [f"{sha256} {path.stat().st_size}\n" for sha256, path in zip(hashes, paths, strict=True)]
    except OSError as error:
        raise DataChangedError(f"data file cannot be read any more: {error.filename} ({error.strerror})") from error
    return hashes[0] if len(paths) == 1 else hashlib.sha256("".join(lines).encode()).hexdigest()
