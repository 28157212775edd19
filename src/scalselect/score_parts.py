"""The two passes of stage 2 over the store, in parts that can be done anywhere, and what these leave for one another.

A part is a fixed range of shards, so that sums are always added in the same order. Where one process scores, it goes
from part to part and no file is needed. Several leave what they find below `scoring/` of the run folder, where whoever
puts it together reads it; it is removed once the scores are written.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from scalselect.storage import publish_bytes, remove_tree
from scalselect.subspace.blocks import normalised
from scalselect.subspace.leverage import as_written, coordinates_of
from scalselect.subspace.scatter import ScatterSums, shift_from
from scalselect.subspace_file import read_subspace, write_subspace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from scalselect.config import ScoreConfig
    from scalselect.records import DominantSubspace
    from scalselect.run_folder import RunFolder
    from scalselect.stored_vectors import Kind

Step = Literal["representations", "instruction_representations", "projection"]

_SHARDS_A_PART = 16  # at least: merging costs as much as adding some hundred rows
_MOST_PARTS = 256  # each leaves a matrix of hidden x hidden numbers behind


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """What the dominant subspaces say of some rows.

    Attributes
    ----------
    rows, leverage, norms, coordinates
        Pool positions, int64 [scored]; leverage scores as written, float64 [scored]; lengths of the centred vectors,
        float32 [scored]; whitened coordinates, float32 [scored, k].
    instruction_rows, instruction
        Positions of the rows with an instruction vector, int64 [asked], and its coordinates, float32 [asked, k'];
        empty where there is no such subspace.
    """

    rows: NDArray[np.int64]
    leverage: NDArray[np.float64]
    norms: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    instruction_rows: NDArray[np.int64]
    instruction: NDArray[np.float32]


class ScoreParts:
    """The parts of one scoring: the shards of a run with the options of stage 2.

    Parameters
    ----------
    inputs
        What the scores are made from: parts of another scoring count for nothing.
    """

    def __init__(self, folder: RunFolder, shards: range, config: ScoreConfig, inputs: Mapping[str, Any]) -> None:
        self._store = folder.store
        self._shards = shards
        self._normalise = config.normalise_rows == "on"
        key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = folder.scoring / key
        self._size = max(_SHARDS_A_PART, -(-len(shards) // _MOST_PARTS))
        self._shifts: dict[str, NDArray[np.float64] | None] = {}
        self._subspaces: list[DominantSubspace | None] | None = None

    def __len__(self) -> int:
        return math.ceil(len(self._shards) / self._size)

    def is_published(self, step: Step, part: int) -> bool:
        """Tell whether a part was done and left as a file."""
        return self._path(step, part).exists()

    def publish(self, step: Step, part: int) -> None:
        """Do a part and leave what it says as a file, unless that is there."""
        if self.is_published(step, part):
            return
        if step == "projection":
            found = self._projected(part)
            arrays: dict[str, NDArray[Any]] = {name: getattr(found, name) for name in Projection.__slots__}
        else:
            rows, sums = self._summed(step, part)
            arrays = {"rows": rows, **({} if sums is None else sums.arrays())}
        path = self._path(step, part)
        path.parent.mkdir(parents=True, exist_ok=True)
        publish_bytes(path, safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in arrays.items()}))

    def sums(self, kind: Kind, *, last: bool) -> Iterator[tuple[NDArray[np.int64], ScatterSums | None]]:
        """Yield pool positions, int64 [part], and sums of the vectors of each part, in order; None where it has none.

        What was left as a file is read.

        Parameters
        ----------
        last
            Whether nobody else reads the files: each is removed when the next one is asked for.
        """
        for part in range(len(self)):
            stored = self._read(kind, part)
            if stored is None:
                yield self._summed(kind, part)
                continue
            yield stored["rows"], ScatterSums.from_arrays(stored) if "shift" in stored else None
            if last:
                self._path(kind, part).unlink(missing_ok=True)

    def write_subspaces(self, subspaces: list[DominantSubspace | None]) -> None:
        """Leave the subspaces for the projection: that of the representations, and of the instruction vectors."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, subspace in zip(get_args(Step), subspaces, strict=False):
            if subspace is not None:
                write_subspace(self.folder / f"{name}.subspace", subspace, {})
        publish_bytes(self.folder / "subspaces.done", b"")

    def read_subspaces(self) -> list[DominantSubspace | None] | None:
        """Return what `write_subspaces` left; None where it is not there, or not yet."""
        if not (self.folder / "subspaces.done").exists():
            return None
        return [read_subspace(self.folder / f"{name}.subspace") for name in get_args(Step)[:2]]

    def projections(self, subspaces: list[DominantSubspace | None]) -> Iterator[Projection]:
        """Yield what subspaces say of the rows, in order, a shard or a part at a time."""
        self._subspaces = subspaces
        for part in range(len(self)):
            stored = self._read("projection", part)
            if stored is None:
                yield from self._projected_shards(part)
            else:
                yield Projection(**stored)

    def remove(self) -> None:
        """Remove everything that was left for this scoring and for others."""
        remove_tree(self.folder.parent)

    def _part(self, part: int) -> range:
        return self._shards[part * self._size : (part + 1) * self._size]

    def _path(self, step: Step, part: int) -> Path:
        return self.folder / f"{step}-{part:05d}.safetensors"

    def _read(self, step: Step, part: int) -> dict[str, NDArray[Any]] | None:
        try:
            return cast("dict[str, NDArray[Any]]", safetensors.numpy.load(self._path(step, part).read_bytes()))
        except (FileNotFoundError, NotADirectoryError, SafetensorError):
            return None

    def _blocks(self, kind: Kind, shards: range) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        for rows, stored in self._store.blocks(shards, kind):
            yield rows, normalised(stored) if self._normalise else stored

    def _shift(self, kind: Kind) -> NDArray[np.float64] | None:
        """Return what all sums are about: the mean of the first vectors there are; None where there are none."""
        if kind not in self._shifts:
            first = next(self._blocks(kind, self._shards), None)
            self._shifts[kind] = None if first is None else shift_from(first[1])
        return self._shifts[kind]

    def _summed(self, kind: Kind, part: int) -> tuple[NDArray[np.int64], ScatterSums | None]:
        sums: ScatterSums | None = None
        places = [np.empty(0, dtype=np.int64)]
        for rows, block in self._blocks(kind, self._part(part)):
            if sums is None:
                sums = ScatterSums(cast("NDArray[np.float64]", self._shift(kind)))  # there are vectors: these
            sums.add(block)
            places.append(rows)
        return np.concatenate(places), sums

    def _projected_shards(self, part: int) -> Iterator[Projection]:
        vision, instruction = self._known_subspaces()
        if vision is None:
            return
        for shard in self._part(part):
            one = range(shard, shard + 1)
            rows, leverage, coordinates, norms = _of(self._store.blocks(one), vision)
            if instruction is None:
                asked, second = rows[:0], np.empty((0, 0), dtype=np.float32)
            else:
                blocks = self._store.blocks(one, "instruction_representations")
                asked, _, second, _ = _of(blocks, instruction)
            yield Projection(rows, leverage, norms, coordinates, asked, second)

    def _projected(self, part: int) -> Projection:
        found = list(self._projected_shards(part))
        return Projection(*(np.concatenate([getattr(one, name) for one in found]) for name in Projection.__slots__))

    def _known_subspaces(self) -> list[DominantSubspace | None]:
        if self._subspaces is None:
            self._subspaces = self.read_subspaces()
            if self._subspaces is None:
                raise FileNotFoundError(f"the subspaces of this scoring are gone: {self.folder}")
        return self._subspaces


def _of(
    blocks: Iterator[tuple[NDArray[np.int64], NDArray[Any]]], subspace: DominantSubspace
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Return positions, leverage scores, coordinates and norms of the vectors of a shard, which may have none."""
    for rows, block in blocks:
        leverage, coordinates, norms = coordinates_of(block, subspace)
        return rows, as_written(leverage), coordinates.astype(np.float32), norms.astype(np.float32)
    none = np.empty(0, dtype=np.float32)  # [0]
    return np.empty(0, dtype=np.int64), none.astype(np.float64), np.empty((0, subspace.rank), dtype=np.float32), none
