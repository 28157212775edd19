"""The word that stands for an answer, so that answers can be counted."""

from __future__ import annotations

import unicodedata

_WHOLE_UP_TO = 3
_LONGEST = 40


def answer_word(answer: str) -> str:
    """Return a short answer whole, or the first word of a longer one.

    Lowercase; punctuation at either end of a word is dropped, so "Yes." and "yes" are the same and "3.5" stays as it
    is. Up to three words are kept whole. At most 40 characters: some writing has no spaces between words.

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
    words = [word for word in map(_without_punctuation, spoken) if word] or spoken[:1]
    return (" ".join(words) if len(words) <= _WHOLE_UP_TO else words[0])[:_LONGEST].rstrip()


def _without_punctuation(word: str) -> str:
    start, stop = 0, len(word)
    while start < stop and unicodedata.category(word[start]).startswith("P"):
        start += 1
    while stop > start and unicodedata.category(word[stop - 1]).startswith("P"):
        stop -= 1
    return word[start:stop]
