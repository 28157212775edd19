"""Tables for tests of containers: rows of many types generated, what their JSON must be, and image columns."""

from __future__ import annotations

import datetime as dt
import io

import pyarrow as pa
from hypothesis import strategies as st
from PIL import Image

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TURN = pa.struct([("from", pa.string()), ("value", pa.string())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), metadata={"note": "an id"}),
        ("number", pa.uint64()),
        ("signed", pa.int64()),
        ("share", pa.float64()),
        ("price", pa.decimal128(38, 5)),
        ("day", pa.date32()),
        ("at", pa.timestamp("us")),
        ("zoned", pa.timestamp("ms", "Europe/Paris")),
        ("took", pa.duration("us")),
        ("yes", pa.bool_()),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
        ("counts", pa.map_(pa.string(), pa.int64())),
        ("conversations", pa.list_(TURN)),
        ("nested", pa.struct([("deep", pa.list_(pa.list_(pa.int64()))), ("mask", pa.binary())])),
        ("image", IMAGE),
        ("images", pa.list_(IMAGE)),
        ("raw", pa.large_binary()),
    ],
    metadata={"huggingface": '{"info": {}}', "anything": "else ä"},
)

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_IMAGES = st.none() | st.fixed_dictionaries({"bytes": st.none() | st.binary(max_size=6), "path": st.none() | _TEXT})
_TIMES = st.datetimes(*(dt.datetime.fromisoformat(day) for day in ("0001-01-02", "9999-12-30")))
_TURNS = st.lists(st.none() | st.fixed_dictionaries({"from": _TEXT, "value": st.none() | _TEXT}), max_size=3)
_INTEGERS = st.integers(-(2**63), 2**63 - 1)
_VALUES = {
    "id": _TEXT | st.sampled_from(["007", "1.0", "2020-01-01", "null", "\U0010fffd"]),
    "number": st.integers(0, 2**64 - 1),
    "signed": _INTEGERS,
    "share": st.floats(allow_nan=False),
    "price": st.decimals(-(10**32), 10**32, places=5),
    "day": st.dates(),
    "at": _TIMES,
    "zoned": _TIMES.map(lambda time: time.replace(microsecond=0, tzinfo=dt.UTC)),
    "took": st.timedeltas(dt.timedelta(-(10**6)), dt.timedelta(10**6)),
    "yes": st.booleans(),
    "kind": _TEXT,
    "counts": st.dictionaries(_TEXT, st.none() | _INTEGERS, max_size=3).map(lambda pairs: list(pairs.items())),
    "conversations": _TURNS,
    "nested": st.fixed_dictionaries(
        {"deep": st.lists(st.none() | st.lists(st.none() | _INTEGERS, max_size=2), max_size=2), "mask": st.binary()}
    ),
    "image": _IMAGES,
    "images": st.lists(_IMAGES, max_size=3),
    "raw": st.binary(max_size=6),
}
RECORDS = st.fixed_dictionaries({name: st.none() | values for name, values in _VALUES.items()})


def expected(record):
    """Return what the JSON of a generated record must hold, and its bytes in order."""
    found = []

    def aside(content):
        found.append(content)
        return {"embedded": len(found) - 1}

    def image(value):
        return value and {**value, "bytes": None if value["bytes"] is None else aside(value["bytes"])}

    def plain(content):
        return None if content is None else {"bytes": aside(content), "path": None}

    texts = dict(record)
    texts["price"] = None if record["price"] is None else f"{record['price']:.5f}"
    texts["day"] = record["day"] and record["day"].isoformat()
    texts["at"] = record["at"] and record["at"].isoformat(timespec="microseconds")
    texts["zoned"] = record["zoned"] and record["zoned"].strftime("%Y").zfill(4) + record["zoned"].strftime(
        "-%m-%dT%H:%M:%S.000Z"
    )
    if record["took"] is not None:
        micros = record["took"] // dt.timedelta(microseconds=1)
        texts["took"] = f"{'-' * (micros < 0)}PT{abs(micros) // 10**6}.{abs(micros) % 10**6:06}S"
    texts["counts"] = None if record["counts"] is None else dict(record["counts"])
    if record["nested"] is not None:
        texts["nested"] = {"deep": record["nested"]["deep"], "mask": plain(record["nested"]["mask"])}
    texts["image"] = image(record["image"])
    texts["images"] = None if record["images"] is None else [image(value) for value in record["images"]]
    texts["raw"] = plain(record["raw"])
    return texts, found


def picture(number, size=(40, 30)):
    """Return the bytes of a small PNG, another one for each number."""
    stream = io.BytesIO()
    Image.new("RGB", size, (37 * number % 256, 11 * number % 256, 200)).save(stream, "PNG")
    return stream.getvalue()


def conversation(number, images=1):
    return [
        {"from": "human", "value": "<image>\n" * images + f"What is in picture {number}?"},
        {"from": "gpt", "value": f"Colour {number}."},
    ]
