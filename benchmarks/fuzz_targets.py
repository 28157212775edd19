"""What a fuzzed input is held against: a second reader, or what must be true of every input.

Each target takes bytes, returns nothing, and fails with an AssertionError, or with whatever the parsers let out. None
needs a fuzzer, so that inputs which once failed can be run as tests.
"""

from __future__ import annotations

import functools
import json
import os
import tarfile
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from scalselect.dataset.containers import open_records
from scalselect.dataset.json_index import array_offsets, line_offsets, recognise
from scalselect.dataset.json_scanner import BrokenJsonError, nested_deeper
from scalselect.dataset.pool import Pool
from scalselect.dataset.record_fields import MAX_NESTING, decode_field, record_fields, row_identity
from scalselect.dataset.record_formats import FORMATS
from scalselect.dataset.record_list import RecordList
from scalselect.dataset.record_view import view_record
from scalselect.dataset.tar_headers import members_of
from scalselect.dataset.tar_index import index_tar
from scalselect.dataset.trainer_rules import faults_for
from scalselect.errors import DataChangedError, DatasetError, SampleError
from scalselect.image_files import decode_image
from scalselect.records import ImagePart, Reason, Sample
from scalselect.trainers import TrainerName

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LONGEST = 1 << 16  # bytes of a JSON input: the second reader is in Python
_MOST_PIXELS = 1 << 20


def json_file(content: bytes) -> None:
    """Hold that records of a JSON array or JSON Lines file begin and end where Python's own reader says."""
    start = len(content) - len(content.lstrip(b" \t\r\n"))
    if start == len(content) or len(content) > _LONGEST:
        return
    whole, readable = _decoded(content)
    try:
        container = recognise(content, start, Path("fuzzed"))  # type: ignore[arg-type]  bytes have what is used of a map
        bounds = array_offsets(content, start) if container == "json" else line_offsets(content, start)  # type: ignore[arg-type]
    except DatasetError:
        assert not (readable and isinstance(whole, list)), "an array that Python reads is no data file"
        return
    except BrokenJsonError:
        assert not readable, "an array that Python reads is broken"
        return
    texts = [content[first:last] for first, last in zip(*bounds, strict=True)]
    if container == "json":
        assert readable or whole is _UNKNOWN, "a broken array is read"
        if isinstance(whole, list):
            assert [_spelled(_decoded(text)[0]) for text in texts] == [_spelled(value) for value in whole]
    else:
        lines = (line.strip(b" \t\r") for line in content[start:].split(b"\n"))
        assert texts == [line for line in lines if line]
    for text in texts[:20]:
        json_record(text)


def json_record(content: bytes) -> None:
    """Hold that one record has the fields that Python's own reader finds, or a reason."""
    if len(content) > _LONGEST:
        return
    content = content.strip(b" \t\r\n")  # as every container does
    value, readable = _decoded(content)
    try:
        fields = record_fields(content)
    except SampleError as error:
        assert error.reason == Reason.INVALID_RECORD
        fit = readable and isinstance(value, dict) and not nested_deeper(content, MAX_NESTING)
        assert not fit or not _is_utf8(content), "an object that Python reads is refused"
        return
    row_identity(0, "fuzzed", fields)
    found = {}
    for key in fields:
        try:
            found[key] = decode_field(fields, key)
        except SampleError as error:
            assert error.reason == Reason.INVALID_RECORD
            return
    if value is not _UNKNOWN:
        assert _spelled(found) == _spelled(value), "two readers differ"
        _same_as_list(value)


def conversation(content: bytes) -> None:
    """Hold that a record of any format is a sample whose parts fit together, or has a reason; so each image."""
    if len(content) > _LONGEST:
        return
    for record_format in FORMATS.values():
        for position in ("record", "turn-start"):
            pool = Pool("fuzzed", None, "/nowhere", position, None, _OneRecord(content), record_format)
            (found,) = pool.read(0, 1)
            if not isinstance(found, Sample):
                assert found.reason in set(Reason)
                assert found.detail
                continue
            shown = [part.index for turn in found.turns for part in turn.parts if isinstance(part, ImagePart)]
            assert sorted(shown) == list(range(len(found.images)))
            for image in found.images:
                if image.embedded is not None:
                    _gives_bytes(functools.partial(pool.embedded_image, image))
        try:
            view = view_record(record_fields(content), record_format)
        except SampleError:
            continue
        for trainer in get_args(TrainerName):
            faults_for(trainer, view)


def tar(content: bytes) -> None:
    """Hold that the members of a tar are those that `tarfile` finds, or it is refused."""
    with _as_file(content, ".tar") as path, path.open("rb", buffering=0) as stream:
        try:
            found = list(members_of(stream, len(content)))
        except (tarfile.TarError, ValueError, OverflowError):
            found = None
        if found is not None:
            try:
                with tarfile.open(path, "r:", errors="surrogateescape", encoding="utf-8") as archive:
                    known = [(member.name, member.offset_data, member.size) for member in archive]
            except Exception:  # noqa: BLE001  whatever the other reader cannot read
                known = None
            if known is not None:
                assert [(member.name, member.content, member.size) for member in found] == known
        try:
            stream.seek(0)
            index_tar(stream, len(content), path)
        except DatasetError:
            pass
    _container(content, "tar")


def parquet(content: bytes) -> None:
    """Hold that every row of a Parquet file is read, or has a reason, or the file is refused."""
    _container(content, "parquet")


def arrow(content: bytes) -> None:
    """Hold the same of an Arrow file or stream."""
    _container(content, "arrow")


def gzip(content: bytes) -> None:
    """Hold the same of compressed JSON."""
    _container(content, "gz")


def picture(content: bytes) -> None:
    """Hold that a file is a picture, or there is a reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            decoded = decode_image(content, max_pixels=_MOST_PIXELS)
        except SampleError as error:
            assert error.reason in {Reason.IMAGE_UNREADABLE, Reason.IMAGE_TOO_LARGE}
            assert error.detail
            return
    assert decoded.picture.mode == "RGB"
    assert 0 < decoded.picture.width * decoded.picture.height <= _MOST_PIXELS
    assert decoded.bytes == len(content)
    decoded.picture.tobytes()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "json_file": json_file,
    "json_record": json_record,
    "conversation": conversation,
    "tar": tar,
    "parquet": parquet,
    "arrow": arrow,
    "gzip": gzip,
    "picture": picture,
}


class _OneRecord:
    """A `RecordSource` of one record."""

    container = title = "fuzzed"

    def __init__(self, text: bytes) -> None:
        self._text = text

    def __len__(self) -> int:
        return 1

    def raw(self, row: int) -> bytes:  # noqa: ARG002
        return self._text

    def embedded(self, row: int, number: int) -> bytes | None:  # noqa: ARG002
        return None if number % 2 else b"bytes"

    def fault(self, row: int) -> str | None:  # noqa: ARG002
        return None


_UNKNOWN = object()


def _decoded(content: bytes) -> tuple[Any, bool]:
    """Return what Python's own reader makes of JSON, and whether it is JSON; `_UNKNOWN` where it gives up."""
    try:
        return json.loads(content.decode("utf-8", "surrogateescape")), True
    except json.JSONDecodeError:
        return None, False
    except (ValueError, RecursionError):  # too many digits, nested too deep
        return _UNKNOWN, False


def _spelled(value: Any) -> str:
    return json.dumps(value)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _same_as_list(value: Any) -> None:
    """Hold that a record in a Python list is encoded so that it reads the same."""
    records = RecordList([value])
    assert records.fault(0) is None or isinstance(records.fault(0), str)
    if records.fault(0) is None:
        assert _spelled(json.loads(records.raw(0))) == _spelled(value)


def _gives_bytes(read: Callable[[], bytes]) -> None:
    try:
        assert isinstance(read(), bytes)
    except SampleError as error:
        assert error.reason in set(Reason)


class _as_file:  # noqa: N801  used as a function
    """The path of a temporary file with this content."""

    def __init__(self, content: bytes, ending: str) -> None:
        handle, name = tempfile.mkstemp(suffix=ending, dir=os.environ.get("FUZZ_TMP", "/dev/shm"))
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        self.path = Path(name)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


def _container(content: bytes, ending: str) -> None:
    """Open a data file, read every record and every image of it, and write some of its records."""
    with _as_file(content, f".{ending}") as path:
        try:
            records, _ = open_records(str(path))
        except (DatasetError, DataChangedError):
            return
        rows: Sequence[int] = range(min(len(records), 50))
        for row in rows:
            raw = records.raw(row)
            if raw == b"null":
                records.fault(row)
            for number in range(3):
                try:
                    records.embedded(row, number)
                except SampleError as error:
                    assert error.reason in set(Reason)
        records.fingerprint()
