"""The run folder: names of its files, run.json and its keys, subspace, scores and selection on disk.

Writing order within a stage is fixed, and the file that says "this stage is done" comes last: a stage whose last
file is missing, or was made from other inputs, is done again.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from scalselect.coordinates_file import inputs_of_coordinates
from scalselect.errors import RunFolderError
from scalselect.printable import printable
from scalselect.remote_files import WRITABLE
from scalselect.remote_path import as_remote, path_of
from scalselect.representation_store import METADATA_KEY, RepresentationStore
from scalselect.row_tables import table_bytes, table_from_bytes
from scalselect.segments import segments_of
from scalselect.storage import (
    TEMPORARY_MARK,
    claimed,
    create_exclusive,
    publish_bytes,
    remove_tree,
    sha256_of_file,
)
from scalselect.subspace_file import read_facts, read_subspace, write_subspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from scalselect.records import DominantSubspace
    from scalselect.remote_path import RemotePath

_TRIAL = ".trial"  # of writing

SCORES_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("id_type", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("leverage_score", pa.float64()),
        pa.field("rank", pa.int64()),
        pa.field("selected", pa.bool_()),
        pa.field("stratum", pa.string()),
    ]
)


class RunFolder:
    """One run folder.

    Parameters
    ----------
    path
        The folder, local or a URL such as ``s3://bucket/run``; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path_of(path)
        self.store = RepresentationStore(self.path / "representations")
        self.run_json = self.path / "run.json"
        self.subspace = self.path / "subspace.safetensors"
        self.instruction_subspace = self.path / "instruction_subspace.safetensors"
        self.coordinates = self.path / "coordinates.safetensors"
        self.scores = self.path / "scores.parquet"
        self.selection = self.path / "selection.json"
        self.selections = self.path / "selections"
        self.diagnostics = self.path / "diagnostics.json"
        self.guide = self.path / "how_to_train.md"
        self.exported = self.path / "exported"
        self.claim = self.path / ".claim"

    def check_usable(self) -> None:
        """Raise RunFolderError where the folder cannot become, or is not, a run folder. Leaves nothing written."""
        remote = as_remote(self.path)
        if remote is not None:
            _check_remote_folder(remote)
            return
        if "\0" in str(self.path):
            raise RunFolderError(f"output is no possible name of a folder: {str(self.path)!r}")
        if self.run_json.exists():
            if not os.access(self.path, os.W_OK):
                raise RunFolderError(f"run folder cannot be written: {self.path}")
            return
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"output is a file, a folder is wanted: {self.path}")
        if self.path.is_dir() and any(TEMPORARY_MARK not in entry.name for entry in self.path.iterdir()):
            raise RunFolderError(
                f"output folder holds files but no run.json: {self.path}; give a new or empty folder, or that of a run"
            )
        parent = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        if not parent.is_dir():
            raise RunFolderError(f"output folder cannot be created: {self.path} ({parent} is a file)")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise RunFolderError(f"output folder cannot be created: {self.path} ({parent} is not writable)")

    def read(self) -> dict[str, Any] | None:
        """Return run.json, or None where there is none yet. Raises RunFolderError where it is damaged."""
        try:
            content = json.loads(self.run_json.read_bytes())
            for name in ("rows", "shard_size", "threads"):
                int(content["represent"][name])
            content["data"]["path"]
            segments_of(content)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RunFolderError(f"run.json cannot be read: {self.run_json} ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise RunFolderError(
                f"run.json is damaged: {self.run_json} ({error}); restore it, or begin again in another folder"
            ) from error
        return dict(content)

    def require(self) -> dict[str, Any]:
        """Return run.json of an existing run. Raises RunFolderError where this is no run folder."""
        content = self.read()
        if content is None:
            raise RunFolderError(f"not a run folder, it holds no run.json: {self.path}; `scalselect run` makes one")
        return content

    def create(self, content: Mapping[str, Any]) -> None:
        """Write run.json unless somebody else just did; then theirs must say the same. Raises RunFolderError."""
        encoded = _json_bytes(content)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            created = create_exclusive(self.run_json, encoded)
        except OSError as error:
            raise RunFolderError(f"output folder cannot be written: {self.path} ({error.strerror})") from error
        if not created:
            refuse_other_keys(self.require()["represent"], content["represent"], self.path)

    def update(self, **groups: Any) -> None:
        """Replace whole groups of run.json, atomically."""
        content = self.require()
        if any(content.get(name) != value for name, value in groups.items()):
            publish_bytes(self.run_json, _json_bytes({**content, **groups}))

    @contextlib.contextmanager
    def claimed(self, on_wait: Callable[[str], None] = lambda _holder: None) -> Iterator[None]:
        """Score or select alone: others wait for the end of the block. Raises RunFolderError where it is read-only."""
        self.check_usable()
        with claimed(self.claim, on_wait):
            yield

    def write_subspace(self, subspace: DominantSubspace, inputs: Mapping[str, Any]) -> None:
        """Write `subspace.safetensors`; see `scalselect.subspace_file`."""
        write_subspace(self.subspace, subspace, inputs)

    def write_instruction_subspace(self, subspace: DominantSubspace | None, inputs: Mapping[str, Any]) -> None:
        """Write `instruction_subspace.safetensors`, or remove it where there is no such subspace."""
        if subspace is None:
            self.instruction_subspace.unlink(missing_ok=True)
        else:
            write_subspace(self.instruction_subspace, subspace, inputs)

    def read_subspace(self) -> DominantSubspace:
        """Return the dominant subspace as written. Raises RunFolderError where there is none."""
        subspace = read_subspace(self.subspace)
        if subspace is None:
            raise RunFolderError(f"no scores yet: {self.path}; `scalselect score {self.path}` makes them")
        return subspace

    def read_instruction_subspace(self) -> DominantSubspace | None:
        """Return the subspace of the instruction vectors; None where there is none."""
        return read_subspace(self.instruction_subspace)

    def write_scores(self, table: pa.Table, inputs: Mapping[str, Any]) -> None:
        """Write `scores.parquet`, remembering what it was made from."""
        metadata = {METADATA_KEY: json.dumps(inputs, sort_keys=True)}
        publish_bytes(self.scores, table_bytes(table.replace_schema_metadata(metadata)))

    def read_scores(self) -> pa.Table:
        """Return `scores.parquet`. Raises RunFolderError where there is none."""
        try:
            return table_from_bytes(self.scores.read_bytes())
        except FileNotFoundError:
            raise RunFolderError(f"no scores yet: {self.path}; `scalselect score {self.path}` makes them") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise RunFolderError(
                f"scores.parquet cannot be read: {self.scores} ({error}); delete it and run "
                f"`scalselect score {self.path}`"
            ) from error

    def has_scores_from(self, inputs: Mapping[str, Any]) -> bool:
        """Tell whether subspace and scores are there and were made from these inputs."""
        return self.inputs_of_scores() == inputs

    def inputs_of_scores(self) -> dict[str, Any] | None:
        """Return what the scores were made from; None where there are none, or the files beside them do not match."""
        facts = read_facts(self.subspace)
        try:
            with self.scores.open("rb") as stream:
                metadata = pq.read_schema(stream).metadata or {}
        except (FileNotFoundError, pa.ArrowInvalid):
            return None
        inputs = json.loads(metadata.get(METADATA_KEY.encode(), b"null"))
        if facts is None or not isinstance(inputs, dict) or facts.get("inputs") != inputs:
            return None
        instruction = read_facts(self.instruction_subspace)
        if inputs_of_coordinates(self.coordinates) != inputs or (instruction and instruction.get("inputs") != inputs):
            return None
        return inputs

    def write_selection(self, content: Mapping[str, Any]) -> None:
        """Write `selection.json`: last of all, so that it vouches for the other files."""
        write_json(self.selection, content)

    def read_selection(self, budget: str | None = None) -> dict[str, Any]:
        """Return `selection.json`, of a budget beside the first its own. Raises RunFolderError: none, or damaged."""
        path = self.selection if budget is None else self.selections / budget / self.selection.name
        try:
            return dict(json.loads(path.read_bytes()).items())
        except FileNotFoundError:
            raise RunFolderError(f"nothing was selected yet: {self.path}") from None
        except (ValueError, AttributeError) as error:
            raise RunFolderError(f"selection.json is damaged: {path} ({error}); delete it") from error

    def forget_selection(self) -> None:
        """Remove a choice that no longer stands: first the file that vouches for it, then all it vouched for."""
        self.selection.unlink(missing_ok=True)
        self.diagnostics.unlink(missing_ok=True)
        self.guide.unlink(missing_ok=True)
        for ending in ("json", "jsonl", "json.gz", "jsonl.gz", "parquet", "arrow", "tar"):
            (self.path / f"selected.{ending}").unlink(missing_ok=True)
        (self.path / "selected_rows.parquet").unlink(missing_ok=True)
        for subsets in (self.path / "selected", self.selections, self.exported):
            remove_tree(subsets)

    def has_selection_from(self, inputs: Mapping[str, Any]) -> bool:
        """Tell whether a finished selection with these inputs is there, its files untouched."""
        if not self.selection.exists():
            return False
        content = self.read_selection()
        if content.get("inputs") != inputs:
            return False
        files = content.get("files", {})
        return bool(files) and all(
            (self.path / name).is_file() and sha256_of_file(self.path / name) == sha256
            for name, sha256 in files.items()
        )


def _check_remote_folder(folder: RemotePath) -> None:
    """Raise RunFolderError where the folder cannot become, or is not, a run folder in an object store."""
    if folder.protocol not in WRITABLE:
        known = " and ".join(f"{name}://" for name in WRITABLE)
        raise RunFolderError(f"run folder cannot lie there: {folder} (wanted: a local folder, or one in {known})")
    try:
        if not (folder / "run.json").exists():
            if folder.is_file():
                raise RunFolderError(f"output is a file, a folder is wanted: {folder}")
            if folder.is_dir() and any(entry.name != _TRIAL for entry in folder.iterdir()):
                raise RunFolderError(
                    f"output folder holds files but no run.json: {folder}; give a new or empty folder, or that of a run"
                )
        (folder / _TRIAL).upload(b"")  # whether it may be written is known by writing alone
        (folder / _TRIAL).unlink(missing_ok=True)
    except OSError as error:
        raise RunFolderError(f"run folder cannot be used: {folder} ({error.strerror})") from error


def refuse_other_keys(recorded: Mapping[str, Any], wanted: Mapping[str, Any], path: Path, *, note: str = "") -> None:
    """Raise RunFolderError naming every key that differs, with both values, and `note` where it is given."""
    different = [
        f"  {name}: {_shown(recorded.get(name))} in the run folder, {_shown(wanted.get(name))} in this call"
        for name in sorted({*recorded, *wanted})
        if recorded.get(name) != wanted.get(name)
    ]
    if different:
        raise RunFolderError(
            f"run folder belongs to another run: {path}\n"
            + "\n".join(different)
            + (f"\n  ({note})" if note else "")
            + "\nuse another output folder, or call with the same values"
        )


def _shown(value: Any) -> str:
    return "not given" if value is None else repr(value)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object for people and scripts: keys sorted, no NaN."""
    publish_bytes(path, _json_bytes(content))


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return f"{printable(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False))}\n".encode()
