"""The second road: stage 2 written plainly with numpy.linalg.svd in float64, and pools with a known spectrum."""

from __future__ import annotations

import numpy as np


def svd_scores(X, energy):
    """Return leverage scores [rows], k and all singular values."""
    X = np.asarray(X, dtype=np.float64)
    U, s, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    k = int(np.argmax(np.cumsum(s**2) / np.sum(s**2) >= energy)) + 1
    return np.sum(U[:, :k] ** 2, axis=1), k, s


def pool_of_spectrum(rng, rows, hidden, singular_values):
    """Return centred float64 [rows, hidden] whose singular values are exactly those given, up to rounding."""
    k = len(singular_values)
    with_ones = np.concatenate([np.ones((rows, 1)), rng.normal(size=(rows, k))], axis=1)
    U = np.linalg.qr(with_ones)[0][:, 1:]  # orthogonal to the ones, so every column has mean zero
    V = np.linalg.qr(rng.normal(size=(hidden, k)))[0]
    return (U * singular_values) @ V.T


def low_rank_pool(rng, rows, hidden, rank=5, noise=0.1):
    """Return float32 [rows, hidden]: low rank plus noise."""
    weights = np.linspace(3.0, 1.0, rank)
    X = (rng.normal(size=(rows, rank)) * weights) @ rng.normal(size=(rank, hidden))
    return (X + noise * rng.normal(size=(rows, hidden))).astype(np.float32)
