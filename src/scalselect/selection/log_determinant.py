"""What one more row adds to the log-determinant of the chosen rows: the state behind the strategy `d-optimal`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_SPANNED = 1e-12  # squared residual, over the largest squared norm, below which a row lies in the span (float32 rows)
_STALE = 0.1  # gains that fell to this share are computed anew: subtraction has cost them a digit
_BLOCK = 2**21  # numbers at a time


class LogDeterminantGains:
    """The gain of every vector z, given the vectors chosen so far: greedy D-optimality without a ridge.

    ``log det(lambda I + sum z z^T)`` in the limit of a vanishing lambda. While the chosen vectors do not span all
    vectors, the gain grows with the squared norm of what is left of z beside their span (pivoted QR). Afterwards it
    is ``log(1 + z^T A^-1 z)`` with ``A`` the sum over the chosen vectors. `values` holds what decides, the squared
    residual norm or ``z^T A^-1 z``. In both phases a choice takes ``(d . z)^2`` from every value, with one
    direction d: values only fall, so those of `refresh` are upper bounds of later ones.

    Parameters
    ----------
    vectors
        Float32 [vectors, k].
    chosen
        Vectors chosen beforehand, float32 [chosen, k].
    """

    def __init__(self, vectors: NDArray[np.float32], chosen: NDArray[np.float32]) -> None:
        self._vectors = vectors
        width = vectors.shape[1]
        self._scatter = np.zeros((width, width))  # [k, k] A
        for block in _float64_blocks(chosen):
            self._scatter += block.T @ block
        self._basis = np.empty((width, 0))  # [k, rank] orthonormal, of the span of the chosen vectors
        self._inverse: NDArray[np.float64] | None = None  # [k, k] pseudo-inverse of A, once the span is full
        self._directions: list[NDArray[np.float64]] = []
        self.values = np.concatenate([np.einsum("ij,ij->i", b, b) for b in _float64_blocks(vectors)] or [np.empty(0)])
        self._spanned = _SPANNED * float(self.values.max(initial=0.0))
        if len(chosen):
            eigenvalues, eigenvectors = scipy.linalg.eigh(self._scatter)
            self._basis = eigenvectors[:, eigenvalues > self._spanned]
        self._compute()

    def refresh(self) -> None:
        """Bring `values` up to date with the choices made, float64 [vectors]."""
        directions, self._directions = self._directions, []
        if len(directions) >= self._vectors.shape[1]:  # computing anew is less work, then
            self._compute()
            return
        if directions:
            self._subtract(np.stack(directions, axis=1))
        if self.is_over(float(self.values.max(initial=0.0))):
            self._compute()
        elif self._inverse is not None:
            self._invert()

    def choose(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """Count a vector as chosen, float64 [k]; return the direction d of its choice, float64 [k]."""
        self._scatter += np.outer(vector, vector)
        if self._inverse is None:
            direction = vector - self._basis @ (self._basis.T @ vector)
            direction -= self._basis @ (self._basis.T @ direction)  # once more: what rounding left
            direction /= np.linalg.norm(direction)
            self._basis = np.column_stack((self._basis, direction))
        else:
            step = self._inverse @ vector
            direction = step / np.sqrt(1.0 + vector @ step)
            self._inverse -= np.outer(direction, direction)
        self._directions.append(direction)
        return direction

    def is_over(self, best: float) -> bool:
        """Say whether values whose largest is `best` cannot be updated further and need a `refresh`.

        So it is at the end of the first phase, and where subtraction has cost the values a digit.
        """
        return best < _STALE * self._top or (self._inverse is None and best <= self._spanned)

    def _compute(self) -> None:
        """Compute the values anew, in the second phase if the first has come to its end."""
        if self._inverse is None:
            for start, block in _numbered_blocks(self._vectors):
                residual = block - (block @ self._basis) @ self._basis.T
                self.values[start : start + len(block)] = np.einsum("ij,ij->i", residual, residual)
        if self._inverse is not None or self.values.max(initial=0.0) <= self._spanned:
            root = self._invert()
            for start, block in _numbered_blocks(self._vectors):
                whitened = block @ root
                self.values[start : start + len(block)] = np.einsum("ij,ij->i", whitened, whitened)
        self._top = float(self.values.max(initial=0.0))

    def _invert(self) -> NDArray[np.float64]:
        """Set the inverse of A on the span from A itself; return a root of it, float64 [k, rank]."""
        eigenvalues, eigenvectors = scipy.linalg.eigh(self._basis.T @ self._scatter @ self._basis)
        smallest = np.finfo(np.float64).eps * eigenvalues.max(initial=0.0)
        root: NDArray[np.float64] = (self._basis @ eigenvectors) / np.sqrt(np.maximum(eigenvalues, smallest))
        self._inverse = root @ root.T
        return root

    def _subtract(self, directions: NDArray[np.float64]) -> None:
        for start, block in _numbered_blocks(self._vectors):
            along = block @ directions  # [block, choices]
            part = self.values[start : start + len(block)]
            part -= np.einsum("ij,ij->i", along, along)
            np.maximum(part, 0.0, out=part)


def _float64_blocks(vectors: NDArray[np.float32]) -> Iterator[NDArray[np.float64]]:
    for _, block in _numbered_blocks(vectors):
        yield block


def _numbered_blocks(vectors: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    rows = max(1, _BLOCK // vectors.shape[1])
    for start in range(0, len(vectors), rows):
        yield start, vectors[start : start + rows].astype(np.float64)
