"""Rows of a pool looked at one by one for `check`: what is wrong with each, what is to be known of all. No torch."""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from scalselect.dataset.file_rules import FieldKinds
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.dataset.record_fields import record_fields, row_identity
from scalselect.dataset.record_view import view_record
from scalselect.dataset.trainer_rules import Effect, effect_of, faults_for
from scalselect.errors import SampleError
from scalselect.records import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from scalselect.dataset.pool import Pool
    from scalselect.records import RowIdentity, RowRecord


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a row, or with a data set as a whole.

    Attributes
    ----------
    row, id
        Which row; None for a data set.
    kind
        A word of `scalselect.records.Reason`, or of `scalselect.dataset.trainer_rules`.
    effect
        What becomes of the row; see `Fault`.
    """

    row: int | None
    source: str
    id: str | None
    kind: str
    effect: Effect
    detail: str


@dataclass(slots=True)
class Findings:
    """What was found of some rows.

    Attributes
    ----------
    counts
        Rows, text-only rows, images, rows with a rotated or transparent image and so on, by word.
    ids
        A hash of every id, 0 for a row without one, uint64 [rows].
    kinds
        Types of the fields, for each data set by its number.
    tokens, vision_tokens
        Of the rows that were prepared for a model, int32 [prepared] each.
    first_row
        Position of the data set's first row in the pool.
    """

    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    ids: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    kinds: dict[int, FieldKinds] = field(default_factory=dict)
    tokens: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    vision_tokens: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    first_row: int = 0

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count."""
        if number:
            self.counts[name] = self.counts.get(name, 0) + number

    def tell(self, identity: RowIdentity, kind: str, effect: Effect, detail: str) -> None:
        """Add a problem of a row; the identity counts within its data set."""
        row = self.first_row + identity.row
        self.problems.append(Problem(row, identity.source, identity.id, kind, effect, detail))


class Examiner(Protocol):
    """Opens the images of samples, and whatever more is asked for."""

    def __call__(self, samples: Sequence[Sample], pool: Pool, mark: Callable[[int], None]) -> Iterable[RowRecord]:
        """Return what was found of samples, `skipped` with a reason where one cannot be used; of others maybe nothing.

        Parameters
        ----------
        samples
            Some with images, of one data set.
        pool
            The data set, for images that lie in it.
        mark
            Called with the row of a sample, counted in the data set, before it is looked at.
        """
        ...


class RowChecker:
    """Looks at ranges of rows. Picklable; in a forked process it opens the data for itself.

    Parameters
    ----------
    examine
        What is done to samples with images.
    like
        Trainer whose rules are applied, or None.
    mark
        Called with the row of the pool that is looked at next.
    """

    def __init__(
        self, pool: JoinedPool, examine: Examiner, like: str | None, mark: Callable[[int], None] = lambda _row: None
    ) -> None:
        self._pool = pool
        self._examine = examine
        self._like = like
        self._mark = mark
        self._process = os.getpid()

    def __call__(self, rows: range) -> Findings:
        """Return what is found of some rows. Raises DataChangedError."""
        if os.getpid() != self._process:  # open files are not to be shared: their positions would be
            self._pool, self._process = _reopened(self._pool), os.getpid()
        number = self._pool.part_of(rows.start)
        part, first = self._pool.parts[number], self._pool.rows_of(number).start  # looked at by itself: it is faster
        found = Findings(first_row=first)
        ids, shown = [], []
        for sample in part.read(rows.start - first, rows.stop - first):
            ids.append(_id_hash(sample.identity))
            if not isinstance(sample, Sample):
                found.tell(sample.identity, str(sample.reason), "skipped", sample.detail)
                found.count("unusable")
            elif sample.images:
                shown.append(sample)
                found.count("images", len(sample.images))
                found.count("images_in_front", sample.images_in_front)
            else:
                found.count("text_only")
        found.count("rows", len(ids))
        found.ids = np.array(ids, dtype=np.uint64)
        self._note_images(found, shown, part)
        if self._like is not None:
            self._note_rules(found, part, number, range(rows.start - first, rows.stop - first))
        found.problems.sort(key=lambda problem: problem.row or 0)  # stable: a row's own come first
        return found

    def _note_images(self, found: Findings, shown: Sequence[Sample], part: Pool) -> None:
        tokens = []
        for record in self._examine(shown, part, lambda row: self._mark(found.first_row + row)):
            found.count("image_bytes", sum(record.image_bytes))
            for name in ("exif_rotated", "alpha", "truncated", "escaped"):
                found.count(name, bool(getattr(record, name)))
            if record.tokens is not None and record.vision_tokens is not None:
                tokens.append((record.tokens, record.vision_tokens))
            if record.reason is not None:
                found.tell(
                    record.identity, str(record.reason), effect_of(record.reason, self._like), record.detail or ""
                )
        lengths = np.array(tokens, dtype=np.int32).reshape(-1, 2)
        found.tokens, found.vision_tokens = lengths[:, 0], lengths[:, 1]

    def _note_rules(self, found: Findings, part: Pool, number: int, rows: range) -> None:
        kinds = found.kinds[number] = FieldKinds()
        for row in rows:
            self._mark(row + found.first_row)
            try:
                fields = record_fields(part.raw(row))
                kinds.add(row + found.first_row, fields, part.record_format)
                view = view_record(fields, part.record_format)
                kinds.words.add(row + found.first_row, view)
                found.count("content_parts", any(turn.in_parts for turn in view.turns))
                faults = faults_for(str(self._like), view)
            except SampleError:
                continue  # told as what it is
            for fault in faults:
                found.tell(row_identity(row, part.source, fields), fault.kind, fault.effect, fault.detail)


def _id_hash(identity: RowIdentity) -> int:
    if identity.id is None:
        return 0
    spelled = f"{identity.id_type} {identity.id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(spelled, digest_size=8).digest()) or 1


def _reopened(pool: JoinedPool) -> JoinedPool:
    """Return the same pool with files of its own; what lies in memory stays shared."""
    parts = [part if part.container == "list" else pickle.loads(pickle.dumps(part)) for part in pool.parts]  # noqa: S301
    return JoinedPool(parts, first_row=pool.rows.start)
