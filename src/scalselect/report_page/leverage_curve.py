"""The scores of a run as curves: rank against score, and budget against the leverage that it holds. Exact points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

_POINTS = 200  # equally far apart in rows, and as many in ratios of rows


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LeverageCurve:
    """Points of the curves.

    Attributes
    ----------
    scores
        All scores, falling, float64 [scored].
    chosen
        Which of them were chosen, bool [scored].
    ranks
        The points: so many rows of highest score, ascending from 1 to all, int64 [points].
    held
        The share of all leverage that so many rows of highest score hold, float64 [points].
    """

    scores: NDArray[np.float64]
    chosen: NDArray[np.bool_]
    ranks: NDArray[np.int64]
    held: NDArray[np.float64]

    @property
    def at_ranks(self) -> NDArray[np.float64]:
        """The score of the row of each rank, float64 [points]."""
        found: NDArray[np.float64] = self.scores[self.ranks - 1]
        return found

    def held_by(self, rows: int) -> float:
        """Return the share of all leverage that so many rows of highest score hold."""
        return min(float(self.scores[:rows].sum() / self.scores.sum()), 1.0)

    def rows_holding(self, share: float) -> int:
        """Return how few rows hold at least this share of all leverage."""
        running = np.cumsum(self.scores)
        return min(int(np.searchsorted(running, share * running[-1] * (1 - 1e-12))) + 1, self.scores.size)


def leverage_curve(table: pa.Table, budgets: Sequence[int]) -> LeverageCurve:
    """Return the curves of the scored rows of `scores.parquet`, with a point at each of some numbers of rows."""
    scores = table["leverage_score"].to_numpy(zero_copy_only=False)  # [pool]
    rows = np.flatnonzero(~np.isnan(scores))
    order = rows[np.argsort(-scores[rows], kind="stable")]  # [scored]
    falling = scores[order]
    chosen = np.asarray(table["selected"].fill_null(False).to_numpy(zero_copy_only=False), dtype=np.bool_)  # noqa: FBT003
    ranks = _points(falling.size, budgets)
    held = np.minimum(np.cumsum(falling)[ranks - 1] / falling.sum(), 1.0)
    return LeverageCurve(scores=falling, chosen=chosen[order], ranks=ranks, held=held)


def _points(rows: int, budgets: Sequence[int]) -> NDArray[np.int64]:
    even = np.linspace(1, rows, min(rows, _POINTS))
    ratios = np.geomspace(1, rows, _POINTS)
    asked = [float(budget) for budget in budgets if 1 <= budget <= rows]
    return np.unique(np.round(np.concatenate([even, ratios, asked]))).astype(np.int64)
