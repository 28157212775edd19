"""Numbers as a person reads them: counts, shares, scores, and a word with its number."""

from __future__ import annotations

import math

_TENTHS_BELOW = 10.0
_HUNDREDTHS_BELOW = 1.0
_SMALLEST = 0.01
_PLAIN_FROM, _PLAIN_UP_TO = 1e-3, 1e6
_RAISED = str.maketrans("-0123456789", "\N{SUPERSCRIPT MINUS}⁰¹²³⁴⁵⁶⁷⁸⁹")
SPACE = "\N{NARROW NO-BREAK SPACE}"


def counted(number: int, word: str, plural: str | None = None) -> str:
    """Return a number of things: `1 row`, `3,200 rows`."""
    return f"{number:,} {word if number == 1 else plural or word + 's'}"


def were(number: int) -> str:
    """Return `was` of one thing, `were` of any other number."""
    return "was" if number == 1 else "were"


def percent(share: float) -> str:
    """Return a share of one as a percentage: `41 %`, `4.1 %`, `0.41 %`; never `0 %` or `100 %` where it is not."""
    value = 100.0 * share
    if 0.0 < value < _SMALLEST:
        return f"under {_SMALLEST}{SPACE}%"
    if 100.0 - _SMALLEST < value < 100.0:  # noqa: PLR2004  all of it
        return f"over {100.0 - _SMALLEST}{SPACE}%"
    digits = 0 if value >= _TENTHS_BELOW or value == 0.0 else 1 if value >= _HUNDREDTHS_BELOW else 2
    while digits < 2 and share < 1.0 and round(value, digits) >= 100.0:  # noqa: PLR2004  99.6 % is not all
        digits += 1
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{SPACE}%"


def number(value: float, digits: int = 3) -> str:
    """Return a number to so many significant digits: `0.0604`, `1,250`, `2.1e-7` with a raised exponent."""
    if value == 0.0:
        return "0"
    if not math.isfinite(value):
        return "none"
    if _PLAIN_FROM <= abs(value) < _PLAIN_UP_TO:
        places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{places}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    power = f"10{str(int(exponent)).translate(_RAISED)}"
    return power if mantissa == "1" else f"{mantissa}{SPACE}\N{MULTIPLICATION SIGN}{SPACE}{power}"


def times(ratio: float) -> str:
    """Return how many times as large something is: `1.7 times`, `33 times`, `155,000 times`."""
    rounded = float(f"{ratio:.3g}")
    return f"{number(rounded, 2)} times"


def listed(words: list[str], joint: str = "and") -> str:
    """Return words as a list in a sentence: `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {joint} {words[-1]}" if words else ""
