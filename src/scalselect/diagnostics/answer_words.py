"""The word that stands for an answer, and what kind of answer it is, so that answers can be counted."""

from __future__ import annotations

import re
import unicodedata

_WHOLE_UP_TO = 3
_LONGEST = 40
_YES_OR_NO = ("yes", "no")
_NUMBER = re.compile(r"[-+]?\W?\d[\d,.:/]*\s?(%|[a-zA-Z°]{1,2})?")  # 3, -3.5, $1,000, 1/2, 10:30, 20 %, 5 km
_NUMBER_WORDS = frozenset(
    [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ]
)
_ENDS = ".,:;!?\u2026\u3002\uff0c\u3001\uff01\uff1f\uff1b\uff1a\u0964\u061f\u060c"  # of sentences and their parts
_BEGINS = "\u00bf\u00a1"
_QUOTES = "\"'\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb\u2039\u203a\u300c\u300d"
_CLOSES = {"(": ")", "[": "]", "\uff08": "\uff09"}
_OPENS = {closing: opening for opening, closing in _CLOSES.items()}
_ENTITY = re.compile(r"&#?\w{1,31};$")  # `&lt;`
_OPTION = re.compile(r"\(?[A-Z]\)?[.:]?|[A-Z][.:)]\s.*|\([A-Z]\)\s.*", re.DOTALL)  # B, (B), B., B. Two cats


def answer_word(answer: str) -> str:
    """Return a short answer whole, or the first word of a longer one.

    Lowercase; the punctuation of sentences, quotation marks and brackets around a word are dropped, so "Yes." and "yes"
    are the same; what belongs to an answer stays: "3.5", "-5", "f(x)", "50%", "__init__", "&lt;b&gt;". Up to three
    words are kept whole. At most 40 characters: some writing has no spaces between words.

    Parameters
    ----------
    answer
        Text of the first answer; empty where there is none.

    Returns
    -------
    str
        Empty where the answer is. Of nothing but punctuation, that punctuation.
    """
    spoken = answer.lower().split(maxsplit=_LONGEST)[:_LONGEST]
    words = [word for word in map(_bare, spoken) if _without_punctuation(word)] or spoken[:1]
    return (" ".join(words) if len(words) <= _WHOLE_UP_TO else words[0])[:_LONGEST].rstrip()


def answer_type(answer: str) -> str:
    """Return what kind of answer a text is.

    Parameters
    ----------
    answer
        Text of the first answer; empty where there is none.

    Returns
    -------
    str
        The first of these that fits. `none`: empty. `option letter`: a capital letter, with or without what it stands
        for ("B", "(B)", "B. Two cats"). `number`: digits, with sign or unit ("3.5", "20 %"), or a word up to twenty.
        `yes or no`: up to three words, the first of which is yes or no. `words`: up to three others. `sentence`: more.
    """
    text = answer.strip()
    if not text:
        return "none"
    if _OPTION.fullmatch(text):
        return "option letter"
    words = [_without_punctuation(word) for word in text.lower().split(maxsplit=_WHOLE_UP_TO)]
    if _NUMBER.fullmatch(text.rstrip(".")) or (len(words) == 1 and words[0] in _NUMBER_WORDS):
        return "number"
    if len(words) > _WHOLE_UP_TO:
        return "sentence"
    return "yes or no" if words[0] in _YES_OR_NO else "words"


def _bare(word: str) -> str:
    """Return a word without what a sentence puts around it."""
    for _ in range(_LONGEST):
        bare = _without_last(_without_first(word))
        if bare == word:
            break
        word = bare
    return word


def _without_first(word: str) -> str:
    """Return a word without a mark in front of it, or without the brackets around all of it."""
    first, rest = word[:1], word[1:]
    if first in _CLOSES and _CLOSES[first] not in rest:
        return rest
    if first in _CLOSES and rest.index(_CLOSES[first]) == len(rest) - 1:
        return rest[:-1]
    return rest if first and first in _BEGINS + _QUOTES else word


def _without_last(word: str) -> str:
    last, rest = word[-1:], word[:-1]
    if not last:
        return word
    ends = last in _ENDS and not (last == ";" and _ENTITY.search(word[-33:]))
    quote = last in _QUOTES and not rest[-1:].isdigit()  # 5'10" is a length
    return rest if ends or quote or (last in _OPENS and _OPENS[last] not in rest) else word


def _without_punctuation(word: str) -> str:
    start, stop = 0, len(word)
    while start < stop and unicodedata.category(word[start]).startswith("P"):
        start += 1
    while stop > start and unicodedata.category(word[stop - 1]).startswith("P"):
        stop -= 1
    return word[start:stop]
