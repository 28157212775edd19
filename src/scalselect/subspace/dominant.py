"""The dominant subspace: the fewest right singular vectors that hold a given share of the energy (method, stage 2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from scalselect.errors import WorkError
from scalselect.records import DominantSubspace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.subspace.scatter import ScatterSums

GAP_WARNING = 1e-3
DIMENSION_WARNING = 0.5

_FIRST_PART = 64  # eigenvectors asked for at first: covers what first decoder layers were seen to need
_FULL_BEYOND = 6  # the whole spectrum is cheaper once more than hidden / 6 eigenvectors are needed


def dominant_subspace(sums: ScatterSums, *, energy: float) -> DominantSubspace:
    """Find the smallest k whose first k squared singular values hold at least `energy` of their sum.

    The right singular vectors of the centred representations Xc are the eigenvectors of ``Xc.T @ Xc``, and its
    eigenvalues are the squared singular values; their sum is the trace, so the small ones need not be computed.

    Parameters
    ----------
    sums
        Sums over all representations.
    energy
        Share of the summed squared singular values to hold, between 0 and 1, both excluded.

    Raises
    ------
    WorkError
        If there are fewer than two representations, or all are equal up to rounding.
    ValueError
        If `energy` does not lie between 0 and 1.
    """
    if not 0.0 < energy < 1.0:
        raise ValueError(f"energy must lie between 0 and 1, both excluded: {energy}")
    if sums.rows < 2:  # noqa: PLR2004  one point spans nothing
        raise WorkError(
            f"a dominant subspace needs at least two representations: {sums.rows} "
            "(check in the rows' reasons why the others were skipped)"
        )
    scatter = sums.scatter_about_mean()  # [hidden, hidden]
    diagonal = np.diagonal(scatter).copy()  # [hidden]
    if (diagonal <= sums.rounding_of_diagonal()).all():
        raise WorkError(
            f"all {sums.rows} representations are equal, so no row stands out and there is no dominant subspace "
            "(check that the rows show different images, and that the model's weights were loaded)"
        )
    trace = float(diagonal.sum())
    values, vectors = _top_spectrum(scatter, trace, energy)
    rank = _rank(values, trace, energy, hidden=sums.hidden)
    singular_values = np.sqrt(values[:rank])  # [k]
    return DominantSubspace(
        mean=sums.mean,
        basis=np.ascontiguousarray(vectors[:, :rank]),  # [hidden, k]
        singular_values=singular_values,
        energy=min(float(values[:rank].sum()) / trace, 1.0),
        gap=_gap(values, rank, hidden=sums.hidden),
        largest_dimension_energy=float(diagonal.max()) / trace,
        rows=sums.rows,
        spectrum=np.sqrt(values),  # [top]
        total_energy=trace,
    )


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
    scatter: NDArray[np.float64], trace: float, energy: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest eigenvalues, descending [top], and their eigenvectors [hidden, top].

    `top` is grown until the energy is reached before the last eigenvalue, so that s_{k+1} is known.
    """
    hidden = scatter.shape[0]
    top = _FIRST_PART
    while True:
        if top * _FULL_BEYOND > hidden:
            return _eigenpairs(scatter, hidden)
        values, vectors = _eigenpairs(scatter, top)
        if values[:-1].sum() / trace >= energy:
            return values, vectors
        # None of the eigenvalues still missing exceeds the last one known: that many more are needed at least.
        missing = (energy * trace - values.sum()) / max(values[-1], np.finfo(np.float64).tiny)
        top = max(4 * top, top + math.ceil(min(max(missing, 0.0), hidden)) + 1)


def _eigenpairs(scatter: NDArray[np.float64], top: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    hidden = scatter.shape[0]
    part = None if top == hidden else (hidden - top, hidden - 1)
    values, vectors = linalg.eigh(scatter, driver="evr", subset_by_index=part)  # ascending
    # Rounding turns eigenvalues that are zero into small numbers of either sign.
    return np.clip(values[::-1], 0.0, None), vectors[:, ::-1]


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
