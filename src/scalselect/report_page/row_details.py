"""What a run wrote down about some of its rows, read from the shards that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from scalselect.printable import printable_line
from scalselect.segments import shards_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scalselect.report_page.material import Material

_LONGEST_DETAIL = 300


def row_details(material: Material, rows: Sequence[int]) -> dict[int, str]:
    """Return the detail of each row that has one, in one line.

    Raises
    ------
    DamagedShardError
        If a file of a shard is not what was published.
    """
    wanted, found = set(rows), {}
    for shard in shards_with(material.run, rows):
        if not wanted:
            break
        table = material.folder.store.rows(shard, ["row", "detail"])
        table = table.filter(pc.is_in(table["row"], value_set=pc.cast(list(wanted), table["row"].type)))
        for row, detail in zip(table["row"].to_pylist(), table["detail"].to_pylist(), strict=True):
            wanted.discard(row)
            if detail is not None:
                found[row] = printable_line(detail[:_LONGEST_DETAIL])
    return found
