"""The data of a run opened again, to copy records from, and held against what the run recorded of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scalselect.dataset.containers import data_exist, folder_of
from scalselect.dataset.data_sets import data_sets_of, open_pools
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.dataset.opening import confined_by_default, image_folder, open_pool
from scalselect.errors import DatasetError, RunFolderError
from scalselect.segments import Segment, segments_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scalselect.dataset.pool import Pool


def pool_of_run(
    run: Mapping[str, Any],
    dataset: Any,
    *,
    opened: Sequence[Pool] = (),
) -> Pool | JoinedPool | None:
    """Return the records of a run, those of all its segments in order; None for vectors made elsewhere.

    Parameters
    ----------
    run
        The content of run.json.
    dataset
        The records of a run that was given a Python list, or data that have moved; of a run with several, any of them,
        in the ways that `scalselect.run` takes them. For vectors made elsewhere: records for them, one for each.
    opened
        Pools of some segments that are open already.

    Raises
    ------
    DatasetError
        If data are gone or have changed, or what was given is none of the run's.
    RunFolderError
        If the run was given a Python list or `datasets.Dataset`, and this call was not.
    """
    represent = run["represent"]
    if "representations" in represent:
        return None if dataset is None else _pool_beside_vectors(represent["rows"], dataset)
    segments = segments_of(run)
    asked = [] if dataset is None else _given(dataset, segments)
    given = [pool for pool, _ in asked]
    images_of = {id(pool): images for pool, images in asked}
    unused = list(given)
    pools = []
    for segment in segments:
        pool = next((pool for pool in (*given, *opened) if pool.fingerprint() == segment.fingerprint), None)
        if pool in unused:
            unused.remove(pool)
        if pool is None and unused and len(segments) == 1:
            raise _changed(segment, unused[0])
        if pool is None:
            pool = _opened(segment)
        pools.append(
            replace(
                pool,
                source=segment.source,
                images=images_of.get(id(pool)) or _images(segment, pool),
                limit=_limit(segment),
                image_position=represent.get("image_position", pool.image_position),
                allow_remote_images=represent.get("allow_remote_images", False),
                confined=_confined(represent.get("confine_images"), segment),
            )
        )
    if unused:
        known = ", ".join(str(segment.path) for segment in segments)
        raise DatasetError(
            f"data are none of the run's, or have changed since: {unused[0].location} (the run has {known})"
        )
    return pools[0] if len(pools) == 1 else JoinedPool(pools)


def _images(segment: Segment, pool: Pool) -> str:
    """Return the image folder of the run; where it was that of the data file, it has moved together with it."""
    moved = segment.path is not None and pool.location not in {None, segment.path}
    if moved and segment.images == image_folder(None, folder_of(str(segment.path))):
        return pool.images
    return segment.images or pool.images


def _confined(option: bool | None, segment: Segment) -> bool:
    # As when the run was made, wherever its data lie by now.
    return confined_by_default(segment.path) if option is None else option


def _format(segments: Sequence[Segment]) -> str:
    formats = {segment.data_format for segment in segments}
    return formats.pop() if len(formats) == 1 else "auto"


def _mapping(segments: Sequence[Segment]) -> dict[str, Any] | None:
    first = segments[0].mapping
    return first if all(segment.mapping == first for segment in segments) else None


def _given(dataset: Any, segments: Sequence[Segment]) -> list[tuple[Pool, str | None]]:
    """Return data that a call names, each with its image folder where that is named as well."""
    # Known data are opened as the run has them; others, to be told of, as they present themselves.
    pools = []
    for one in data_sets_of(dataset):
        pool = open_pool(one.data, format=_format(segments), mapping=_mapping(segments), images=one.images)
        segment = next((segment for segment in segments if segment.fingerprint == pool.fingerprint()), None)
        if segment is not None and (segment.data_format, segment.mapping) != (pool.format, pool.mapping):
            pool = open_pool(one.data, format=segment.data_format, mapping=segment.mapping, images=one.images)
        pools.append((pool, None if one.images is None else pool.images))
    return pools


def _limit(segment: Segment) -> int | None:
    return None if segment.rows == segment.data_records else segment.rows


def _opened(segment: Segment) -> Pool:
    if segment.path is None:
        raise RunFolderError(
            "the run was given a Python object (a list or a datasets.Dataset): pass the same one as `dataset`"
        )
    if not data_exist(segment.path):
        raise DatasetError(f"the data of the run are gone: {segment.path} (give their new place with --dataset)")
    pool = open_pool(segment.path, format=segment.data_format, mapping=segment.mapping)
    if pool.fingerprint() != segment.fingerprint:
        raise _changed(segment, pool)
    return pool


def _changed(segment: Segment, pool: Pool) -> DatasetError:
    then, now = segment.fingerprint, pool.fingerprint()
    told = "; ".join(f"{name} {then[name]} then, {now[name]} now" for name in then if then[name] != now[name])
    where = "the Python object" if pool.location is None else pool.location
    return DatasetError(f"the data have changed since they were scored: {where} ({told})")


def _pool_beside_vectors(rows: int, dataset: Any) -> Pool | JoinedPool:
    pools, _ = open_pools(dataset)
    records = sum(map(len, pools))
    if records != rows:
        named = ", ".join(pool.location or "the Python object" for pool in pools)
        raise DatasetError(f"the run has {rows} vectors and {named} has {records} records: one for each is wanted")
    return pools[0] if len(pools) == 1 else JoinedPool(pools)
