"""Data sets on a hub: one commit of a repository, of which only the data files are downloaded.

Everything is huggingface_hub's own work and lies in the user's cache, where other programs find it.
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from scalselect.dataset.hub_choice import data_files_of
from scalselect.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOCATION = re.compile(r"hf://datasets/(.*)", re.IGNORECASE | re.DOTALL)
_WANTED = "wanted: hf://datasets/OWNER/NAME, hf://datasets/OWNER/NAME@REVISION/path/to/file.parquet"


@dataclass(frozen=True, slots=True)
class HubPlace:
    """What a location names.

    Attributes
    ----------
    repository
        `OWNER/NAME`.
    revision
        Branch, tag or commit; None for the main branch.
    path
        File, folder or pattern inside it; empty for the whole repository.
    """

    repository: str
    revision: str | None
    path: str

    def __str__(self) -> str:
        return f"{self.root}/{self.path}" if self.path else self.root

    @property
    def root(self) -> str:
        """Location of the whole repository, at its revision."""
        return f"hf://datasets/{self.repository}" + ("" if self.revision is None else f"@{self.revision}")


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Data files of one commit.

    Attributes
    ----------
    place
        The location, its revision being the commit.
    folder
        Where files of that commit lie in the user's cache.
    paths
        The data files in it, in order.
    """

    place: HubPlace
    folder: Path
    paths: list[Path]


def is_hub_data(location: object) -> bool:
    """Tell whether a location is one of a data set on a hub."""
    return isinstance(location, str) and _LOCATION.match(location) is not None


def hub_place(location: str) -> HubPlace:
    """Return what a location names. Raises DatasetError where it is no repository of an owner."""
    found = _LOCATION.match(location)
    parts = [part for part in (found[1] if found else "").split("/") if part not in {"", "."}]
    owner, named, *rest = [*parts, "", ""][: max(2, len(parts))]
    name, marked, revision = named.partition("@")
    if not owner or not name or "@" in owner or ".." in parts or (marked and not revision):
        raise DatasetError(f"location names no data set of a hub: {location} ({_WANTED})")
    if revision == "refs" and len(rest) > 1:  # `refs/convert/parquet` and `refs/pr/1` are written with their slashes
        revision, rest = "/".join([revision, *rest[:2]]), rest[2:]
    return HubPlace(f"{owner}/{name}", unquote(revision) or None, "/".join(rest))


def download_data(location: str) -> HubFiles:
    """Find the commit that a location stands for, choose its data files and download those that are not in the cache.

    Raises
    ------
    DatasetError
        There is no such repository, revision or file, this user may not have it, the hub cannot be reached while the
        cache lacks something, or it is not clear which files are meant.
    """
    place = hub_place(location)
    commit, names = _listing(place)
    pinned = HubPlace(place.repository, commit, place.path)
    chosen = data_files_of(names, place.path, str(place))
    folder = _snapshot(pinned, chosen, place)
    missing = [name for name in chosen if not (folder / name).is_file()]
    if missing:
        raise DatasetError(f"data set is incomplete in the cache: {place} has no file {missing[0]}")
    return HubFiles(pinned, folder, [folder / name for name in chosen])


def _listing(place: HubPlace) -> tuple[str, list[str]]:
    """Return the commit and the names of its files; where the hub cannot be asked, those that are in the cache."""
    import huggingface_hub  # noqa: PLC0415  only where data lie on a hub

    try:
        info: Any = huggingface_hub.HfApi().dataset_info(place.repository, revision=place.revision)
    except Exception as error:  # huggingface_hub lets those of its two HTTP libraries through
        if _is_final(error):
            raise _refused(place, error) from error
        folder = _snapshot(place, [], place, local=True)
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        return folder.name, names
    return str(info.sha), sorted(str(file.rfilename) for file in info.siblings or [])


def _snapshot(place: HubPlace, names: Sequence[str], asked: HubPlace, *, local: bool = False) -> Path:
    """Return the folder of a commit in the cache, with some files in it."""
    import huggingface_hub  # noqa: PLC0415  only where data lie on a hub

    try:
        folder = huggingface_hub.snapshot_download(
            place.repository,
            repo_type="dataset",
            revision=place.revision,
            allow_patterns=[glob.escape(name) for name in names],
            local_files_only=local,
        )
    except Exception as error:
        raise _refused(asked, error) from error
    return Path(folder)


def _is_final(error: Exception) -> bool:
    """Tell whether the hub answered, so that the cache is no answer."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError  # noqa: PLC0415

    return isinstance(error, (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError))


def _refused(place: HubPlace, error: Exception) -> DatasetError:
    return DatasetError(f"data set cannot be opened: {place} ({_cause(place, error)})")


def _cause(place: HubPlace, error: Exception) -> str:
    """Say in words why the hub did not give what was asked for, and what may help."""
    from huggingface_hub import constants  # noqa: PLC0415
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return "access must be granted on its page of the hub; then set HF_TOKEN, or log in with `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no revision {place.revision}"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such data set; if it is private, set HF_TOKEN, or log in with `hf auth login`"
    if isinstance(error, LocalEntryNotFoundError):
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub cannot be reached"
        return f"its files are not all in the cache, and {why}"
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
