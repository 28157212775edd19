"""The ids that a user names, as rows of the pool, and which of them name none or several."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class WantedRows:
    """What a list of wishes names.

    Attributes
    ----------
    rows
        Row positions, ascending, each once, int64 [found].
    absent
        Wishes that name no row, in the order given, each once.
    repeated
        Ids that several rows have, with the number of rows; all of them are in `rows`.
    """

    rows: NDArray[np.int64]
    absent: tuple[str, ...]
    repeated: dict[str, int]


def rows_with_ids(ids: Iterable[str | None], wanted: Iterable[str]) -> WantedRows:
    """Find the rows that have one of some ids.

    Parameters
    ----------
    ids
        Id of every pool row, None where a row has none.
    wanted
        Ids as the user wrote them; compared as text, so that "007" is not "7".
    """
    wishes = dict.fromkeys(wanted)
    found = [(row, name) for row, name in enumerate(ids) if name is not None and name in wishes]
    times = Counter(name for _, name in found)
    return WantedRows(
        rows=np.array([row for row, _ in found], dtype=np.int64),
        absent=tuple(name for name in wishes if name not in times),
        repeated={name: times[name] for name in wishes if times[name] > 1},
    )
