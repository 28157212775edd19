"""One shard, from pool rows to published representations: read, batch, first layer, pool, write.

The only loop over samples. It knows neither how a record is laid out nor how a model is built, and every engine
calls it the same way. Batches depend on the shard's rows and the recorded settings alone.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from scalselect.errors import MisuseError, SampleError, ShardError
from scalselect.image_files import open_image
from scalselect.records import Reason, RowRecord, UnusableRecord
from scalselect.vlm.batches import is_out_of_memory, plan_batches
from scalselect.vlm.image_reuse import ImageFeatureCache
from scalselect.vlm.representation import Pooling, represent_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from scalselect.config import RepresentConfig
    from scalselect.dataset.pool import Pool
    from scalselect.image_files import DecodedImage
    from scalselect.records import ImageReference, Sample
    from scalselect.representation_store import RepresentationStore, ShardReport
    from scalselect.vlm.batches import PreparedSample
    from scalselect.vlm.checkpoint import Checkpoint
    from scalselect.vlm.settings import Settings

# Prepared samples held at a time: enough to find batches of like length, few enough to bound the memory.
_WINDOW_ROWS = 64
_WINDOW_BYTES = 512 * 2**20
_SHOWN_LENGTH = 200
_DETAIL_LENGTH = 600
_ADVICE = "give --image-max-pixels or --max-length to make samples smaller, or take the row out of the data"
_ADDRESS = re.compile("0x[0-9a-fA-F]{6,}")  # of objects, in messages of libraries: another one each time


@dataclass(slots=True)
class _Shard:
    """What has been found of a shard so far, by row."""

    records: dict[int, RowRecord] = field(default_factory=dict)
    vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    instruction_vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    window: list[tuple[RowRecord, PreparedSample]] = field(default_factory=list)
    window_bytes: int = 0
    cache: ImageFeatureCache | None = None
    splits: int = 0
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
    """

    pool: Pool
    checkpoint: Checkpoint
    store: RepresentationStore
    config: RepresentConfig
    settings: Settings
    versions: dict[str, str]
    on_row: Callable[[str], None] = lambda _status: None

    def __call__(self, shard: int) -> ShardReport:
        """Represent and publish a shard, or adopt it where somebody published it meanwhile.

        Raises
        ------
        ShardError
            If a single sample does not fit into the memory.
        """
        if self.store.is_published(shard):
            return self.store.report(shard)
        self.pool.check_unchanged()
        size = self.config.shard_size
        span = range(shard * size, min((shard + 1) * size, len(self.pool)))
        # Of this shard alone: what a shard holds must not depend on which ones came before it.
        state = _Shard(cache=ImageFeatureCache() if self.config.image_reuse == "on" else None)
        samples = self.pool.read(span.start, span.stop)
        while True:
            with state.timed("read"):
                sample = next(samples, None)
            if sample is None:
                break
            self._take(state, sample)
        self._flush(state)
        return self._publish(shard, span, state)

    def _take(self, state: _Shard, sample: Sample | UnusableRecord) -> None:
        if isinstance(sample, UnusableRecord):
            self._finish(
                state,
                RowRecord(
                    identity=sample.identity,
                    status="skipped",
                    reason=sample.reason,
                    detail=sample.detail,
                    turns=sample.turns,
                    images=sample.images,
                ),
            )
            return
        record = RowRecord(
            identity=sample.identity,
            status="text_only",
            turns=len(sample.turns),
            images=len(sample.images),
            text_sha256=sample.text_sha256,
            images_in_front=sample.images_in_front,
        )
        if not sample.images:
            self._finish(state, record)
            return
        try:
            record, prepared = self._prepare(state, sample, record)
        except SampleError as error:
            self._finish(state, _skipped(record, error.reason, error.detail))
            return
        except (MisuseError, OSError):
            raise  # concerns every sample
        except Exception as error:
            if is_out_of_memory(error):
                row = record.identity.row
                raise ShardError(f"memory ran out while row {row} was made ready: {_ADVICE}") from error
            # A bad sample costs itself only, whatever a decoder or a processor makes of it.
            self._finish(state, _skipped(record, Reason.PREPARATION_FAILED, f"{type(error).__name__}: {error}"))
            return
        state.window.append((record, prepared))
        state.window_bytes += prepared.nbytes
        if len(state.window) >= _WINDOW_ROWS or state.window_bytes >= _WINDOW_BYTES:
            self._flush(state)

    def _prepare(self, state: _Shard, sample: Sample, record: RowRecord) -> tuple[RowRecord, PreparedSample]:
        with state.timed("decode"):
            images = [self._open(image) for image in sample.images]
        record = replace(
            record,
            image_sha256=tuple(image.sha256 for image in images),
            image_bytes=tuple(image.bytes for image in images),
            exif_rotated=any(image.exif_rotated for image in images),
            alpha=any(image.alpha for image in images),
        )
        with state.timed("preprocess"):
            # Files of the same bytes may still be shown turned or not, but that is one option for the whole run.
            pictures, keys = [image.picture for image in images], [image.sha256 for image in images]
            prepared = self.checkpoint.preparer.prepare(sample, pictures, keys)
        record = replace(
            record,
            status="scored",
            tokens=prepared.tokens,
            vision_tokens=len(prepared.vision),
            truncated=prepared.truncated,
            escaped=prepared.escaped,
        )
        return record, prepared

    def _open(self, image: ImageReference) -> DecodedImage:
        try:
            return open_image(image.path, exif=self.config.exif)
        except SampleError as error:
            # Named as in the record: where the data lie must not change what is written.
            raise SampleError(error.reason, f"`{image.text[-_SHOWN_LENGTH:]}`: {error.detail}") from error

    def _flush(self, state: _Shard) -> None:
        """Run the model over the window, in batches of like length."""
        batches = plan_batches(
            [prepared.length for _, prepared in state.window],
            max_rows=self.settings.max_rows,
            max_tokens=self.settings.batch_tokens,
        )
        for batch in batches:
            with state.timed("model"):
                results, splits = represent_samples(
                    self.checkpoint,
                    [state.window[i][1] for i in batch],
                    self._pooling(),
                    cache=state.cache,
                )
            state.splits += splits
            for i, result in zip(batch, results, strict=True):
                record = replace(
                    state.window[i][0],
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
                    record = _skipped(record, Reason.NOT_FINITE, detail)
                self._finish(state, record)
        state.window.clear()
        state.window_bytes = 0

    def _finish(self, state: _Shard, record: RowRecord) -> None:
        state.records[record.identity.row] = record
        self.on_row(record.status)

    def _publish(self, shard: int, span: range, state: _Shard) -> ShardReport:
        self.pool.check_unchanged()
        if self.store.is_published(shard):  # by another process, meanwhile
            return self.store.report(shard)
        records = [state.records[row] for row in sorted(state.records)]
        both = self.config.vectors == "vision+instruction"
        instruction = self._stacked(state.instruction_vectors) if both else None
        facts = {
            "seconds": {stage: round(seconds, 3) for stage, seconds in sorted(state.seconds.items())},
            "device": self.checkpoint.device.type,
            "split_batches": state.splits,
            "versions": self.versions,
        }
        return self.store.publish(
            shard, span, records, self._stacked(state.vectors), facts, instruction_representations=instruction
        )

    def _pooling(self) -> Pooling:
        return Pooling(
            attention_mass=self.config.attention_mass if self.config.pooling == "attended" else None,
            instruction_vector=self.config.vectors == "vision+instruction",
        )

    def _stacked(self, vectors: dict[int, NDArray[np.float32]]) -> NDArray[np.float32]:
        if not vectors:
            return np.empty((0, self.checkpoint.hidden_size), dtype=np.float32)
        return np.stack([vectors[row] for row in sorted(vectors)])  # [scored, hidden]


def _skipped(record: RowRecord, reason: Reason, detail: str) -> RowRecord:
    return replace(record, status="skipped", reason=reason, detail=_ADDRESS.sub("0x...", detail)[:_DETAIL_LENGTH])
