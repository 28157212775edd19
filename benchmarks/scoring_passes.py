"""Leverage scores of a pool on disk: as this package finds them, as it is usually done, and the least work there is."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import linalg
from scipy.linalg import blas
from threadpoolctl import threadpool_limits

from peak_memory import with_peak
from scalselect.subspace.dominant import dominant_subspace
from scalselect.subspace.leverage import leverage_scores
from scalselect.subspace.scatter import ScatterSums, shift_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray


THREADS = 1
SHARD_ROWS = 1000
ENERGY = 0.9
_FACTORS, _DECAY, _NOISE, _MEAN = 96, 0.93, 0.05, 100.0  # in units of the spread along the first factor


class Cost(NamedTuple):
    """What one way cost in a process of its own.

    `seconds` and `cpu_seconds` by stage, `peak` in bytes above what was held just before.
    """

    seconds: dict[str, float]
    cpu_seconds: dict[str, float]
    peak: int
    rank: int = 0
    scores: NDArray[np.float64] | None = None


class Clock:
    """Seconds by the clock and of the CPU, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block."""
        begin, cpu_begin = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = time.perf_counter() - begin
        self.cpu_seconds[name] = time.process_time() - cpu_begin


def write_pool(folder: Path, rows: int, hidden: int, seed: int = 0) -> None:
    """Write a pool as shards of float32: a decaying spectrum, noise, and a mean many times the spread."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(_FACTORS, hidden)) * (_DECAY ** np.arange(_FACTORS))[:, None]  # [factors, hidden]
    factors = factors.astype(np.float32)
    mean = (_MEAN * rng.normal(size=hidden)).astype(np.float32)  # [hidden]
    for shard in range(rows // SHARD_ROWS):
        block = rng.standard_normal((SHARD_ROWS, _FACTORS), dtype=np.float32) @ factors
        block += np.float32(_NOISE) * rng.standard_normal((SHARD_ROWS, hidden), dtype=np.float32)
        np.save(folder / f"{shard:06d}.npy", block + mean)
    os.sync()  # what is not on the disk yet cannot leave the page cache


def blocks_of(folder: Path, rows: int, *, from_disk: bool = False) -> Iterator[NDArray[np.float32]]:
    """Yield the pool shard by shard; `from_disk`: not from the page cache, nor left in it.

    The page cache takes memory for a large pool and has it for a small one, which is no part of either's own time.
    """
    for shard in range(rows // SHARD_ROWS):
        with (folder / f"{shard:06d}.npy").open("rb") as file:
            if from_disk:
                _forget(file)
            yield np.load(file)
            if from_disk:
                _forget(file)


def _forget(file: IO[bytes]) -> None:
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def ours(
    folder: Path, rows: int, clock: Clock, *, keep: bool, from_disk: bool = False
) -> tuple[int, NDArray[np.float64] | None]:
    """Score as `scalselect score` does: the sums of all shards, the subspace, a second read."""
    with clock.stage("scatter"):
        sums = sums_of(blocks_of(folder, rows, from_disk=from_disk))
    with clock.stage("subspace"):
        subspace = dominant_subspace(sums, energy=ENERGY)
    del sums
    scores = []
    with clock.stage("projection"):
        for block in blocks_of(folder, rows, from_disk=from_disk):
            found = leverage_scores(block, subspace)
            if keep:
                scores.append(found)
    return subspace.rank, np.concatenate(scores) if keep else None


def sums_of(blocks: Iterator[NDArray[Any]]) -> ScatterSums:
    """Return the sums over all blocks, about the mean of the first."""
    first = next(blocks)
    sums = ScatterSums(shift_from(first))
    for block in chain([first], blocks):
        sums.add(block)
    return sums


def usual(folder: Path, rows: int, clock: Clock, *, keep: bool) -> tuple[int, NDArray[np.float64] | None]:
    """Score as it is usually done: everything in memory, one SVD for the rank and one for the scores, in float32."""
    with clock.stage("read"):
        blocks = list(blocks_of(folder, rows))
        X = np.concatenate(blocks)  # [rows, hidden]
        del blocks
        X -= X.mean(axis=0, dtype=np.float64)
    with clock.stage("first SVD"):
        _, s, _ = np.linalg.svd(X, full_matrices=False)
        k = int(np.argmax(np.cumsum(s**2) >= ENERGY * np.sum(s**2))) + 1
    with clock.stage("second SVD"):
        U, _, _ = np.linalg.svd(X, full_matrices=False)
        scores = np.sum(U[:, :k].astype(np.float64) ** 2, axis=1)  # [rows]
    return k, scores if keep else None


def limit(folder: Path, rows: int, clock: Clock, *, keep: bool) -> tuple[int, None]:
    """Read once and multiply, in float64: no scores can come of less."""
    del keep
    scatter: NDArray[np.float64] | None = None
    with clock.stage("dsyrk"):
        for block in blocks_of(folder, rows):
            if scatter is None:
                scatter = np.zeros((block.shape[1], block.shape[1]), order="F")
            scatter = blas.dsyrk(1.0, block.astype(np.float64).T, beta=1.0, c=scatter, overwrite_c=True)
    return 0, None


def exact(folder: Path, rows: int, clock: Clock, *, keep: bool) -> tuple[int, NDArray[np.float64] | None]:
    """Score by one SVD in float64 of everything in memory: what the others are held against."""
    with clock.stage("SVD"):
        X = np.concatenate([block.astype(np.float64) for block in blocks_of(folder, rows)])  # [rows, hidden]
        X -= X.mean(axis=0)
        U, s, _ = np.linalg.svd(X, full_matrices=False)
        k = int(np.argmax(np.cumsum(s**2) >= ENERGY * np.sum(s**2))) + 1
    return k, (U[:, :k] ** 2).sum(axis=1) if keep else None


def in_float32(folder: Path, rows: int, clock: Clock, *, keep: bool) -> tuple[int, NDArray[np.float64] | None]:
    """Score from products in float32; the stages are those of `ours`."""
    del keep
    return float32_scores(lambda: blocks_of(folder, rows), ENERGY, clock)


def float32_scores(
    blocks: Callable[[], Iterator[NDArray[np.float32]]], energy: float, clock: Clock | None = None
) -> tuple[int, NDArray[np.float64]]:
    """Return k and scores from the products of ``x - shift`` in float32, summed in float32 as well (ssyrk)."""
    clock = clock or Clock()
    with clock.stage("scatter"):
        stream = blocks()
        first = next(stream)
        shift = shift_from(first).astype(np.float32)  # [hidden]
        sums = np.zeros((first.shape[1], first.shape[1]), dtype=np.float32, order="F")  # upper triangle
        row_sum, rows = np.zeros(first.shape[1]), 0
        for block in chain([first], stream):
            piece = block - shift  # [block, hidden]
            sums = blas.ssyrk(1.0, piece.T, beta=1.0, c=sums, overwrite_c=True)
            row_sum += piece.sum(axis=0, dtype=np.float64)
            rows += len(piece)
    with clock.stage("subspace"):
        offset = row_sum / rows
        scatter = np.triu(sums).astype(np.float64) - rows * np.triu(np.outer(offset, offset))  # [hidden, hidden]
        values, vectors = linalg.eigh(scatter, lower=False)
        values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
        k = int(np.argmax(np.cumsum(values) >= energy * values.sum())) + 1
        whitening = vectors[:, :k] / np.sqrt(values[:k])  # [hidden, k]
    with clock.stage("projection"):
        scores = [(((block - (shift + offset)) @ whitening) ** 2).sum(axis=1) for block in blocks()]
    return k, np.concatenate(scores)


def near_degenerate_pool() -> tuple[NDArray[np.float32], int, float]:
    """Return a pool whose singular values k and k + 1 nearly coincide, float32 [rows, hidden], k, and an energy."""
    rng = np.random.default_rng(5)
    rows, hidden, k = 4000, 256, 10
    s = np.concatenate([np.linspace(3, 1 + 1e-5, k), np.linspace(1, 0.4, 5)])
    U = np.linalg.qr(np.concatenate([np.ones((rows, 1)), rng.normal(size=(rows, s.size))], axis=1))[0][:, 1:]
    V = np.linalg.qr(rng.normal(size=(hidden, s.size)))[0]
    X = (1e3 * (U * s) @ V.T + 30 * rng.normal(size=hidden)).astype(np.float32)
    return X, k, float((s[:k] ** 2).sum() / (s**2).sum()) - 1e-3


WAYS: dict[str, Callable[..., Any]] = {
    "ours": ours,
    "ours from disk": partial(ours, from_disk=True),
    "usual": usual,
    "limit": limit,
    "float32": in_float32,
    "exact": exact,
}


def cost_here(way: str, folder: Path, rows: int, *, keep: bool = False) -> Cost:
    """Run one way in this process, which should be a fresh one."""
    clock = Clock()
    with threadpool_limits(THREADS):
        some = np.ones((256, 256))
        blas.dsyrk(1.0, some)  # what the library sets up once is no way's own
        np.linalg.svd(some[:32])
        (rank, scores), peak = with_peak(lambda: WAYS[way](folder, rows, clock, keep=keep))
    return Cost(clock.seconds, clock.cpu_seconds, peak, rank, scores)
