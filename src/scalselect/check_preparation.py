"""Samples of a check made ready for a model that is not run: token lengths, what would be cut, and what is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from scalselect.sample_work import SampleWork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scalselect.dataset.pool import Pool
    from scalselect.image_files import PictureView
    from scalselect.records import RowRecord, Sample
    from scalselect.vlm.preparation import Preparation
    from scalselect.vlm.sample_preparer import SamplePreparer

_GROUP_ROWS = 32  # that show the same images and are prepared together


class PrepareSamples:
    """Opens the images of samples and makes model inputs of them, as a run does, in whole length.

    A row that is longer than the limit is prepared again within it, to know whether it is cut or cannot be used; its
    record keeps the whole length.
    """

    def __init__(self, preparation: Preparation, view: PictureView, max_length: int | None) -> None:
        self._preparation = preparation
        self._view = view
        self._max_length = max_length
        self._process = os.getpid()

    def __call__(self, samples: Sequence[Sample], pool: Pool, mark: Callable[[int], None]) -> Iterable[RowRecord]:
        """Return what was found of each sample, in order; neighbours of the same images share them."""
        if self._process != os.getpid():
            self._preparation.begin_in_a_fork()
            self._process = os.getpid()
        for _, same in groupby(samples, key=lambda sample: sample.images):
            group = list(same)
            for begin in range(0, len(group), _GROUP_ROWS):
                yield from self._records(group[begin : begin + _GROUP_ROWS], pool, mark)

    def _records(self, group: Sequence[Sample], pool: Pool, mark: Callable[[int], None]) -> Iterable[RowRecord]:
        mark(group[0].identity.row)  # while the images of all are opened
        _, facts = self._work(self._preparation.whole, group, pool, mark)(group)
        limit, limited = self._max_length, self._preparation.limited
        too_long = [
            sample
            for sample, record in zip(group, facts.records, strict=True)
            if limit is not None and record.tokens is not None and record.tokens > limit
        ]
        if not too_long or limited is None:
            return facts.records
        _, within = self._work(limited, too_long, pool, mark)(too_long)
        cut = {record.identity.row: record for record in within.records}
        return [_with_length(record, cut.get(record.identity.row)) for record in facts.records]

    def _work(
        self, preparer: SamplePreparer, group: Sequence[Sample], pool: Pool, mark: Callable[[int], None]
    ) -> SampleWork:
        return SampleWork(
            preparer,
            self._view,
            pool.embedded_image,
            lambda place: mark(group[place].identity.row),
            skip_oom=True,  # a row is told as one that would not fit
        )


def _with_length(whole: RowRecord, cut: RowRecord | None) -> RowRecord:
    if cut is None:
        return whole
    return replace(cut, tokens=whole.tokens, vision_tokens=whole.vision_tokens)
