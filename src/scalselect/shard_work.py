"""One shard, from pool rows to published representations: read, prepare, first layer, pool, write.

The only loop over samples. It knows neither how a record is laid out nor how a model is built, and every engine
calls it the same way. Samples are taken by the images they show, so that what they share is computed once. Batches
depend on the shard's rows and the recorded settings alone.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from scalselect.account_checks import check_not_told_twice, check_shard
from scalselect.engines.processes import mark
from scalselect.image_files import PictureView
from scalselect.prepared_groups import GroupPreparation
from scalselect.records import Reason, RowRecord, UnusableRecord
from scalselect.sample_work import PreparationFacts, SampleWork, new_record, skipped
from scalselect.vlm.image_reuse import ImageFeatureCache
from scalselect.vlm.representation import Pooling
from scalselect.vlm.window import WindowPass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from scalselect.config import RepresentConfig
    from scalselect.dataset.joined_pool import JoinedPool
    from scalselect.dataset.pool import Pool
    from scalselect.records import Sample
    from scalselect.representation_store import RepresentationStore, ShardReport
    from scalselect.vlm.batches import PreparedSample
    from scalselect.vlm.checkpoint import Checkpoint
    from scalselect.vlm.settings import Settings

# Prepared samples held at a time: enough to find batches of like length, few enough to bound the memory.
_WINDOW_ROWS = 64
_WINDOW_BYTES = 512 * 2**20
_GROUP_ROWS = 32  # that show the same images and are prepared together


@dataclass(slots=True)
class _Shard:
    """What has been found of a shard so far, by row."""

    work: WindowPass
    records: dict[int, RowRecord] = field(default_factory=dict)
    vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    instruction_vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    window: list[tuple[RowRecord, PreparedSample]] = field(default_factory=list)
    window_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - began


@dataclass(frozen=True, slots=True, eq=False)
class ShardWork:
    """Represents shards of one pool with one checkpoint.

    Attributes
    ----------
    versions
        Library versions, written into each report.
    on_row
        Called after every finished row with its status.
    order
        Pool rows in the order of work, int64 [rows]; None for the order of the pool.
    first_row, first_shard
        Position of the pool's first row and number of its first shard: larger than 0 where the pool is a later segment
        of a run.
    preparation
        What makes groups of samples ready; its processes are kept from shard to shard, until `close`.
    """

    pool: Pool | JoinedPool
    checkpoint: Checkpoint
    store: RepresentationStore
    config: RepresentConfig
    settings: Settings
    versions: dict[str, str]
    on_row: Callable[[str], None] = lambda _status: None
    order: NDArray[np.int64] | None = None
    first_row: int = 0
    first_shard: int = 0
    preparation: GroupPreparation = field(init=False)

    def __post_init__(self) -> None:
        """Say how groups are made ready; processes are started when there are some."""
        work = SampleWork(
            self.checkpoint.preparer,
            PictureView.of(self.config),
            self.pool.embedded_image,
            mark,
            skip_oom=self.config.skip_oom,
        )
        preparation = GroupPreparation(
            work, processes=self.settings.dataloader_workers, seconds=self.config.sample_seconds
        )
        object.__setattr__(self, "preparation", preparation)

    def __len__(self) -> int:
        return len(self.pool)

    def close(self) -> None:
        """End the processes that make samples ready."""
        self.preparation.close()

    def __call__(self, shard: int) -> ShardReport:
        """Represent and publish a shard, or adopt it where somebody published it meanwhile.

        Raises
        ------
        ShardError
            If a single sample does not fit into the memory.
        """
        if self.store.is_published(shard):
            return self.store.report(shard)
        span = self._span(shard)
        rows: range | list[int] = span
        if self.order is not None:
            places = slice(span.start - self.first_row, span.stop - self.first_row)
            rows = np.sort(self.order[places]).tolist()
        state = _Shard(self._window_pass())
        with state.timed("read"):
            self.pool.check_unchanged()
            groups = self._groups(state, self.pool.samples_at(rows))
        with closing(self.preparation.results(groups)) as prepared_groups:
            while True:
                with state.timed("wait"):
                    prepared = next(prepared_groups, None)
                if prepared is None:
                    break
                self._take(state, *prepared)
        self._flush(state)
        return self._publish(shard, span, rows, state)

    @property
    def shards(self) -> range:
        """Numbers of the pool's shards."""
        return range(self.first_shard, self.first_shard - (-len(self.pool) // self.config.shard_size))

    def _span(self, shard: int) -> range:
        size = self.config.shard_size
        start = self.first_row + (shard - self.first_shard) * size
        return range(start, min(start + size, self.first_row + len(self.pool)))

    def _window_pass(self) -> WindowPass:
        reuse = self.config.image_reuse == "on"
        return WindowPass(
            checkpoint=self.checkpoint,
            pooling=Pooling(
                attention_mass=self.config.attention_mass if self.config.pooling == "attended" else None,
                instruction_vector=self.config.vectors == "vision+instruction",
            ),
            max_rows=self.settings.max_rows,
            max_tokens=self.settings.batch_tokens,
            # Of this shard alone: what a shard holds must not depend on which ones came before it.
            cache=ImageFeatureCache() if reuse else None,
            share_prefixes=reuse and self.checkpoint.shares_prefixes,
            skip_oom=self.config.skip_oom,
        )

    def _groups(self, state: _Shard, samples: Iterator[Sample | UnusableRecord]) -> list[list[Sample]]:
        """Return the samples that show images, those of the same images together; finish all other rows."""
        groups: dict[object, list[Sample]] = {}
        for sample in samples:
            if isinstance(sample, UnusableRecord):
                record = RowRecord(
                    identity=sample.identity,
                    status="skipped",
                    reason=sample.reason,
                    detail=sample.detail,
                    turns=sample.turns,
                    images=sample.images,
                )
                self._finish(state, record)
            elif sample.images:
                groups.setdefault(sample.images, []).append(sample)
            else:
                self._finish(state, new_record(sample))
        return [
            group[begin : begin + _GROUP_ROWS]
            for group in groups.values()
            for begin in range(0, len(group), _GROUP_ROWS)
        ]

    def _take(self, state: _Shard, samples: list[PreparedSample | None], facts: PreparationFacts) -> None:
        for stage, seconds in facts.seconds.items():
            state.seconds[stage] += seconds
        tensors: dict[int, int] = {}  # those that several samples share count once
        for record, sample in zip(facts.records, samples, strict=True):
            if sample is None:
                self._finish(state, record)
            else:
                state.window.append((record, sample))
                tensors |= {id(tensor): tensor.nbytes for tensor in sample.inputs.values()}
        state.window_bytes += sum(tensors.values())
        if len(state.window) >= _WINDOW_ROWS or state.window_bytes >= _WINDOW_BYTES:
            self._flush(state)

    def _flush(self, state: _Shard) -> None:
        """Run the model over the window."""
        with state.timed("model"):
            results = list(state.work.represent([sample for _, sample in state.window]))
        for place, result in results:
            if result is None:
                detail = f"memory ran out on {self.checkpoint.device} with this sample alone"
                self._finish(state, skipped(state.window[place][0], Reason.OUT_OF_MEMORY, detail))
                continue
            record = replace(
                state.window[place][0],
                kept_tokens=len(result.kept),
                cut_margin=result.cut_margin,
                uniform=result.uniform,
            )
            if result.finite:
                state.vectors[record.identity.row] = result.vector
                if result.instruction_vector is not None:
                    state.instruction_vectors[record.identity.row] = result.instruction_vector
            else:
                detail = "the model returned NaN or infinity; another --dtype may help"
                record = skipped(record, Reason.NOT_FINITE, detail)
            self._finish(state, record)
        state.window.clear()
        state.window_bytes = 0

    def _finish(self, state: _Shard, record: RowRecord) -> None:
        check_not_told_twice(record, state.records)
        state.records[record.identity.row] = record
        self.on_row(record.status)

    def _publish(self, shard: int, span: range, rows: range | list[int], state: _Shard) -> ShardReport:
        with state.timed("read"):
            self.pool.check_unchanged()
        if self.store.is_published(shard):  # by another process, meanwhile
            return self.store.report(shard)
        records = [state.records[row] for row in sorted(state.records)]
        check_shard(rows, records, len(state.vectors))
        both = self.config.vectors == "vision+instruction"
        instruction = self._stacked(state.instruction_vectors) if both else None
        cache = state.work.cache
        facts = {
            "seconds": {stage: round(seconds, 3) for stage, seconds in sorted(state.seconds.items())},
            "device": self.checkpoint.device.type,
            "split_batches": state.work.split_batches,
            "reuse": {
                "images_computed": cache.computed if cache else 0,
                "images_reused": cache.reused if cache else 0,
                "prefixes_reused": state.work.prefixes_reused,
            },
            "versions": self.versions,
        }
        return self.store.publish(
            shard,
            span,
            records,
            self._stacked(state.vectors),
            facts,
            rows=rows,
            instruction_representations=instruction,
            store_dtype=self.config.store_dtype,
        )

    def _stacked(self, vectors: dict[int, NDArray[np.float32]]) -> NDArray[np.float32]:
        if not vectors:
            return np.empty((0, self.checkpoint.hidden_size), dtype=np.float32)
        return np.stack([vectors[row] for row in sorted(vectors)])  # [scored, hidden]
