"""Which record format a pool is in: named, described by a mapping, or recognised by looking at its first records."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from scalselect.dataset.dataset_info_format import MAPPED_FORMAT, format_from_mapping
from scalselect.dataset.record_fields import key_of_records, record_fields, shown
from scalselect.dataset.record_formats import FORMATS, OTHER_MEDIA_KEYS
from scalselect.errors import DatasetError, OptionError, SampleError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from scalselect.dataset.record_fields import Fields
    from scalselect.dataset.record_formats import RecordFormat

_RECORDS_LOOKED_AT = 100
_KEYS_SHOWN = 12
_OTHER_NAMES = {"sharegpt": "llava"}
_PREFERENCE_KEYS = ("chosen", "rejected")


def choose_format(
    name: str,
    records: Iterable[bytes],
    where: str,
    first_fault: str | None = None,
    mapping: Mapping[str, Any] | None = None,
) -> RecordFormat:
    """Return the format of that name; for `auto` the one whose keys most of the first 100 objects have.

    Parameters
    ----------
    where
        What holds the records, for messages.
    first_fault
        Which record of a list could not be encoded, and why; told where no other is an object.
    mapping
        What a `dataset_info.json` says of the records, see `DatasetInfoEntry.mapping`; the name must then be `auto`,
        or that of such a format.

    Raises
    ------
    OptionError
        The name is unknown, or stands beside a mapping.
    DatasetError
        `auto`, and no record has the keys of a format: naming `where` and the keys that were seen.
    """
    if mapping is not None:
        if name not in {"auto", MAPPED_FORMAT}:
            raise OptionError(
                f"format is told twice: {name!r}, and by the entry of dataset_info.json (wanted: one of them)"
            )
        return format_from_mapping(mapping)
    if name != "auto":
        name = _OTHER_NAMES.get(name, name)
        if name not in FORMATS:
            names = ("auto", *FORMATS)
            raise OptionError(f"format must be one of {', '.join(names)}: {name!r}{did_you_mean(str(name), names)}")
        return FORMATS[name]
    seen: dict[str, None] = {}  # keys, in order
    first: list[Fields] = []
    filled, present = dict.fromkeys(FORMATS, 0), dict.fromkeys(FORMATS, 0)
    for fields in islice(_readable(records), _RECORDS_LOOKED_AT):
        seen |= dict.fromkeys(fields)
        first = [*first[:1], fields]
        # Tables give every record all keys: one that is null says little.
        with_value = {key for key, value in fields.items() if bytes(value) != b"null"}
        for known in FORMATS.values():
            filled[known.name] += _has_signature(known, with_value)
            present[known.name] += _has_signature(known, fields)
    best = max(FORMATS.values(), key=lambda known: (filled[known.name], present[known.name]))
    if not present[best.name]:
        told = _unknown_format(where, list(seen), first_fault)
        key = key_of_records(first[0]) if len(first) == 1 else None
        if key is not None:  # one object around the list of records
            told += f"; do the records lie in the list under `{key}`? Then save that list alone"
        raise DatasetError(told)
    return best


def _readable(records: Iterable[bytes]) -> Iterator[Fields]:
    for raw in records:
        try:
            yield record_fields(raw)
        except SampleError:
            continue


def _has_signature(known: RecordFormat, keys: Iterable[str]) -> bool:
    there = set(keys)
    return any(there.issuperset(signature) for signature in known.turn_source.signatures)


def _unknown_format(where: str, keys: list[str], first_fault: str | None) -> str:
    lists = [key for name in ("llava", "messages") for key in FORMATS[name].main_keys[:1]]
    pairs = [known.turn_source.signatures[0] for known in FORMATS.values() if len(known.turn_source.signatures[0]) > 1]
    wanted = "wanted: turns under " + " or ".join(f"`{key}`" for key in lists)
    wanted += "".join(f", or {' and '.join(f'`{key}`' for key in pair)}" for pair in pairs)
    if not keys:
        found = f"{first_fault}; {wanted}" if first_fault else wanted
        return f"format cannot be recognised, no record is a JSON object: {where} ({found})"
    if all(key in keys for key in _PREFERENCE_KEYS):
        wanted = f"pairs of chosen and rejected answers are not read by themselves; {wanted}"
    other_fields = {*OTHER_MEDIA_KEYS, *(key for known in FORMATS.values() for key in known.image_keys)}
    listed = ", ".join(shown(key).strip("'") for key in keys[:_KEYS_SHOWN])
    near = next((hint for key in keys if key not in other_fields and (hint := did_you_mean(key, lists))), "")
    return f"format cannot be recognised: {where} has records with the keys {listed} ({wanted}){near}"
