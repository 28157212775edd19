"""One record's bytes as the fields of a JSON object, each still JSON text, and the identity of its row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from scalselect.dataset.json_scanner import nested_deeper, object_members
from scalselect.errors import SampleError
from scalselect.records import Reason, RowIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scalselect.records import IdType

    Fields = Mapping[str, msgspec.Raw | bytes]

# Both JSON readers stop at a depth that depends on how deep their caller stands, so whether a record is read would
# depend on the engine. This limit lies well below and is the same everywhere.
MAX_NESTING = 200
_OF_PARTS = {"from", "role", "value", "content", "user", "human", "bytes", "path", "type"}  # keys of turns and images
_DETAIL_LENGTH = 80
_REFUSALS = (msgspec.MsgspecError, ValueError, RecursionError)
_KIND = {"{": "an object", "[": "an array", '"': "a string", "t": "true", "f": "false", "n": "null"}


def record_fields(raw: bytes) -> Fields:
    """Return the members of a record, keys decoded, values as JSON text.

    Raises
    ------
    SampleError
        `invalid_record`: not UTF-8, no JSON, no object, or nested deeper than `MAX_NESTING`.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise SampleError(Reason.INVALID_RECORD, f"not UTF-8: {error.reason} at its byte {error.start}") from None
    if nested_deeper(raw, MAX_NESTING):
        raise SampleError(Reason.INVALID_RECORD, f"nested deeper than {MAX_NESTING} levels")
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except _REFUSALS:
        pass
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) or not raw.startswith(b"{"):
            raise SampleError(Reason.INVALID_RECORD, f"no JSON: {error}") from None
    if not raw.startswith(b"{"):
        raise SampleError(Reason.INVALID_RECORD, f"{_KIND.get(text[:1], 'a number')}, where an object is wanted")
    try:
        return object_members(raw)
    except ValueError as error:
        raise SampleError(Reason.INVALID_RECORD, f"no JSON: {error}") from None


def decode_field(fields: Fields, name: str) -> Any:
    """Return the value of a field, None where it is null or absent.

    Raises
    ------
    SampleError
        `invalid_record`: no JSON, or a number with more digits than Python reads.
    """
    if name not in fields:
        return None
    text = fields[name]
    try:
        return msgspec.json.decode(text)
    except _REFUSALS:
        pass
    try:
        return json.loads(bytes(text).decode())
    except (ValueError, RecursionError) as error:
        raise SampleError(Reason.INVALID_RECORD, f"`{name}` cannot be read: {error}") from None


def key_of_records(fields: Fields) -> str | None:
    """Return the first key under which a list of objects lies that are no turns or images; None where there is none."""
    for key, value in fields.items():
        try:
            inside = msgspec.json.decode(value, type=list[dict[str, msgspec.Raw]])
        except _REFUSALS:
            continue
        if inside and not _OF_PARTS & set(inside[0]):
            return key
    return None


def row_identity(row: int, source: str, fields: Fields) -> RowIdentity:
    """Return which row this is: strings by their value, every other id by its JSON text, to the digit."""
    if "id" not in fields:
        return RowIdentity(row, source, None, "absent")
    text = bytes(fields["id"]).decode()
    if text.startswith('"'):
        value = _string_value(text)
        # Half a surrogate pair cannot be written to Parquet, nor to any UTF-8: such an id stays as its JSON text.
        return RowIdentity(row, source, text if value is None or has_lone_surrogate(value) else value, "string")
    id_type: IdType = "null" if text == "null" else "number" if text[:1] in "-0123456789NI" else "other"
    return RowIdentity(row, source, text, id_type)


def has_lone_surrogate(value: str) -> bool:
    """Tell whether `value` holds half of a surrogate pair, which is no character and has no UTF-8."""
    if value.isascii():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return True
    return False


def shown(value: object) -> str:
    """Return `value` as Python writes it, printable and cut to a length fit for a message."""
    if isinstance(value, str):
        value = value[:_DETAIL_LENGTH]
    text = ascii(value) if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
    return text if len(text) <= _DETAIL_LENGTH else f"{text[: _DETAIL_LENGTH - 3]}..."


def _string_value(text: str) -> str | None:
    try:
        return str(json.loads(text))
    except ValueError:
        return None
