"""The chosen records of one data set, where they lie and what they hold: what notes for trainers are made from."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from scalselect.dataset.joined_pool import JoinedPool
from scalselect.dataset.subset_facts import SubsetFacts, facts_of_rows
from scalselect.remote_path import as_remote, path_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from scalselect.dataset.pool import Pool
    from scalselect.segments import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """The part of a subset that comes from one data set.

    Attributes
    ----------
    source, container, format
        Name of the data set, what its records are kept in, and the name of their format.
    files
        Its files of chosen records, absolute paths; of a folder that `save_to_disk` wrote the folder. Those that hold
        none are not among them, as the loaders of trainers stop at them.
    empty
        Its files that hold none.
    names
        A name for each file, for trainers that want one.
    images
        Folder that its image paths are relative to; None where none is known.
    mapping
        What a `dataset_info.json` says of its records, where the run was told.
    facts
        What is in the records.
    """

    source: str
    container: str
    format: str
    files: tuple[str, ...]
    names: tuple[str, ...]
    images: str | None
    mapping: Mapping[str, Any] | None
    facts: SubsetFacts
    empty: tuple[str, ...] = ()

    @property
    def unpacked(self) -> tuple[str, ...]:
        """The names that its files have once those in gzip are unpacked."""
        return tuple(file.removesuffix(".gz") for file in self.files)


def account_of_subset(
    pool: Pool | JoinedPool, rows: NDArray[np.int64], written: Sequence[Path], run_dir: Path
) -> list[dict[str, Any]]:
    """Return what `selection.json` keeps of a subset that was written: for each data set its files and facts."""
    joined = pool if isinstance(pool, JoinedPool) else JoinedPool([pool])
    listing = written[-1] if len(written) > 1 else None  # tells which row is where, and holds no records
    files = [path for path in written if path != listing]
    filled = set(files) if listing is None else _filled(listing, files)
    account = []
    for number, part in enumerate(joined.parts):
        span = joined.rows_of(number)
        own = [
            path
            for path in files
            if len(joined.parts) == 1 or _belongs(path.relative_to(run_dir).as_posix(), part.source)
        ]
        of_part = rows[(rows >= span.start) & (rows < span.stop)] - span.start
        empty = {path for path in own if path not in filled}
        if part.container == "saved":  # one data set is a folder there, with files that only describe it
            own = [own[0].parent]
            empty = set(own if not of_part.size else [])
        account.append(
            {
                "source": part.source,
                "container": part.container,
                "format": part.format,
                "names": [path.relative_to(run_dir).as_posix() for path in own],
                "empty": [path.relative_to(run_dir).as_posix() for path in own if path in empty],
                **asdict(facts_of_rows(part, of_part.tolist())),
            }
        )
    return account


def training_sets(
    account: Sequence[Mapping[str, Any]], segments: Sequence[Segment], run_dir: Path
) -> list[TrainingSet]:
    """Return the parts of a subset, from what `selection.json` keeps of it and the data sets of the run."""
    known = {segment.source: segment for segment in segments}
    place = place_of(run_dir)
    sets: list[TrainingSet] = []
    for entry in account:
        segment = known.get(entry["source"])
        name = "chosen" if len(account) == 1 else "chosen-" + re.sub(r"[^\w-]", "-", entry["source"])
        empty = entry.get("empty", [] if entry["rows"] else entry["names"])
        files = tuple(f"{place}/{file}" for file in entry["names"] if file not in empty)
        sets.append(
            TrainingSet(
                source=entry["source"],
                container=entry["container"],
                format=entry["format"],
                files=files,
                names=tuple(f"{name}-{i}" if len(files) > 1 else name for i in range(len(files))),
                images=None if segment is None else segment.images or _folder_of(segment.path),
                mapping=None if segment is None else segment.mapping,
                facts=SubsetFacts(
                    **{item.name: entry[item.name] for item in fields(SubsetFacts) if item.name in entry}
                ),
                empty=tuple(f"{place}/{file}" for file in empty),
            )
        )
    return sets


def place_of(path: Path) -> str:
    """Return a path from the root of its file system, symbolic links as the user named them; a URL as it is."""
    return str(path) if as_remote(path) else os.path.abspath(path)  # noqa: PTH100


def _filled(listing: Path, files: Sequence[Path]) -> set[Path]:
    """Return the files that hold rows, by the listing of all rows beside them or above them."""
    below = listing.parent if listing.name == "rows.parquet" else listing.parent / "selected"
    with listing.open("rb") as stream:
        names = set(pq.read_table(stream, columns=["file"])["file"].unique().to_pylist())
    return {path for path in files if path.relative_to(below).as_posix() in names}


def _belongs(name: str, source: str) -> bool:
    """Tell whether a file, named from the run folder, is one of a data set among several."""
    below = name.partition("selected/")[2]
    return re.fullmatch(rf"{re.escape(source)}(/.*|\.[a-z]+(\.gz)?)", below, re.DOTALL) is not None


def _folder_of(path: str | None) -> str | None:
    return None if path is None else str(path_of(path).parent)
