"""Models that come from a hub: one commit of a repository, of which only the files that are read are downloaded.

Everything is huggingface_hub's own work and lies in the user's cache, where other programs find it. First come
configuration, processor and tokenizer; the weights only when the model is known to be usable.
"""

from __future__ import annotations

import contextlib
import glob
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from scalselect.errors import ModelError
from scalselect.temporary_places import temporary_prefix
from scalselect.vlm.needed_files import files_of_tensors, index_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# In the order in which transformers looks for them.
_WEIGHTS = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
]
_SMALL_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
_OF_OTHER_MODELS = ["*/*.json", "*/*.txt", "*/*.model"]  # exports and originals that lie in subfolders


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSnapshot:
    """One commit of a repository.

    Attributes
    ----------
    name
        Name on the hub.
    commit
        The commit that the revision stood for.
    folder
        Where its files lie in the user's cache: all but the weights.
    with_code
        Whether its Python files are there, to be run.
    """

    name: str
    commit: str
    folder: Path
    with_code: bool

    @contextlib.contextmanager
    def with_weights(self, config: Any) -> Iterator[Path]:
        """Download the files of weights that a model of this configuration reads; yield a folder to load it from.

        The folder is gone when the block ends, the downloaded files stay in the cache.

        Raises
        ------
        ModelError
            If there are no weights, or they cannot be downloaded.
        """
        named = getattr(config, "transformers_weights", None)
        looked_for = [named] if isinstance(named, str) else _WEIGHTS
        for file in looked_for:
            if file.endswith(".index.json") and (self.folder / file).is_file():
                with self._with_shards(config, file) as folder:
                    yield folder
                return
            if not file.endswith(".index.json") and self._fetch_if_there(file):
                self._fetch(_further_files(config), required=False)
                yield self.folder
                return
        why = (
            "; they are not in the cache, and the hub is not asked" if huggingface_hub.constants.HF_HUB_OFFLINE else ""
        )
        raise ModelError(f"model weights cannot be loaded: {self.name} (looked for {', '.join(looked_for)}{why})")

    @contextlib.contextmanager
    def _with_shards(self, config: Any, index: str) -> Iterator[Path]:
        """Yield a folder of links to this one's files and the needed shards, with an index of these alone."""
        content = index_of(self.folder / index)
        weight_map: dict[str, str] = content["weight_map"]
        shards = files_of_tensors(config, weight_map, trusted=self.with_code)
        self._fetch(shards)
        self._fetch(_further_files(config), required=False)
        kept = {name: file for name, file in weight_map.items() if file in shards}
        with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as temporary:
            # Named like the snapshot: code of a checkpoint is known to transformers by the name of its folder.
            folder = Path(temporary) / self.folder.name
            folder.mkdir()
            for file in self.folder.rglob("*"):
                if file.is_file() and file != self.folder / index:
                    _link(file, folder / file.relative_to(self.folder))
            (folder / index).write_text(json.dumps({**content, "weight_map": kept}), encoding="utf-8")
            yield folder

    def _fetch(self, files: Collection[str], *, required: bool = True) -> None:
        """Download files of weights that are not in the cache; where `required`, all must be there afterwards."""
        missing = [file for file in files if not (self.folder / file).is_file()]
        if not missing:
            return
        try:
            with _progress_bars():
                huggingface_hub.snapshot_download(
                    self.name, revision=self.commit, allow_patterns=[glob.escape(file) for file in missing]
                )
        except Exception as error:  # huggingface_hub lets those of its two HTTP libraries and of Xet through
            if not required and isinstance(error, LocalEntryNotFoundError):
                return
            raise ModelError(
                f"model weights cannot be downloaded: {self.name}, {', '.join(sorted(missing)[:3])} "
                f"({_cause(error, self.commit)})"
            ) from error
        absent = [file for file in missing if not (self.folder / file).is_file()]
        if absent and required:
            where = "in the cache" if huggingface_hub.constants.HF_HUB_OFFLINE else "on the hub"
            raise ModelError(f"model weights are incomplete {where}: {self.name} has no file {min(absent)}")

    def _fetch_if_there(self, file: str) -> bool:
        """Download a file where the repository has it, and tell whether it does."""
        try:
            with _progress_bars():
                huggingface_hub.hf_hub_download(self.name, file, revision=self.commit)
        except EntryNotFoundError:  # also where it is not in the cache and the hub cannot be asked
            return False
        except Exception as error:
            raise ModelError(
                f"model weights cannot be downloaded: {self.name}, {file} ({_cause(error, self.commit)})"
            ) from error
        return True


def open_snapshot(name: str, revision: str | None, *, with_code: bool = False) -> HubSnapshot:
    """Find the commit that a revision stands for and download configuration, processor and tokenizer.

    Parameters
    ----------
    revision
        Branch, tag or commit; None for the repository's main branch.
    with_code
        Download the repository's Python files as well.

    Raises
    ------
    ModelError
        If the hub has no such repository or revision, lets this user not see it, or cannot be reached while the cache
        lacks the files.
    """
    code = ["*.py"] if with_code else []
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=[*_SMALL_FILES, *code], ignore_patterns=_OF_OTHER_MODELS
            )
        )
    except Exception as error:  # huggingface_hub lets those of its two HTTP libraries through
        raise ModelError(
            f"model cannot be opened: {name} ({_cause(error, revision)}); give the folder of a checkpoint or a hub "
            "name such as llava-hf/llava-1.5-7b-hf"
        ) from error
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model cannot be opened: {name} (its repository has no config.json: no checkpoint, or an adapter alone)"
        )
    return HubSnapshot(name=name, commit=folder.name, folder=folder, with_code=with_code)


def _further_files(config: Any) -> list[str]:
    """Return the files of weights beside the usual ones that a configuration class asks for."""
    return list(getattr(type(config), "extra_files", ()))


def _link(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    source = file.resolve()
    try:
        place.symlink_to(source)
    except OSError:  # Windows without the right to do so
        try:
            place.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, place)


@contextlib.contextmanager
def _progress_bars() -> Iterator[None]:
    """Show huggingface_hub's bars while weights come, to people alone."""
    disabled = are_progress_bars_disabled()
    forbidden = huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS  # None where the environment says nothing
    if disabled and not forbidden and sys.stderr is not None and sys.stderr.isatty():
        enable_progress_bars()
    try:
        yield
    finally:
        if disabled:
            disable_progress_bars()


def _cause(error: Exception, revision: str | None) -> str:
    """Say in words why the hub did not give what was asked for, and what may help."""
    if isinstance(error, GatedRepoError):
        return "access must be granted on its page of the hub; then set HF_TOKEN, or log in with `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no revision {revision}"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such repository; if it is private, set HF_TOKEN, or log in with `hf auth login`"
    if isinstance(error, LocalEntryNotFoundError):
        what = (
            "its files are not all in the cache"
            if revision is None
            else f"files of revision {revision} are not all in the cache"
        )
        offline = huggingface_hub.constants.HF_HUB_OFFLINE
        return f"{what}, and {'HF_HUB_OFFLINE is set' if offline else 'the hub cannot be reached'}"
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
