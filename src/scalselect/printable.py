"""Text made fit to be shown: what would command a terminal, or make a line read otherwise than it is, is spelled out.

Ids, texts and names come from whoever wrote the data. Written to a terminal as they are, they could move the cursor,
name the window, hide what follows, or turn the order of letters.
"""

from __future__ import annotations

import re

# Control characters of both sets but the line feed; soft hyphens, marks and orders of direction, spaces of no width,
# separators of lines and paragraphs, tags; half surrogates, which no output can encode. Joiners inside words stay.
_SPELLED_OUT = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_LAST_OF_FOUR_DIGITS = 0xFFFF


def printable(text: str) -> str:
    r"""Return a text, of one line or several, or of JSON, with such characters spelled out as in ``\u001b``.

    They stand in no JSON but inside its strings, where that spelling means the same: JSON stays what it was.
    """
    return _SPELLED_OUT.sub(_spelled, text)


def printable_line(text: str) -> str:
    r"""Return a text as one line: line feeds are spelled out as well, so that none is taken for a line of ours."""
    return printable(text).replace("\n", "\\u000a")


def _spelled(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number <= _LAST_OF_FOUR_DIGITS:
        return f"\\u{number:04x}"
    number -= _LAST_OF_FOUR_DIGITS + 1
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
