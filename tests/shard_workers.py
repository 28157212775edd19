"""Workers that represent shards with made-up vectors and no model, for tests of who represents what."""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace

import numpy as np

from scalselect.progress import Silent
from scalselect.segments import next_segment
from scalselect.shard_worker import ShardWorker
from scalselect.workforce import OneProcess
from small_shards import FACTS, scored

SHARD_SIZE = 3


def segment_of(shards):
    """Return the one segment of a run of so many shards."""
    return next_segment(
        None,
        path=None,
        source="pool",
        images="",
        rows=shards * SHARD_SIZE,
        shard_size=SHARD_SIZE,
        data_sha256="",
        data_bytes=0,
        data_records=shards * SHARD_SIZE,
        data_format="llava",
    )


def publish(folder, shard):
    """Publish a shard as a worker does."""
    span = range(shard * SHARD_SIZE, (shard + 1) * SHARD_SIZE)
    vectors = np.random.default_rng(shard).normal(size=(SHARD_SIZE, 4)).astype(np.float32)
    return folder.store.publish(shard, span, [scored(row) for row in span], vectors, FACTS)


class ModelFree(ShardWorker):
    """A worker whose shards are made up; `before` is called with the number of each that it represents."""

    def __init__(self, folder, before=lambda _shard: None):
        model = SimpleNamespace(settings=None, config=None, at_work=contextlib.nullcontext)
        super().__init__(folder, model)
        self.before = before
        self.represented = []

    def _work_on(self, _segment, _pool):
        def work(shard):
            self.before(shard)
            self.represented.append(shard)
            return publish(self._folder, shard)

        work.close = lambda: None
        return work


def force_of(folder, rank=None, before=lambda _shard: None):
    """Return one process that represents the shards of a run, and its worker."""
    worker = ModelFree(folder, before)
    worker.open([(None, None)])
    return OneProcess(folder, worker, None, rank), worker


class Telling(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.said = []
        self.counted = []

    def say(self, line):
        self.said.append(line)

    def start(self, total, done, skipped):
        self.started = (total, done, skipped)

    def rows(self, counts):
        self.counted.append(sum(counts.values()))


def together(works):
    """Run functions at the same time; raise what one of them raised."""
    errors = []

    def guarded(work):
        try:
            work()
        except BaseException as error:  # noqa: BLE001  raised below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    for error in errors:
        raise error
