"""Files that vouch for themselves: the SHA-256 of all their bytes lies among them, its own digits counted as zeros.

Any flipped bit and any edit shows, whatever wrote it, and nothing of the format need be understood to see it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from scalselect.printable import printable
from scalselect.storage import sha256_of_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

SEAL_KEY = "seal"
BLANK = "0" * 64  # what stands for the digits until they are known
_SEAL = re.compile(rb'"seal": "([0-9a-f]{64})"')


def sealed(content: bytes) -> bytes:
    """Return the bytes of a file with its seal filled in.

    Parameters
    ----------
    content
        Holds JSON in which `SEAL_KEY` is `BLANK`; if there are several such, the last is the seal.

    Raises
    ------
    ValueError
        If there is no place for it.
    """
    place = _place(content)
    if place is None or content[place] != BLANK.encode():
        raise ValueError("the content has no place for a seal")
    return content[: place.start] + sha256_of_bytes(content).encode() + content[place.stop :]


def sealed_json(content: Mapping[str, Any]) -> bytes:
    """Return an object as sealed JSON; see `json_bytes`."""
    return sealed(json_bytes({**content, SEAL_KEY: BLANK}))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Return an object as JSON for people and scripts: keys sorted, no NaN."""
    return f"{printable(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False))}\n".encode()


def has_seal(content: bytes) -> bool:
    """Tell whether a file says of itself that it is sealed."""
    return _place(content) is not None


def is_whole(content: bytes) -> bool:
    """Tell whether a file is sealed and every byte is as it was then."""
    place = _place(content)
    if place is None:
        return False
    blank = content[: place.start] + BLANK.encode() + content[place.stop :]
    return sha256_of_bytes(blank).encode() == content[place]


def _place(content: bytes) -> slice | None:
    """Return where the digits of the seal lie."""
    begin = content.rfind(b'"' + SEAL_KEY.encode() + b'": "')
    found = None if begin < 0 else _SEAL.match(content, begin)
    return None if found is None else slice(*found.span(1))
