"""The run folder: names of its files, run.json and its keys, subspace, scores and selection on disk.

Writing order within a stage is fixed, and the file that says "this stage is done" comes last: a stage whose last
file is missing, or was made from other inputs, is done again.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from scalselect.claims import Claims
from scalselect.coordinates_file import inputs_of_coordinates
from scalselect.errors import RunFolderError
from scalselect.printable import printable
from scalselect.remote_path import path_of
from scalselect.representation_store import METADATA_KEY, RepresentationStore
from scalselect.row_tables import table_bytes, table_from_bytes
from scalselect.run_folder_place import CLAIMS, alone_where_needed, check_place
from scalselect.segments import segments_of
from scalselect.storage import create_exclusive, publish_bytes, remove_tree, sha256_of_file
from scalselect.subspace_file import read_facts, read_subspace, write_subspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from scalselect.claims import Claim
    from scalselect.records import DominantSubspace

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
        self.claims = Claims(self.path / CLAIMS)
        self._claim: Claim | None = None

    def check_usable(self) -> None:
        """Raise RunFolderError where the folder cannot become, or is not, a run folder. Leaves nothing written."""
        check_place(self.path)

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
        self.check_claim()
        content = self.require()
        if any(content.get(name) != value for name, value in groups.items()):
            publish_bytes(self.run_json, _json_bytes({**content, **groups}))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Use the folder alone during the block, in an object store that cannot tell apart who writes first.

        Does nothing on a disk, and in stores that know conditional writes.

        Raises
        ------
        RunFolderError
            Another process uses it, or it cannot be used.
        """
        self.check_usable()
        with alone_where_needed(self.path, self.claims):
            yield

    @contextlib.contextmanager
    def claimed(self, on_wait: Callable[[str], None] = lambda _holder: None) -> Iterator[None]:
        """Score or select alone: others wait for the end of the block. Raises RunFolderError where it is read-only."""
        with self.alone(), self.claims.held("scoring", on_wait) as claim:
            self._claim = claim
            try:
                yield
            finally:
                self._claim = None

    def check_claim(self) -> None:
        """Raise WorkError where another process has taken over what this one had claimed; it may write no more."""
        if self._claim is not None:
            self._claim.check()

    def write_subspace(self, subspace: DominantSubspace, inputs: Mapping[str, Any]) -> None:
        """Write `subspace.safetensors`; see `scalselect.subspace_file`."""
        self.check_claim()
        write_subspace(self.subspace, subspace, inputs)

    def write_instruction_subspace(self, subspace: DominantSubspace | None, inputs: Mapping[str, Any]) -> None:
        """Write `instruction_subspace.safetensors`, or remove it where there is no such subspace."""
        self.check_claim()
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
        self.check_claim()
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
        self.check_claim()
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
        self.check_claim()
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
