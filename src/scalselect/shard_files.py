"""The files of the shards: where they lie, and their bytes held against what the reports say of them."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import safetensors
from safetensors import safe_open

from scalselect.errors import DamagedShardError
from scalselect.file_hashes import FileHashes
from scalselect.local_copies import local_file
from scalselect.remote_path import as_remote
from scalselect.shard_report import ShardReport, read_report
from scalselect.storage import sha256_of_bytes, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPORT, VECTORS, ROWS = ".json", ".safetensors", ".rows.parquet"
_SHARDS_A_FOLDER = 10_000
_REPORT_NAME = re.compile(r"shard-([0-9]{7,})\.json")
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
        self._hashes = FileHashes()

    def path(self, shard: int, suffix: str) -> Path:
        """Return where a file of a shard lies; `suffix` is REPORT, VECTORS or ROWS."""
        folder = self.folder
        if shard >= _SHARDS_A_FOLDER:
            folder /= f"{shard // _SHARDS_A_FOLDER:05d}"
        return folder / f"shard-{shard:07d}{suffix}"

    def missing(self, shards: range) -> tuple[int, int | None]:
        """Return how many of some shards have no report, and the number of the first one; None where all have one.

        Folders are listed, so that it takes as long as there are reports, however many shards a run.json tells of.
        """
        published = self.published(shards)
        first = next((shard for shard in shards if shard not in published), None)
        return len(shards) - len(published), first

    def published(self, shards: range) -> set[int]:
        """Return those of some shards that have a report, from listings of the folders."""
        return {shard for shard in self._published() if shard in shards}

    def _published(self) -> Iterator[int]:
        folders = [self.folder]
        for folder in folders:
            try:
                entries = list(folder.iterdir())
            except FileNotFoundError:
                continue
            for entry in entries:
                if (found := _REPORT_NAME.fullmatch(entry.name)) is not None:
                    yield int(found[1])
                elif folder is self.folder and re.fullmatch("[0-9]{5,}", entry.name):
                    folders.append(entry)

    def remove(self, shard: int) -> None:
        """Delete a shard, its report first, so that what is left of it counts for nothing."""
        for suffix in (REPORT, VECTORS, ROWS):
            self.path(shard, suffix).unlink(missing_ok=True)

    def report(self, shard: int) -> ShardReport:
        """Return the report of a published shard. Raises DamagedShardError."""
        path = self.path(shard, REPORT)
        try:
            return read_report(path.read_bytes(), shard)
        except FileNotFoundError as error:
            raise DamagedShardError(f"shard {shard} is not represented: {path}; {_REPEAT}", shard) from error
        except ValueError as error:
            raise DamagedShardError(f"shard report cannot be read: {path} ({error}); {_remedy(path)}", shard) from error

    def fault(self, shard: int, span: range, *, contents: bool) -> str | None:
        """Tell in words what is wrong with a shard; None where nothing is, or it is not published.

        Parameters
        ----------
        span
            The rows, or places, that the shard is to hold.
        contents
            Whether its files are read and held against their hashes; else only their sizes are.

        Raises
        ------
        OSError
            If the disk or store cannot be read, which says nothing of the shard.
        """
        path = self.path(shard, REPORT)
        try:
            report = read_report(path.read_bytes(), shard)
        except FileNotFoundError:
            return None
        except ValueError as error:
            return f"{path.name} cannot be read ({error})"
        if (report.start, report.stop) != (span.start, span.stop):
            return f"{path.name} is of rows {report.start} to {report.stop}, not {span.start} to {span.stop}"
        for suffix in (VECTORS, ROWS):
            told = self._fault_of_file(self.path(shard, suffix), report, contents=contents)
            if told is not None:
                return told
        return None

    def read(self, shard: int, suffix: str) -> bytes:
        """Return a file of a shard, held against the report: neither format notices a flipped bit by itself.

        Raises
        ------
        DamagedShardError
            If it is missing, or not what was published.
        """
        path = self.path(shard, suffix)
        expected = self.report(shard).files.get(path.name, {})
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise self._missing(shard, path) from error
        if sha256_of_bytes(content) != expected.get("sha256"):
            raise self._other(shard, path, len(content), expected.get("bytes"))
        return content

    @contextlib.contextmanager
    def opened_vectors(self, shard: int) -> Iterator[Any]:
        """Yield the vectors of a shard, to read a part of them; the file is held against its hash once a process.

        Raises
        ------
        DamagedShardError
            If it is missing, or not what was published.
        """
        path = self.path(shard, VECTORS)
        try:
            with local_file(path) as local:
                expected = self.report(shard).files.get(path.name, {})
                if self._hashes.of(local) != expected.get("sha256"):
                    raise self._other(shard, path, local.stat().st_size, expected.get("bytes"))
                with safe_open(local, framework="numpy") as stored:
                    yield stored
        except FileNotFoundError as error:
            raise self._missing(shard, path) from error
        except safetensors.SafetensorError as error:
            raise DamagedShardError(f"shard file cannot be read: {path} ({error}); {self._remedy(shard)}", shard) from (
                error
            )

    def _fault_of_file(self, path: Path, report: ShardReport, *, contents: bool) -> str | None:
        published = report.files.get(path.name)
        if published is None:
            return f"the report does not tell of {path.name}"
        try:
            longer = path.stat().st_size - published["bytes"]
            if not longer and (not contents or self._hash(path) == published["sha256"]):
                return None
        except FileNotFoundError:
            return f"{path.name} is missing"
        if longer:
            return f"{path.name} is {abs(longer):,} bytes {'longer' if longer > 0 else 'shorter'} than published"
        return f"{path.name} is not what was published: its sha256 differs"

    def _hash(self, path: Path) -> str:
        return sha256_of_file(path) if as_remote(path) is not None else self._hashes.of(path)

    def _missing(self, shard: int, path: Path) -> DamagedShardError:
        return DamagedShardError(f"shard file is missing: {path}; {self._remedy(shard)}", shard)

    def _other(self, shard: int, path: Path, size: int, published: int | None) -> DamagedShardError:
        return DamagedShardError(
            f"shard file is not what was published: {path} ({size:,} bytes, {published} were published, or its sha256 "
            f"differs); {self._remedy(shard)}",
            shard,
        )

    def _remedy(self, shard: int) -> str:
        return _remedy(self.path(shard, REPORT))


def _remedy(report: Path) -> str:
    return f"delete {report}, then {_REPEAT}"
