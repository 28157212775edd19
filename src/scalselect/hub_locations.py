"""Which commit of a hub's repository a location stands for: a branch goes on, what a run was made of must not."""

from __future__ import annotations

import re

from scalselect.remote_files import filesystem, key_of, normalised, told_as_os_errors

_PINNED = re.compile("@[0-9a-f]{40}$")
_COMMIT = re.compile("[0-9a-f]{40}")


def unpinned_name(name: str) -> str:
    """Return the name of a folder, of a repository on a hub without the commit behind it."""
    return _PINNED.sub("", name)


def pinned(location: str) -> str:
    """Return a location in its one spelling, and one on a hub with the commit that its revision stands for.

    Raises
    ------
    OptionError
        See `scalselect.remote_files.normalised`.
    FileNotFoundError
        There is no such repository or revision, or none for this user.
    OSError
        See `scalselect.remote_files.told_as_os_errors`.
    """
    location = normalised(location)
    if not location.startswith("hf://"):
        return location
    with told_as_os_errors(location):
        found = filesystem(location).resolve_path(key_of(location))
        revision = getattr(found, "revision", None)
        if revision is None or _COMMIT.fullmatch(revision):  # a bucket has none
            return location
        from huggingface_hub import HfApi  # noqa: PLC0415  only where a location lies on a hub

        commit = HfApi().repo_info(found.repo_id, revision=revision, repo_type=found.repo_type).sha
    before = f"{found.repo_type}s/" if found.repo_type != "model" else ""
    return f"hf://{before}{found.repo_id}@{commit}/{found.path_in_repo}".rstrip("/")
