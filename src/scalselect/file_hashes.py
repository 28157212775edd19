"""The SHA-256 of local files, worked out once as long as nobody writes to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalselect.storage import sha256_of_file

if TYPE_CHECKING:
    from pathlib import Path


class FileHashes:
    """Hashes that were worked out by this process."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}  # what each file was, and its hash

    def of(self, path: Path) -> str:
        """Return the hash of a file as it is now. Raises FileNotFoundError."""
        found = path.stat()
        state = found.st_ino, found.st_size, found.st_mtime_ns
        known = self._known.get(path)
        if known is None or known[0] != state:
            known = self._known[path] = state, sha256_of_file(path)
        return known[1]
