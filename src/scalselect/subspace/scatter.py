"""The scatter matrix ``Xc.T @ Xc`` and the mean of any number of representations, as sums that can be merged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.linalg import blas

from scalselect.subspace.blocks import check_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_PIECE_ROWS = 8192  # rows made float64 at once, so that memory is one piece and the scatter, whatever the block


def shift_from(block: NDArray[Any]) -> NDArray[np.float64]:
    """Return a shift near the mean of all representations: the mean of a first block, in the block's number type.

    Rounded to it, because the difference of two such numbers that lie close together is exact, and rows that are all
    equal differ from their shift by exactly zero.

    Parameters
    ----------
    block
        Representations, float32 or float64 [rows, hidden].

    Returns
    -------
    Float64 [hidden], each value a number of the block's type.

    Raises
    ------
    ValueError
        If the block has no rows or is not a block of finite representations.
    """
    check_block(block)
    if block.shape[0] == 0:
        raise ValueError("a shift needs a block of at least one row: 0 rows")
    mean: NDArray[np.float64] = block.mean(axis=0, dtype=np.float64)  # [hidden]
    return mean.astype(block.dtype).astype(np.float64)


class ScatterSums:
    """Number of rows, row sum and scatter matrix of representations, gathered block by block.

    All sums are float64 and about a fixed shift: the mean of raw representations is many times their spread, so
    sums of raw squares would lose the digits that the spread lives in.

    Parameters
    ----------
    shift
        A point near the mean, float64 [hidden]; see `shift_from`.

    Raises
    ------
    ValueError
        If the shift is not a finite vector.
    """

    def __init__(self, shift: NDArray[np.float64]) -> None:
        self._shift = np.array(shift, dtype=np.float64)  # [hidden]
        if self._shift.ndim != 1 or not np.isfinite(self._shift).all():
            raise ValueError(f"the shift must be one finite vector [hidden]: shape {list(self._shift.shape)}")
        hidden = self._shift.shape[0]
        self._rows = 0
        self._row_sum = np.zeros(hidden)  # [hidden], of x - shift
        # Only the upper triangle is kept up to date. Fortran order lets BLAS add to it in place.
        self._scatter = np.zeros((hidden, hidden), order="F")  # [hidden, hidden], of x - shift
        self._recentred = np.zeros(hidden)  # [hidden], squares that were moved from another shift to this one

    @property
    def shift(self) -> NDArray[np.float64]:
        """What the sums are about, float64 [hidden]."""
        return self._shift

    @property
    def hidden(self) -> int:
        """Number of feature dimensions."""
        return int(self._shift.shape[0])

    @property
    def rows(self) -> int:
        """Number of representations added."""
        return self._rows

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean representation, float64 [hidden]; raises ValueError when nothing was added."""
        return self._shift + self._mean_about_shift()

    def add(self, block: NDArray[Any]) -> None:
        """Add representations; on an error nothing is added.

        Parameters
        ----------
        block
            Float32 or float64 [rows, hidden].

        Raises
        ------
        ValueError
            If the block has another shape or number type, or a value that is not finite.
        """
        check_block(block, self.hidden)
        for piece in _pieces_about(block, self._shift):  # [piece, hidden]
            # One triangle costs half of a full product. The transpose of a C-ordered piece is not copied.
            self._scatter = blas.dsyrk(1.0, piece.T, beta=1.0, c=self._scatter, overwrite_c=True)
            self._row_sum += piece.sum(axis=0)
            self._rows += piece.shape[0]

    def merge(self, other: Self) -> None:
        """Add the representations that `other` has gathered, about whatever shift; `other` stays as it is.

        With c the difference of the two shifts, and S, r and n the scatter, row sum and row number of `other`,
        the scatter about this shift is ``S + r c^T + c r^T + n c c^T``, exactly.

        Raises
        ------
        ValueError
            If `other` has another number of feature dimensions.
        """
        if other.hidden != self.hidden:
            raise ValueError(f"sums of {other.hidden} dimensions cannot be merged into sums of {self.hidden}")
        offset = other._shift - self._shift  # [hidden]
        row_sum = other._row_sum + other._rows * offset
        recentred = other._recentred
        self._scatter += other._scatter
        if offset.any():
            recentred = recentred + np.diagonal(other._scatter) + other._rows * offset**2
            half = other._row_sum + 0.5 * other._rows * offset
            self._scatter = blas.dsyr2(1.0, half, offset, a=self._scatter, overwrite_a=True)
        self._recentred += recentred
        self._row_sum += row_sum
        self._rows += other._rows

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return all of it as arrays, for `from_arrays`: float64 [hidden], [1] or [hidden, hidden]."""
        return {
            "shift": self._shift,
            "count": np.array([self._rows], dtype=np.float64),
            "row_sum": self._row_sum,
            "scatter": self._scatter.T,  # in C order, as files have it
            "recentred": self._recentred,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float64]]) -> Self:
        """Return the sums that `arrays` returned."""
        sums = cls(arrays["shift"])
        sums._rows = int(arrays["count"][0])
        sums._row_sum = np.array(arrays["row_sum"])
        sums._scatter = np.asfortranarray(np.asarray(arrays["scatter"]).T)
        sums._recentred = np.array(arrays["recentred"])
        return sums

    def scatter_about(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the scatter matrix about a point: ``Xc.T @ Xc`` about the mean, ``X.T @ X`` about the origin.

        With c the shift less the point, and S, r and n the scatter, row sum and row number about the shift, it is
        ``S + r c^T + c r^T + n c c^T``. Where the point is the mean, c is ``-r / n`` and the result ``S - n c c^T``.

        Parameters
        ----------
        point
            Float64 [hidden].

        Returns
        -------
        Float64 [hidden, hidden], both triangles filled, in Fortran order; a copy.

        Raises
        ------
        ValueError
            If nothing was added.
        """
        self._mean_about_shift()  # refuses where there is nothing
        # Subtracting two large, nearly equal numbers would lose digits. About the mean the subtrahend is small: the
        # shift lies near it, so n c^2 is at most of the size of the scatter itself.
        offset = self._shift - point  # [hidden]
        half = self._row_sum + 0.5 * self._rows * offset
        scatter: NDArray[np.float64] = self._scatter.copy(order="F")
        scatter = blas.dsyr2(1.0, half, offset, a=scatter, overwrite_a=True)
        for column in range(self.hidden - 1):
            scatter[column + 1 :, column] = scatter[column, column + 1 :]
        return scatter

    def squares_about_mean(self) -> NDArray[np.float64]:
        """Return each column's sum of squares about its mean, float64 [hidden]; ValueError when nothing was added."""
        offset = self._mean_about_shift()  # [hidden]
        return np.diagonal(self._scatter) - self._rows * offset**2

    def rounding_of_squares(self) -> NDArray[np.float64]:
        """Bound the rounding error of `squares_about_mean`, float64 [hidden].

        Every addition loses at most half a unit in the last place of the sum so far: n rows lose n times that,
        in the squares and, twice, in the row sum that enters as a square. Doubled for merging.
        """
        summed = np.diagonal(self._scatter) + self._recentred  # [hidden]
        return 4.0 * self._rows * np.finfo(np.float64).eps * summed

    def _mean_about_shift(self) -> NDArray[np.float64]:
        if self._rows == 0:
            raise ValueError("no representations were added, so they have no mean")
        return self._row_sum / self._rows


def _pieces_about(block: NDArray[Any], shift: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield ``block - shift`` as float64 in C order, piece after piece in the same memory."""
    buffer = np.empty((min(block.shape[0], _PIECE_ROWS), block.shape[1]))  # [piece, hidden]
    for start in range(0, block.shape[0], _PIECE_ROWS):
        part = block[start : start + _PIECE_ROWS]  # [piece, hidden]
        yield np.subtract(part, shift, out=buffer[: part.shape[0]], dtype=np.float64)
