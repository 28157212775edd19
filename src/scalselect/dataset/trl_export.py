"""Samples as a Parquet file that TRL trains on: content blocks in the turns, images in a column of their own.

A block has the keys `type` and `text` and no others: a key `image` that is null would make some chat templates print a
second image. The metadata of the file tell Hugging Face datasets that the column `images` holds images.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from scalselect.dataset.message_export import id_of
from scalselect.records import TextPart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scalselect.records import ImageReference, Sample, Turn

    ImageCell = dict[str, bytes | str | None]

_ROWS_A_GROUP, _BYTES_A_GROUP = 1_000, 64 * 1024**2  # whichever comes first
_TEXT = {"dtype": "string", "_type": "Value"}
_FEATURES = {
    "id": _TEXT,
    "messages": {
        "feature": {
            "role": _TEXT,
            "content": {"feature": {"type": _TEXT, "text": _TEXT}, "_type": "List"},
        },
        "_type": "List",
    },
    "images": {"feature": {"_type": "Image"}, "_type": "List"},
}
_BLOCK = pa.struct([pa.field("type", pa.string()), pa.field("text", pa.string())])
_MESSAGE = pa.struct([pa.field("role", pa.string()), pa.field("content", pa.list_(_BLOCK))])
_IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
TRL_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("messages", pa.list_(_MESSAGE)),
        pa.field("images", pa.list_(_IMAGE)),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


def write_trl(samples: Iterable[Sample], stream: IO[bytes], cell_of: Callable[[ImageReference], ImageCell]) -> None:
    """Write samples as Parquet, a bounded number of rows and bytes at a time.

    Parameters
    ----------
    cell_of
        Returns what is written of an image: `bytes`, or None for a file at `path`.
    """
    with pq.ParquetWriter(stream, TRL_SCHEMA, compression="zstd") as writer:
        group: list[dict[str, Any]] = []
        size = 0
        for sample in samples:
            row = trl_row(sample, cell_of)
            group.append(row)
            size += sum(len(cell["bytes"] or b"") for cell in row["images"])
            if len(group) == _ROWS_A_GROUP or size >= _BYTES_A_GROUP:
                writer.write_table(pa.Table.from_pylist(group, schema=TRL_SCHEMA))
                group, size = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema=TRL_SCHEMA))


def trl_row(sample: Sample, cell_of: Callable[[ImageReference], ImageCell]) -> dict[str, Any]:
    """Return one row: its images in the order of the blocks that stand for them."""
    shown = [part.index for turn in sample.turns for part in turn.parts if not isinstance(part, TextPart)]
    return {
        "id": id_of(sample),
        "messages": [{"role": turn.role, "content": _blocks(turn)} for turn in sample.turns],
        "images": [cell_of(sample.images[index]) for index in shown],
    }


def _blocks(turn: Turn) -> list[dict[str, str | None]]:
    blocks: list[dict[str, str | None]] = [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image", "text": None}
        for part in turn.parts
    ]
    return blocks or [{"type": "text", "text": ""}]  # a template may want a block of every turn
