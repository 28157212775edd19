"""Shards that turn out not to be what was published: named in words, set aside, and represented again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from scalselect.errors import DamagedFileError, DamagedShardError
from scalselect.progress import on_wait
from scalselect.remote_path import as_remote
from scalselect.score_work import command_for
from scalselect.segments import segments_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scalselect.progress import Progress
    from scalselect.run_folder import RunFolder
    from scalselect.segments import Segment

_Outcome = TypeVar("_Outcome")


def set_aside_damaged(
    folder: RunFolder,
    segments: Sequence[Segment],
    progress: Progress,
    *,
    contents: bool | None = None,
    shards: Callable[[int], bool] = lambda _shard: True,
) -> dict[int, str]:
    """Make damaged shards count as not represented, and tell of each one.

    Parameters
    ----------
    segments
        Whose shards are looked at.
    contents
        Whether all their files are held against their hashes; else only reports are read and sizes compared. None: on a
        disk, but not in an object store, from which all of it would have to come.
    shards
        Which of them are looked at.

    Returns
    -------
    Shard to what is wrong with it, in words.
    """
    if contents is None:
        contents = as_remote(folder.path) is None
    found = _set_aside(folder, segments, progress, contents=contents, shards=shards)
    for shard, fault in found.items():
        progress.warn(f"shard {shard}: {fault}; represented again")
    return found


def _set_aside(
    folder: RunFolder,
    segments: Sequence[Segment],
    progress: Progress,
    *,
    contents: bool,
    shards: Callable[[int], bool] = lambda _shard: True,
) -> dict[int, str]:
    spans = {shard: segment.span(shard) for segment in segments for shard in filter(shards, segment.shards)}
    found = folder.store.damaged(spans, contents=contents)
    if not found:
        return {}
    with folder.claimed(on_wait(progress)):
        # Looked at again: another process may have set them aside, or represented them again, meanwhile.
        found = folder.store.damaged({shard: spans[shard] for shard in found}, contents=contents)
        for shard in found:
            folder.store.set_aside(shard)
    return found


def with_damage_mended(folder: RunFolder, attempt: Callable[[], _Outcome], progress: Progress) -> _Outcome:
    """Return what `attempt` does; where it meets a damaged shard, set aside all damaged ones and call it again.

    Parameters
    ----------
    attempt
        Represents the shards that are missing, among other things.

    Raises
    ------
    DamagedFileError
        If a shard is damaged again after it was represented again.
    """
    before: set[int] = set()
    while True:
        try:
            return attempt()
        except DamagedShardError as error:
            progress.warn(f"shard {error.shard} is damaged; the files of all shards are held against their hashes")
            segments = segments_of(folder.require())
            found = {error.shard, *set_aside_damaged(folder, segments, progress, contents=True)}
            if found & before:
                raise DamagedFileError(
                    f"shard {min(found & before)} is damaged again: {error}\n"
                    "the disk, the memory or the network between may be failing"
                ) from error
            before |= found


@contextlib.contextmanager
def refusing_damaged(folder: RunFolder, progress: Progress) -> Iterator[None]:
    """Where the block meets a damaged shard, set aside all damaged ones and say which command represents them again.

    Raises
    ------
    DamagedFileError
        Naming every damaged shard.
    """
    try:
        yield
    except DamagedShardError as error:
        run = folder.require()
        damaged = _set_aside(folder, segments_of(run), progress, contents=True)
        if not damaged:
            raise
        told = "\n".join(f"  shard {shard}: {fault}" for shard, fault in damaged.items())
        commands = " and ".join(dict.fromkeys(command_for(run, shard, folder) for shard in damaged))
        raise DamagedFileError(
            f"shards are damaged in {folder.store.folder}:\n{told}\nrepeat {commands}: it represents these shards again"
        ) from error
