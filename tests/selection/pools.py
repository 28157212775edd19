"""Small random pools for the tests of selection, and plain ways to look at what was chosen."""

import numpy as np
from hypothesis import strategies as st

from scalselect.selection.admission import RowImages
from scalselect.selection.candidates import Candidates, draws_of


def random_candidates(seed, size, *, levels=None, dimensions=4, instruction=True):
    """Candidates among a larger pool; with `levels`, scores take so few values that many tie."""
    rng = np.random.default_rng(seed)
    pool = 3 * size + 1
    rows = np.sort(rng.permutation(pool)[:size]).astype(np.int64)
    scores = rng.random(size) if levels is None else rng.integers(0, levels, size) / 16.0
    vision = rng.standard_normal((size, dimensions)).astype(np.float32)
    texts = rng.standard_normal((size, dimensions + 1)).astype(np.float32) if instruction else None
    return Candidates(rows, scores, draws_of(seed, pool)[rows], vision, texts, seed)


def row_images(lists):
    codes = np.array([code for codes in lists for code in codes], dtype=np.int64)
    return RowImages(np.cumsum([0, *map(len, lists)]).astype(np.int64), codes)


def image_lists(size, most=3, images=8):
    one = st.lists(st.integers(0, images - 1), max_size=most)
    return st.lists(one, min_size=size, max_size=size)


def times_shown(lists, places):
    """How often each image is shown by the rows at some places."""
    shown = {}
    for place in places:
        for code in set(lists[place]):
            shown[code] = shown.get(code, 0) + 1
    return shown


def places_of(candidates, selection):
    return np.searchsorted(candidates.rows, selection.rows)
