"""The run folder: names of its files, run.json and its keys, subspace, scores and selection on disk.

Writing order within a stage is fixed, and the file that says "this stage is done" comes last: a stage whose last
file is missing, or was made from other inputs, is done again.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from typing import TYPE_CHECKING, Any

from scalselect.claims import Claims
from scalselect.coordinates_file import read_coordinates
from scalselect.errors import RunFolderError
from scalselect.explanations_file import write_explanations
from scalselect.file_hashes import FileHashes
from scalselect.local_copies import local_copy
from scalselect.remote_path import as_remote, path_of
from scalselect.representation_store import RepresentationStore
from scalselect.run_folder_place import CLAIMS, LOGS, alone_where_needed, check_place, way_on
from scalselect.run_json import parse_run_json, refuse_other_keys
from scalselect.scores_file import Scores, read_scores, write_scores
from scalselect.seals import SEAL_KEY, is_whole, sealed_json
from scalselect.storage import create_exclusive, publish_bytes, remove_tree
from scalselect.subspace_file import read_subspace, write_subspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

    from scalselect.claims import Claim
    from scalselect.coordinates_file import Coordinates
    from scalselect.explanations_file import Explanations
    from scalselect.records import DominantSubspace

_BESIDE = "report_with_"
CHANGED_SCORES = "scores.parquet was changed since it was written"


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
        self.explanations = self.path / "explanations.safetensors"
        self.report = self.path / "report.html"
        self.guide = self.path / "how_to_train.md"
        self.exported = self.path / "exported"
        self.logs = self.path / LOGS
        self.claims = Claims(self.path / CLAIMS)
        self._claim: Claim | None = None
        self._hashes = FileHashes()

    def report_beside(self, other: str) -> Path:
        """Return where the page lies that shows this run beside one in a folder of that name."""
        return self.path / f"{_BESIDE}{other}.html"

    def check_usable(self) -> None:
        """Raise RunFolderError where the folder cannot become, or is not, a run folder. Leaves nothing written."""
        check_place(self.path)

    def read(self) -> dict[str, Any] | None:
        """Return run.json, or None where there is none yet. Raises RunFolderError where it is damaged."""
        try:
            return parse_run_json(self.run_json.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise RunFolderError(f"run.json cannot be read: {self.run_json} ({error.strerror})") from error
        except ValueError as error:
            raise RunFolderError(
                f"run.json is damaged: {self.run_json} ({error}); restore it, or begin again in another folder"
            ) from error

    def require(self) -> dict[str, Any]:
        """Return run.json of an existing run. Raises RunFolderError where this is no run folder."""
        content = self.read()
        if content is None:
            raise RunFolderError(f"not a run folder, it holds no run.json: {self.path}; {way_on(self.path)}")
        return content

    def create(self, content: Mapping[str, Any]) -> None:
        """Write run.json unless somebody else just did; then theirs must say the same. Raises RunFolderError."""
        encoded = sealed_json(content)
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
            publish_bytes(self.run_json, sealed_json({**content, **groups}))

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
        """Return the dominant subspace as written. Raises RunFolderError where there is none, or another one."""
        subspace = read_subspace(self._as_written(self.subspace))
        if subspace is None:
            raise RunFolderError(f"no scores yet: {self.path}; {self._score_words}")
        return subspace

    def read_instruction_subspace(self) -> DominantSubspace | None:
        """Return the subspace of the instruction vectors; None where there is none. Raises RunFolderError."""
        return read_subspace(self._as_written(self.instruction_subspace))

    def read_coordinates(self) -> Coordinates:
        """Map the coordinates of all scored rows. Raises RunFolderError where they are not what was written."""
        return read_coordinates(self._as_written(self.coordinates))

    def write_scores(self, table: pa.Table, inputs: Mapping[str, Any], files: Mapping[str, str] | None = None) -> None:
        """Write `scores.parquet`; `files` default to those that lie beside it. See `scalselect.scores_file.Scores`."""
        self.check_claim()
        beside = (self.subspace, self.instruction_subspace, self.coordinates)
        if files is None:
            files = {path.name: sha256 for path in beside if (sha256 := self._sha256(path)) is not None}
        write_scores(self.scores, table, inputs, files)

    def scores_as_written(self) -> Scores:
        """Return `scores.parquet` with what it vouches for. Raises RunFolderError: none, or changed since."""
        try:
            scores = read_scores(self.scores)
        except FileNotFoundError:
            raise RunFolderError(f"no scores yet: {self.path}; {self._score_words}") from None
        if scores is None:
            raise RunFolderError(f"{CHANGED_SCORES}: {self.scores}; {self._score_words}")
        return scores

    def read_scores(self) -> pa.Table:
        """Return the table of `scores.parquet`. Raises RunFolderError: none, or changed since it was written."""
        return self.scores_as_written().table

    def state_of_scores(self) -> tuple[dict[str, Any] | None, str | None]:
        """Return what the scores were made from, None where they do not count; and in words what is wrong with them."""
        try:
            scores = read_scores(self.scores)
        except FileNotFoundError:
            return None, None
        if scores is None:
            return None, CHANGED_SCORES
        for name in dict.fromkeys((self.subspace.name, self.coordinates.name, *scores.files)):
            if self._sha256(self.path / name) != scores.files.get(name, "none"):
                return None, f"{name} is not what was written with the scores"
        return scores.inputs, None

    @property
    def _score_words(self) -> str:
        return f"`scalselect score {shlex.quote(str(self.path))}` makes them"

    def _as_written(self, path: Path) -> Path:
        """Return the path of a file that scores vouch for, where it is what they say. Raises RunFolderError."""
        try:
            scores = read_scores(self.scores)
        except FileNotFoundError:
            scores = None
        if scores is not None and scores.files.get(path.name) != self._sha256(path):
            raise RunFolderError(f"file is not what was written with the scores: {path}; {self._score_words} anew")
        return path

    def _sha256(self, path: Path) -> str | None:
        """Return the hash of a file; None where there is none."""
        try:
            return self._hashes.of(path if as_remote(path) is None else local_copy(str(path)))
        except FileNotFoundError:
            return None

    def write_explanations(self, explanations: Explanations, inputs: Mapping[str, Any]) -> None:
        """Write `explanations.safetensors`; see `scalselect.explanations_file`."""
        self.check_claim()
        write_explanations(self.explanations, explanations, inputs)

    def write_selection(self, content: Mapping[str, Any], budget: str | None = None) -> Path:
        """Write `selection.json`, or that of a budget beside the first, and return its path.

        The first is written last of all, so that it vouches for the other files.
        """
        self.check_claim()
        path = self._selection_of(budget)
        publish_bytes(path, sealed_json(content))
        return path

    def read_selection(self, budget: str | None = None) -> dict[str, Any]:
        """Return `selection.json`, of a budget beside the first its own. Raises RunFolderError: none, or changed."""
        path = self._selection_of(budget)
        try:
            encoded = path.read_bytes()
        except FileNotFoundError:
            raise RunFolderError(f"nothing was selected yet: {self.path}") from None
        if not is_whole(encoded):
            raise RunFolderError(
                f"{path.name} is not what was written: {path}; repeat the `scalselect run` or `select` command that "
                "made it"
            )
        content = dict(json.loads(encoded))
        del content[SEAL_KEY]
        return content

    def _selection_of(self, budget: str | None) -> Path:
        return self.selection if budget is None else self.selections / budget / self.selection.name

    def forget_selection(self) -> None:
        """Remove a choice that no longer stands: first the file that vouches for it, then all it vouched for."""
        self.check_claim()
        self.selection.unlink(missing_ok=True)
        self.diagnostics.unlink(missing_ok=True)
        self.guide.unlink(missing_ok=True)
        self.report.unlink(missing_ok=True)
        for page in list(self.path.iterdir()):
            if page.name.startswith(_BESIDE) and page.name.endswith(".html"):
                page.unlink(missing_ok=True)
        for ending in ("json", "jsonl", "json.gz", "jsonl.gz", "parquet", "arrow", "tar"):
            (self.path / f"selected.{ending}").unlink(missing_ok=True)
        (self.path / "selected_rows.parquet").unlink(missing_ok=True)
        for subsets in (self.path / "selected", self.selections, self.exported):
            remove_tree(subsets)

    def state_of_selection(self, inputs: Mapping[str, Any]) -> tuple[bool, str | None]:
        """Tell whether a finished selection with these inputs stands, and in words why one that should does not."""
        try:
            content = self.read_selection()
        except RunFolderError:
            return False, f"{self.selection.name} is not what was written" if self.selection.exists() else None
        if content.get("inputs") != inputs:
            return False, None
        changed = self.changed_since_selected(content, {self.scores.name, *content["files"]})
        return not changed, f"{changed[0]} is not what was written" if changed else None

    def changed_since_selected(self, content: Mapping[str, Any], names: Iterable[str]) -> list[str]:
        """Return which of some files are not, or no longer, those that the content of `selection.json` tells of."""
        told = content["files"]
        return sorted(name for name in names if told.get(name, "none") != self._sha256(self.path / name))
