"""What a strategy chooses from: the candidate rows, their scores, their random numbers and their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The rows that can be chosen, in pool order, so that a *place* here orders rows as the pool does.

    Attributes
    ----------
    rows
        Pool positions, strictly ascending, int64 [candidates].
    scores
        Leverage scores as written, float64 [candidates].
    draws
        One uniform number in [0, 1) for each row, from `draws_of`, float64 [candidates].
    vision
        Coordinates in the whitened dominant subspace of the vision vectors (rows of U_k), float32 [candidates, k].
    instruction
        The same of the instruction vectors, zeros where a row has no instruction, float32 [candidates, k'].
    seed
        The run's seed, for strategies that need more than one number for each row.

    Raises
    ------
    ValueError
        If lengths differ, rows do not ascend, or a score is NaN or negative.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    draws: NDArray[np.float64]
    vision: NDArray[np.float32] | None = None
    instruction: NDArray[np.float32] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rows.ndim != 1 or self.rows.shape != self.scores.shape or self.rows.shape != self.draws.shape:
            shapes = f"{self.rows.shape}, {self.scores.shape} and {self.draws.shape}"
            raise ValueError(f"rows, scores and draws must be vectors of one length: {shapes}")
        for name, vectors in (("vision", self.vision), ("instruction", self.instruction)):
            if vectors is not None and (vectors.ndim != 2 or vectors.shape[0] != len(self) or vectors.shape[1] == 0):  # noqa: PLR2004 - rows and coordinates
                raise ValueError(f"the {name} coordinates must be [{len(self)}, at least 1]: {vectors.shape}")
        if (self.rows[1:] <= self.rows[:-1]).any():
            raise ValueError("rows must ascend")
        if not (self.scores >= 0).all():
            raise ValueError("a score is NaN or negative")

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    def take(self, places: NDArray[np.int64]) -> Candidates:
        """Return the candidates at some ascending places, int64 [taken]."""
        return Candidates(
            rows=self.rows[places],
            scores=self.scores[places],
            draws=self.draws[places],
            vision=None if self.vision is None else self.vision[places],
            instruction=None if self.instruction is None else self.instruction[places],
            seed=self.seed,
        )


def draws_of(seed: int, pool_rows: int) -> NDArray[np.float64]:
    """Return one uniform number in [0, 1) for every row of the pool.

    A row's number depends on the seed and its position alone: not on which rows are candidates, and not on how
    many rows follow it, so that a pool that grew keeps the numbers it had.

    Returns
    -------
    Float64 [pool_rows].
    """
    return np.random.Generator(np.random.PCG64(seed)).random(pool_rows)
