"""The dominant subspace: the fewest right singular vectors that hold a given share of the energy (method, stage 2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg
from scipy.linalg import blas
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from scalselect.errors import WorkError
from scalselect.records import DominantSubspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from scalselect.subspace.scatter import ScatterSums

GAP_WARNING = 1e-3
DIMENSION_WARNING = 0.5

_FIRST_PART = 64  # eigenvectors asked for at first: covers what first decoder layers were seen to need
_FULL_BEYOND = 6  # the whole spectrum is cheaper once more than hidden / 6 eigenvectors are needed
_PRODUCTS_BELOW = 16  # up to hidden / 16 eigenvectors are found sooner by products with the matrix
_BASIS_OVER_TOP = 3  # vectors that this iteration keeps, over the eigenvectors asked for


def dominant_subspace(
    sums: ScatterSums,
    *,
    energy: float,
    rank: int | None = None,
    centring: bool = True,
    standardise: bool = False,
    normalised_rows: bool = False,
) -> DominantSubspace:
    """Find the smallest k whose first k squared singular values hold at least `energy` of their sum.

    The right singular vectors of the centred representations Xc are the eigenvectors of ``Xc.T @ Xc``, and its
    eigenvalues are the squared singular values; their sum is the trace, so the small ones need not be computed.

    Parameters
    ----------
    sums
        Sums over all representations.
    energy
        Share of the summed squared singular values to hold, between 0 and 1, both excluded.
    rank
        The k to take instead, whatever energy that holds; None: as `energy` says.
    centring
        Whether the mean is taken from the rows. (The method does.)
    standardise
        Whether every column is divided by its standard deviation about the mean. (The method does not.) A column
        that is constant stays as it is.
    normalised_rows
        Whether the sums are those of rows divided by their norms; recorded, and their rounding allowed for.

    Raises
    ------
    WorkError
        If there are fewer than two representations, all are equal up to rounding, or they span fewer than `rank`
        dimensions.
    ValueError
        If `energy` does not lie between 0 and 1, or `rank` is below 1.
    """
    if not 0.0 < energy < 1.0:
        raise ValueError(f"energy must lie between 0 and 1, both excluded: {energy}")
    if rank is not None and rank < 1:
        raise ValueError(f"rank must be at least 1: {rank}")
    spread = _spread(sums, normalised_rows=normalised_rows)  # [hidden]
    origin = sums.mean if centring else np.zeros(sums.hidden)  # [hidden]
    scatter = sums.scatter_about(origin)  # [hidden, hidden]
    scale = None
    if standardise:
        scale = np.where(spread > 0, np.sqrt(spread / sums.rows), 1.0)  # [hidden]
        scatter /= scale[:, None]
        scatter /= scale
    diagonal = np.diagonal(scatter).copy()  # [hidden]
    trace = float(diagonal.sum())
    values, vectors = _top_spectrum(scatter, trace, energy, rank)
    k = _rank(values, trace, energy, hidden=sums.hidden) if rank is None else rank
    spanned = np.count_nonzero(values > _zero_level(values, sums.hidden))
    if k > spanned:
        raise WorkError(f"rank asks for {k} dimensions and the {sums.rows} representations span only {spanned}")
    return DominantSubspace(
        mean=origin,
        basis=np.ascontiguousarray(vectors[:, :k]),  # [hidden, k]
        singular_values=np.sqrt(values[:k]),  # [k]
        energy=min(float(values[:k].sum()) / trace, 1.0),
        gap=_gap(values, k, hidden=sums.hidden),
        largest_dimension_energy=float(diagonal.max()) / trace,
        rows=sums.rows,
        spectrum=np.sqrt(values),  # [top]
        total_energy=trace,
        scale=scale,
        normalised_rows=normalised_rows,
    )


def _spread(sums: ScatterSums, *, normalised_rows: bool) -> NDArray[np.float64]:
    """Return each column's sum of squares about its mean [hidden], zero where it is no more than rounding."""
    if sums.rows < 2:  # noqa: PLR2004  one point spans nothing
        raise WorkError(
            f"a dominant subspace needs at least two representations: {sums.rows} "
            "(rows without one have a reason in representations/*.rows.parquet)"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        spread = sums.squares_about_mean()  # [hidden]
        rounding = sums.rounding_of_squares()  # [hidden]
    if not np.isfinite(spread).all():
        raise WorkError(
            "representations are so large that the sums of their squares overflow: divide all of them by one number, "
            "which changes no score"
        )
    if normalised_rows:  # rows of equal direction differ by the rounding of norm and quotient
        rounding += sums.rows * (4.0 * np.finfo(np.float64).eps * sums.mean) ** 2
    spread[spread <= rounding] = 0.0
    if not spread.any():
        raise WorkError(
            f"all {sums.rows} representations are equal, so no row stands out and there is no dominant subspace "
            "(one image in all rows or a model without its weights would do this; squares of differences below 1e-154 "
            "cannot be told from zero)"
        )
    return spread


def subspace_warnings(subspace: DominantSubspace) -> list[str]:
    """Return what a user should know before trusting scores on this subspace, one sentence each."""
    warnings = []
    if subspace.gap - 1.0 < GAP_WARNING:
        k = subspace.rank
        warnings.append(
            f"the dominant subspace is not unique: singular values {k} and {k + 1} nearly coincide "
            f"(s_{k} / s_{k + 1} - 1: {subspace.gap - 1.0:.2g}), so scores may differ between machines; "
            "another energy puts the cut elsewhere"
        )
    if subspace.largest_dimension_energy > DIMENSION_WARNING:
        warnings.append(
            f"one dimension of the {subspace.mean.shape[0]} holds {100 * subspace.largest_dimension_energy:.0f} % "
            "of the energy, so scores mostly measure that dimension alone"
        )
    return warnings


def _top_spectrum(
    scatter: NDArray[np.float64], trace: float, energy: float, rank: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest eigenvalues, descending [top], and their eigenvectors [hidden, top].

    `top` is grown until the energy, or the rank, is reached before the last eigenvalue, so that s_{k+1} is known.
    """
    hidden = scatter.shape[0]
    top = _FIRST_PART if rank is None else max(_FIRST_PART, rank + 1)
    while True:
        if top * _FULL_BEYOND > hidden:
            return _eigenpairs(scatter, hidden)
        values, vectors = _eigenpairs(scatter, top)
        if rank is not None or values[:-1].sum() / trace >= energy:
            return values, vectors
        # None of the eigenvalues still missing exceeds the last one known: that many more are needed at least.
        missing = (energy * trace - values.sum()) / max(values[-1], np.finfo(np.float64).tiny)
        top = max(4 * top, top + math.ceil(min(max(missing, 0.0), hidden)) + 1)


def _eigenpairs(scatter: NDArray[np.float64], top: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    hidden = scatter.shape[0]
    found = _eigenpairs_by_products(scatter, top) if top * _PRODUCTS_BELOW <= hidden else None
    if found is None:
        part = None if top == hidden else (hidden - top, hidden - 1)
        found = linalg.eigh(scatter, driver="evr", subset_by_index=part)
    values, vectors = found  # ascending
    # Rounding turns eigenvalues that are zero into small numbers of either sign.
    return np.clip(values[::-1], 0.0, None), vectors[:, ::-1]


def _eigenpairs_by_products(
    scatter: NDArray[np.float64], top: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the largest eigenvalues, ascending [top], and their eigenvectors [hidden, top], by Lanczos iteration.

    A few hundred products with the matrix, carried to the last digit, take a tenth of the time that making all of it
    tridiagonal takes at 4,096 dimensions. None where that does not converge, or where it has missed a copy of a
    repeated eigenvalue, which the iteration itself cannot see.
    """
    hidden = scatter.shape[0]
    start, other_start = np.random.default_rng(0).normal(size=(2, hidden))  # the same in every call

    def product(x: NDArray[np.float64]) -> Any:
        return blas.dsymv(1.0, scatter, x.ravel())  # [hidden]

    def product_without_found(x: NDArray[np.float64]) -> Any:
        return product(x) - vectors @ (values * (vectors.T @ x.ravel()))  # [hidden]

    def operator(matvec: Callable[[NDArray[np.float64]], Any]) -> LinearOperator:
        return LinearOperator((hidden, hidden), matvec=matvec, dtype=np.float64)

    try:
        values, vectors = eigsh(operator(product), k=top, which="LA", tol=0, v0=start, ncv=_BASIS_OVER_TOP * top)
        if np.trace(scatter) - values.sum() > values[0]:  # else none of those left can be larger than those found
            (left,) = eigsh(
                operator(product_without_found), k=1, which="LA", tol=1e-3, v0=other_start, return_eigenvectors=False
            )
            if left > values[0] + _zero_level(values[::-1], hidden):
                return None
    except ArpackError:
        return None
    return values, vectors


def _rank(values: NDArray[np.float64], trace: float, energy: float, *, hidden: int) -> int:
    """Return the smallest k whose share of the trace is at least `energy`, without eigenvalues that are zero."""
    # A share that equals the threshold is at least the threshold, on whichever side rounding has put it.
    slack = np.finfo(np.float64).eps * hidden
    short = np.cumsum(values) / trace < energy - slack  # [top]
    usable = np.count_nonzero(values > _zero_level(values, hidden))
    return int(min(np.count_nonzero(short) + 1, usable))


def _gap(values: NDArray[np.float64], rank: int, *, hidden: int) -> float:
    if rank == values.shape[0] or values[rank] <= _zero_level(values, hidden):
        return math.inf
    return math.sqrt(float(values[rank - 1] / values[rank]))


def _zero_level(values: NDArray[np.float64], hidden: int) -> float:
    """Return the level up to which an eigenvalue cannot be told from zero."""
    return float(np.finfo(np.float64).eps * hidden * values[0])
