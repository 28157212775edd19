"""Several data sets in one call, each with a name and an image folder of its own, opened one after the other.

A data set is given as a word: a path or URL, with a name before it and options behind it where wanted::

    pool.json
    coco=pool.json
    coco=pool.json,images=/data/coco,format=llava
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from scalselect.dataset.dataset_info import dataset_info_entry
from scalselect.dataset.opening import check_limit, open_pool
from scalselect.dataset.python_dataset import is_of_datasets
from scalselect.errors import DatasetError, OptionError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from scalselect.dataset.pool import Pool

RESERVED_NAMES = ("rows",)  # `selected/rows.parquet` lists the chosen rows of all data sets
_NAME = re.compile(r"(?!\.)[\w.\-]+")
_NAMED = re.compile(r"([^/\\=,:]*)=(.*)", re.DOTALL)
_OPTION = re.compile(r"(.*),(images|format)=([^,]*)", re.DOTALL)

_OTHER_OPTION = re.compile(r"(.*),(\w+)=([^,]*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DataSet:
    """One data set as it was asked for; None where nothing was said.

    Attributes
    ----------
    data
        Path or URL of the data, or the records themselves.
    name
        Its name in the run.
    images, format
        What holds for it instead of the options of the call.
    mapping
        What a `dataset_info.json` says of its records.
    """

    data: Any
    name: str | None = None
    images: str | None = None
    format: str | None = None
    mapping: dict[str, Any] | None = None


def parse_data_set(word: str) -> DataSet:
    """Return what a word such as ``coco=pool.json,images=DIR`` asks for; a file of exactly that name is meant first.

    Raises
    ------
    OptionError
        The name cannot be one, or an option is unknown, empty or given twice.
    """
    if os.path.lexists(word):
        return DataSet(word)
    path, options = word, dict[str, str]()
    while found := _OPTION.fullmatch(path):
        path, option, value = found.groups()
        if option in options or not value:
            problem = "is given twice" if option in options else "is empty"
            raise OptionError(f"{option} of a data set {problem}: {word!r}")
        options[option] = value
    _refuse_other_option(path, word)
    named = _NAMED.fullmatch(path)
    if named is None:
        return DataSet(path, None, options.get("images"), options.get("format"))
    name, path = named.groups()
    _check_name(name)
    return DataSet(path, name, options.get("images"), options.get("format"))


def data_sets_of(dataset: Any) -> list[DataSet]:
    """Return the data sets meant by the argument of a call.

    Parameters
    ----------
    dataset
        A word (see `parse_data_set`), a path, a list of records or another thing that `open_pool` opens; or several
        data sets: a list of words and paths, or a mapping of names to data.

    Raises
    ------
    DatasetError, OptionError
        It is no data set, a name cannot be one, or is given twice.
    """
    if isinstance(dataset, Mapping) and not is_of_datasets(dataset):  # a DatasetDict is refused where it is opened
        if not dataset:
            raise DatasetError("no data set was given: {} (wanted: names, each with its data)")
        asked = []
        for name, data in dataset.items():
            _check_name(name)
            one = parse_data_set(data) if isinstance(data, str) else DataSet(data)
            if one.name is not None:
                raise OptionError(f"a data set has two names: {name!r} and {one.name!r}")
            asked.append(replace(one, name=name))
    elif isinstance(dataset, str):
        asked = [parse_data_set(dataset)]
    elif isinstance(dataset, Sequence) and dataset and all(isinstance(one, (str, os.PathLike)) for one in dataset):
        asked = [parse_data_set(one) if isinstance(one, str) else DataSet(one) for one in dataset]
    else:
        asked = [DataSet(dataset)]
    names = [one.name.casefold() for one in asked if one.name is not None]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"two data sets have the name {name!r}: give each another one")
    return asked


def data_sets_of_info(dataset: Any, dataset_info: str | Path, images: str | None) -> list[DataSet]:
    """Return the data sets that LLaMA-Factory means by names in its `dataset_info.json`.

    Parameters
    ----------
    dataset
        A name, several with commas, or a list of such; a name may stand behind another one, ``mine=name``.
    dataset_info
        The file, or its folder.
    images
        Folder of the images where one is given, LLaMA-Factory's `media_dir`; else that of the `dataset_info.json`.

    Raises
    ------
    DatasetError, OptionError
        The file cannot be read, has no such entry, or the entry means no data that can be read.
    """
    words = [dataset] if isinstance(dataset, str) else dataset
    if not isinstance(words, Sequence) or not words or not all(isinstance(word, str) for word in words):
        raise OptionError("with dataset_info, data sets are given by their names in it")
    found = []
    for word in ",".join(words).split(","):
        new, _, name = word.rpartition("=")
        if new:
            _check_name(new)
        entry = dataset_info_entry(dataset_info, name)
        folder = images or entry.folder
        found += [DataSet(file, new or name, folder, None, entry.mapping()) for file in entry.files()]
    return found


def open_pools(
    dataset: Any,
    *,
    limit: int | None = None,
    dataset_info: str | Path | None = None,
    images: str | None = None,
    **options: Any,
) -> tuple[list[Pool], int]:
    """Open every data set of a call; their rows follow one another in the order given.

    Parameters
    ----------
    dataset
        See `data_sets_of`.
    limit
        Only the first rows of all data sets together; data sets beyond are opened and left out.
    dataset_info
        LLaMA-Factory's file, in which the data sets have names; see `data_sets_of_info`.
    images, **options
        Of `scalselect.dataset.opening.open_pool`, for every data set that says nothing else.

    Returns
    -------
    tuple
        The pools, and the number of records of all data sets, whatever the limit.

    Raises
    ------
    DatasetError
        A data set cannot be used as a whole, or is given twice.
    OptionError
        An option has an impossible value.
    """
    check_limit(limit)
    pools: list[Pool] = []
    known: dict[str, str] = {}
    records, left = 0, limit
    for one in data_sets_of_info(dataset, dataset_info, images) if dataset_info is not None else data_sets_of(dataset):
        own = {"format": one.format} if one.format is not None else {}
        pool = open_pool(
            one.data,
            **{**options, **own},
            images=images if one.images is None else one.images,
            mapping=one.mapping,
            name=one.name,
            limit=left or None,
        )
        twin = next((other for other in pools if other.fingerprint() == pool.fingerprint()), None)
        if twin is not None:
            where = pool.location or "a list of records"
            raise DatasetError(f"the same data are given twice: {where} (as {twin.source} before)")
        _refuse_shared_file(pool, known)
        records += pool.total_records
        if left == 0:
            continue
        pools.append(pool)
        left = None if left is None else left - len(pool)
    return _told_apart(pools), records


def free_name(name: str, taken: set[str]) -> str:
    """Return `name`, with a number behind it where it is taken (case aside) or reserved."""
    found, number = name, 1
    while found.casefold() in taken or found.casefold() in RESERVED_NAMES:
        number += 1
        found = f"{name}-{number}"
    return found


def _refuse_shared_file(pool: Pool, known: dict[str, str]) -> None:
    """Remember which data set each file belongs to. Raises DatasetError where one belongs to an earlier one as well."""
    paths = {os.path.realpath(path): path for path in pool.paths}
    for real, path in paths.items():
        if real in known:
            raise DatasetError(
                f"the same data are given twice: {path} is in {pool.source} ({pool.location}) "
                f"and in {known[real]} before"
            )
    known |= dict.fromkeys(paths, f"{pool.source} ({pool.location})")


def _told_apart(pools: list[Pool]) -> list[Pool]:
    """Return pools whose names differ, also where file systems do not tell capital letters apart."""
    if len(pools) == 1:
        return pools
    taken = set[str]()
    named = []
    for pool in pools:
        name = free_name(pool.source, taken)
        taken.add(name.casefold())
        named.append(replace(pool, source=name))
    return named


def _refuse_other_option(path: str, word: str) -> None:
    """Raise OptionError where an option is mistyped: it is like one there is, or a file lies under what is before."""
    found = _OTHER_OPTION.fullmatch(path)
    if found is None:
        return
    near = did_you_mean(found[2], ("images", "format"))
    if near or os.path.lexists(found[1]) or os.path.lexists(found[1].partition("=")[2]):
        raise OptionError(f"a data set has no option `{found[2]}`: {word!r} (wanted: images=DIR, format=NAME){near}")


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise OptionError(
            f"name of a data set must be made of letters, digits, `_`, `-` and `.`, and not begin with a dot: {name!r}"
        )
    if name.casefold() in RESERVED_NAMES:
        raise OptionError(f"{name!r} cannot be the name of a data set: a file of the run is called so")
