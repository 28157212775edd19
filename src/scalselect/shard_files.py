"""The files of the shards: where they lie, and their bytes held against what the reports say of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import safetensors
from safetensors import safe_open

from scalselect.errors import DamagedFileError
from scalselect.local_copies import local_file
from scalselect.remote_path import as_remote
from scalselect.shard_report import ShardReport, read_report
from scalselect.storage import sha256_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPORT, VECTORS, ROWS = ".json", ".safetensors", ".rows.parquet"
_SHARDS_A_FOLDER = 10_000
_REPEAT = "repeat the `scalselect run`, `represent` or `extend` command that made it"


class ShardFiles:
    """The files of the shards below one folder.

    Parameters
    ----------
    folder
        The `representations` folder of a run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, shard: int, suffix: str) -> Path:
        """Return where a file of a shard lies; `suffix` is REPORT, VECTORS or ROWS."""
        folder = self.folder
        if shard >= _SHARDS_A_FOLDER:
            folder /= f"{shard // _SHARDS_A_FOLDER:05d}"
        return folder / f"shard-{shard:07d}{suffix}"

    def remove(self, shard: int) -> None:
        """Delete a shard, its report first, so that what is left of it counts for nothing."""
        for suffix in (REPORT, VECTORS, ROWS):
            self.path(shard, suffix).unlink(missing_ok=True)

    def report(self, shard: int) -> ShardReport:
        """Return the report of a published shard. Raises DamagedFileError."""
        path = self.path(shard, REPORT)
        try:
            return read_report(path.read_bytes())
        except FileNotFoundError as error:
            raise DamagedFileError(f"shard {shard} is not represented: {path}; {_REPEAT}") from error
        except ValueError as error:
            raise DamagedFileError(f"shard report cannot be read: {path} ({error}); {_remedy(path)}") from error

    def read(self, shard: int, suffix: str) -> bytes:
        """Return a file of a shard, held against the report: neither format notices a flipped bit by itself.

        Raises
        ------
        DamagedFileError
            If it is missing, or not what was published.
        """
        path = self.path(shard, suffix)
        expected = self.report(shard).files.get(path.name, {})
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise DamagedFileError(f"shard file is missing: {path}; {_remedy(self.path(shard, REPORT))}") from error
        if sha256_of_bytes(content) != expected.get("sha256"):
            raise DamagedFileError(
                f"shard file is not what was published: {path} ({len(content):,} bytes, {expected.get('bytes')} were "
                f"published, or its sha256 differs); {_remedy(self.path(shard, REPORT))}"
            )
        return content

    @contextlib.contextmanager
    def opened_vectors(self, shard: int) -> Iterator[Any]:
        """Yield the vectors of a shard, to read a part of them. Raises DamagedFileError."""
        path = self.path(shard, VECTORS)
        try:
            with local_file(path) as local, safe_open(local, framework="numpy") as stored:
                yield stored
        except (OSError, safetensors.SafetensorError) as error:
            if as_remote(path) is not None and isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                raise  # of the store, not of this file
            raise DamagedFileError(
                f"shard file is missing or damaged: {path} ({error}); {_remedy(self.path(shard, REPORT))}"
            ) from error


def _remedy(report: Path) -> str:
    return f"delete {report}, then {_REPEAT}"
