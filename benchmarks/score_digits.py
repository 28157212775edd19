"""What the gap of the spectrum and the storage type do to the last digits of scores, in one table.

``python benchmarks/score_digits.py [--rows 20000] [--quick]`` makes pools whose singular values k and k+1 lie apart
by a known gap, their mean 300 times as far from zero as they spread, and scores them: in float64 as they are, and as
the store keeps them in float32 and in float16. Beside each stands ``numpy.linalg.svd`` in float64. Digits are
compared, not time.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy
from threadpoolctl import threadpool_limits

from scalselect.stored_vectors import decode_vectors, encode_vectors
from scalselect.subspace.dominant import dominant_subspace
from scalselect.subspace.leverage import leverage_scores
from scalselect.subspace.scatter import ScatterSums, shift_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

GAPS = (1e-1, 1e-3, 1e-5, 1e-7)
RANK, BEYOND = 9, 40
SHARD_ROWS = 1000
MEAN_OVER_SPREAD = 300.0


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 1 where an error exceeds what the documentation promises."""
    parser = argparse.ArgumentParser(description="What gap and storage type do to the last digits of scores.")
    parser.add_argument("--rows", type=int, default=20_000, metavar="N", help="rows of each pool (default: 20000)")
    parser.add_argument("--hidden", type=int, default=512, metavar="D", help="dimensions (default: 512)")
    parser.add_argument("--quick", action="store_true", help="a tiny pool: shows only that the script runs")
    options = parser.parse_args(arguments)
    rows, hidden = (600, 64) if options.quick else (options.rows, options.hidden)
    words = " ".join(sys.argv[1:] if arguments is None else arguments)
    print(f"command   python benchmarks/score_digits.py {words}".rstrip())
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}"
    print(f"date      {dt.datetime.now(dt.UTC).date()}, {platform.machine()}, {versions}")
    print(f"pools     {rows:,} x {hidden}, mean {MEAN_OVER_SPREAD:.0f} times the spread, k = {RANK}, one thread")
    print("errors    largest relative error of a score\n")
    print("             beside an SVD of the same vectors        beside the float64 vectors' scores")
    print("s_k/s_k+1-1    float64    float32    float16              float32    float16")
    worst = 0.0
    with threadpool_limits(limits=1):
        for gap in GAPS:
            X = _pool(rows, hidden, gap)
            given = _svd_scores(X)
            stored = {"float32": X.astype(np.float32), "float16": np.concatenate([*_as_float16(X)])}
            own = {"float64": _difference(_scores(X), given)}
            own |= {kind: _difference(_scores(Y), _svd_scores(Y)) for kind, Y in stored.items()}
            lost = {kind: _difference(_svd_scores(Y), given) for kind, Y in stored.items()}
            first = "".join(f"{own[kind]:11.1e}" for kind in ("float64", "float32", "float16"))
            print(f"{gap:11.0e}{first}          {lost['float32']:11.1e}{lost['float16']:11.1e}")
            worst = max(worst, *(error * gap for error in own.values()))
    print(f"\nlargest error beside the SVD times the gap: {worst:.1e}")
    return int(worst > 1e-12)  # noqa: PLR2004  1e-10 down to a gap of a hundredth


def _pool(rows: int, hidden: int, gap: float) -> NDArray[np.float64]:
    """Return float64 [rows, hidden]: k values from 3 down to 1 + gap, then others from 1 on, far from zero."""
    rng = np.random.default_rng(0)
    s = np.concatenate([np.linspace(3.0, 1.0 + gap, RANK), np.linspace(1.0, 0.05, BEYOND)])
    U = np.linalg.qr(np.concatenate([np.ones((rows, 1)), rng.normal(size=(rows, s.size))], axis=1))[0][:, 1:]
    V = np.linalg.qr(rng.normal(size=(hidden, s.size)))[0]  # [hidden, k + beyond]
    X = (U * s) @ V.T
    direction = rng.normal(size=hidden)
    spread = np.sqrt((s**2).sum() / rows)
    far = MEAN_OVER_SPREAD * spread * direction / np.linalg.norm(direction)
    return np.asarray(X + far)


def _as_float16(X: NDArray[np.float64]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(X), SHARD_ROWS):
        vectors = X[start : start + SHARD_ROWS].astype(np.float32)  # as a model gives them
        stored = decode_vectors(encode_vectors(vectors, "representations", "float16"), "representations")
        assert stored is not None
        yield stored


def _scores(X: NDArray[Any]) -> NDArray[np.float64]:
    sums = ScatterSums(shift_from(X[:SHARD_ROWS]))
    for start in range(0, len(X), SHARD_ROWS):
        sums.add(X[start : start + SHARD_ROWS])
    return leverage_scores(X, dominant_subspace(sums, energy=0.9, rank=RANK))


def _svd_scores(X: NDArray[Any]) -> NDArray[np.float64]:
    centred = X.astype(np.float64)
    centred -= centred.mean(axis=0)
    U = np.linalg.svd(centred, full_matrices=False)[0][:, :RANK]  # [rows, k]
    return np.asarray((U**2).sum(axis=1))


def _difference(scores: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return float(np.abs(scores / expected - 1).max())


if __name__ == "__main__":
    sys.exit(main())
