"""Small inputs that fuzzing begins with, and words that JSON and pictures are made of."""

from __future__ import annotations

import gzip as gzip_module
import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

_LONGEST = 1 << 15  # bytes of a picture
TURNS = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A \u00e9\U0001f600."}]
_RECORDS = (
    {"id": 1, "image": "a.png", "conversations": TURNS},
    {"id": "x", "images": ["a.png", {"path": "b.png", "bytes": None}], "system": "Be kind.", "conversations": TURNS},
    {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}]},
            {"role": "assistant", "content": "That."},
        ]
    },
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,a"}}, "b"]}]},
    {"instruction": "Say <image>", "input": "this", "output": "that", "history": [["a", "b"]], "images": ["a.png"]},
    {"query": "<image>What?", "response": "That.", "history": [], "images": "data:image/png;base64,AAAA"},
    {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]},
    {"prompt": "a", "completion": "b", "images": [{"bytes": {"embedded": 0}, "path": "a.png"}]},
    {"conversation": [{"human": "a", "assistant": "b"}], "video": None, "tools": [1.5e300, -0.0, True, None]},
)
WORDS = (
    "conversations", "messages", "conversation", "image", "images", "system", "id", "from", "value", "role", "content",
    "human", "gpt", "user", "assistant", "bytes", "path", "embedded", "type", "text", "image_url", "url", "base64",
    "instruction", "input", "output", "history", "query", "response", "prompt", "completion", "video", "audio", "tool",
    "tool_calls", "observation", "<image>", "data:image/png;base64,", "file:///", "http://a/b.png", "s3://a/b",
)  # fmt: skip


def seeds(target: str) -> list[bytes]:
    """Return the inputs of a target."""
    texts = [json.dumps(record).encode() for record in _RECORDS]
    if target == "json_file":
        odd = [b'[{"a": NaN}, {"b": "\\ud800"}]', b'\n{"a": 1}\r\n\r\n{"b": 2} \n', b"[]", b'[1,2 , "]", {}]', b"{\n}"]
        return [b"[" + b",\n".join(texts[:3]) + b"]", b"\n".join(texts[:3]), *odd]
    if target in {"json_record", "conversation"}:
        return texts
    if target == "gzip":
        return [gzip_module.compress(b"\n".join(texts[:2]))]
    return {"tar": _tars, "parquet": _parquets, "arrow": _arrows, "picture": _pictures}[target]()


def _tars() -> list[bytes]:
    found = []
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        for name in ("a.b.json", "f/" * 60 + "a.json"):
            file = io.BytesIO()
            with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
                for member, content in ((name, b'{"conversations": []}'), ("f/a.png", b"png"), ("\u00e9.json", b"{}")):
                    header = tarfile.TarInfo(member)
                    header.size, header.mtime = len(content), 1.5 if kind == tarfile.PAX_FORMAT else 1
                    archive.addfile(header, io.BytesIO(content))
            found.append(file.getvalue()[:8192])
    return found


def _table() -> pa.Table:
    rows = [
        {"id": n, "images": [{"bytes": b"png", "path": None}] * n, "picture": b"x" * n, "conversations": TURNS}
        for n in range(3)
    ]
    return pa.Table.from_pylist(rows).append_column("kind", pa.array(["a", "b", "a"]).dictionary_encode())


def _parquets() -> list[bytes]:
    found = []
    for compression in ("none", "snappy", "zstd"):
        file = io.BytesIO()
        pq.write_table(_table(), file, compression=compression, row_group_size=2)
        found.append(file.getvalue())
    return found


def _arrows() -> list[bytes]:
    found = []
    for new in (pa.ipc.new_file, pa.ipc.new_stream):
        for codec in (None, "lz4"):
            file = io.BytesIO()
            with new(file, _table().schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
                writer.write_table(_table(), max_chunksize=2)
            found.append(file.getvalue())
    return found


def _pictures() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    picture = Image.fromarray(pixels, "RGBA")
    kinds = {
        "PNG": "RGBA", "GIF": "P", "WEBP": "RGBA", "JPEG": "CMYK", "TIFF": "RGB", "BMP": "RGB", "ICO": "RGBA",
        "PPM": "RGB", "TGA": "RGBA", "JPEG2000": "RGB", "PCX": "L", "SGI": "RGB", "MPO": "RGB", "DDS": "RGBA",
        "ICNS": "RGBA", "IM": "RGB", "XBM": "1", "SPIDER": "F", "AVIF": "RGB", "QOI": "RGB",
    }  # fmt: skip
    found = []
    for kind, mode in kinds.items():
        file = io.BytesIO()
        try:
            picture.convert(mode).save(file, kind)
        except (OSError, KeyError, ValueError):  # not in this build of Pillow
            continue
        if file.tell() < _LONGEST:
            found.append(file.getvalue())
    palette, grey, deep = io.BytesIO(), io.BytesIO(), io.BytesIO()
    picture.convert("P").save(palette, "PNG", transparency=0)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(grey, "PNG")
    Image.fromarray(pixels[..., 0].astype(np.float32)).save(deep, "TIFF")
    return [*found, palette.getvalue(), grey.getvalue(), deep.getvalue(), b"P3\n2 1\n255\n1 2 3 4 5 6\n"]
