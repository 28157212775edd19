"""The strategy `coverage`: as many cells of the whitened space as rows are wanted, the row nearest to each centre."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scalselect.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scalselect.selection.admission import Admission
    from scalselect.selection.candidates import Candidates

_BATCH = 8192  # rows a step of k-means at least; scikit-learn wants no fewer than there are centres
_EPOCHS = 3  # most passes over the rows
_WORK = 2e12  # multiplications that the passes may cost, one pass at least


def choose_coverage(candidates: Candidates, n: int, admission: Admission) -> NDArray[np.int64]:
    """Take the row nearest to each of `n` centres of mini-batch k-means.

    The space is ``vision / sqrt(k)`` and, where there is one, ``instruction / sqrt(k')`` beside it. The centres start
    at the `n` rows of smallest draw, a uniform choice, and move with batches of at least 8,192 and at least `n` rows
    in the order of the draws: three passes over the rows, or fewer where they would cost more than 2e12
    multiplications, but one at least (k-means++ and the hundred passes that are usual would take days at 96,000
    centres). Centres without rows are not moved elsewhere. Rows nearest to a centre are taken in the order of the
    centres; places that remain, because a cell is empty or a row was refused, go to the rows farthest from their
    centre. Equal distances in pool order. Rows taken before take no part.

    Returns
    -------
    Int64 [at most n], places in order of choice.

    Raises
    ------
    OptionError
        If scikit-learn is not installed.
    ValueError
        If the candidates have no vision coordinates.
    """
    if candidates.vision is None:
        raise ValueError("coverage needs vision coordinates")
    places = np.flatnonzero(~admission.taken)
    if n == 0 or n >= len(places):
        return admission.take_in_order(places, n)
    vectors = _space(candidates, places)  # [open, k + k']
    cells, distances = _cells(vectors, candidates.draws[places], n)
    by_cell = np.lexsort((distances, cells))  # stable, so equal distances stay in pool order
    nearest = by_cell[np.unique(cells[by_cell], return_index=True)[1]]
    taken = admission.take_in_order(places[nearest], n)
    farthest = np.argsort(-distances, kind="stable")
    return np.concatenate((taken, admission.take_in_order(places[farthest], n - len(taken))))


def _space(candidates: Candidates, places: NDArray[np.int64]) -> NDArray[np.float32]:
    parts = [
        vectors[places] / np.float32(np.sqrt(vectors.shape[1]))
        for vectors in (candidates.vision, candidates.instruction)
        if vectors is not None
    ]
    return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)


def _cells(
    vectors: NDArray[np.float32], draws: NDArray[np.float64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the cell of every row, int64 [rows], and its squared distance to the cell's centre, float64 [rows]."""
    try:
        from sklearn.cluster import MiniBatchKMeans  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise OptionError("strategy coverage needs scikit-learn: pip install 'scalselect[sklearn]'") from error
    order = np.argsort(draws, kind="stable")
    batches = np.array_split(order, max(1, len(order) // max(_BATCH, n)))
    kmeans = MiniBatchKMeans(
        n, init=vectors[order[:n]], n_init=1, reassignment_ratio=0.0, compute_labels=False, random_state=0
    )
    for _ in range(max(1, min(_EPOCHS, int(_WORK / (float(vectors.size) * n))))):
        for batch in batches:
            kmeans.partial_fit(vectors[batch])
    cells = kmeans.predict(vectors).astype(np.int64)
    centres = kmeans.cluster_centers_
    distances = np.empty(len(vectors))
    for start in range(0, len(vectors), _BATCH):
        block = slice(start, start + _BATCH)
        apart = vectors[block].astype(np.float64) - centres[cells[block]]
        distances[block] = np.einsum("ij,ij->i", apart, apart)
    return cells, distances
