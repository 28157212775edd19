"""A sealed file is whole or it is not, and nothing else in it can be taken for its seal."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalselect.seals import BLANK, SEAL_KEY, has_seal, is_whole, json_bytes, sealed, sealed_json

TEXTS = st.text() | st.sampled_from([BLANK, SEAL_KEY, f'"{SEAL_KEY}": "{BLANK}"', "\\", '"'])
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=3))


@settings(max_examples=40)
@given(st.dictionaries(TEXTS.filter(lambda name: name != SEAL_KEY), VALUES, max_size=4), st.data())
def test_json_comes_back_and_every_change_shows(content, data):
    try:
        encoded = sealed_json(content)
    except UnicodeEncodeError:  # a lone surrogate, which no file of a run holds
        return
    assert is_whole(encoded)
    read = json.loads(encoded)
    assert len(read.pop(SEAL_KEY)) == len(BLANK)
    assert read == content
    place = data.draw(st.integers(0, len(encoded) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(encoded)
    changed[place] ^= 1 << bit
    assert not is_whole(bytes(changed))
    assert not is_whole(encoded[:place])
    assert not is_whole(encoded + b" ")


def test_the_last_place_is_the_seal():
    earlier = b'{"seal": "' + b"0" * 64 + b'"}'
    encoded = sealed(earlier + b"more" + earlier)
    assert encoded.startswith(earlier + b"more")
    assert is_whole(encoded)


def test_no_place():
    for content in (b"", json_bytes({"a": 1}), b'"seal": "' + b"g" * 64 + b'"', b'"seal": "0"'):
        assert not has_seal(content)
        assert not is_whole(content)
        with pytest.raises(ValueError, match="no place for a seal"):
            sealed(content)
    with pytest.raises(ValueError, match="no place for a seal"):
        sealed(b'"seal": "' + b"1" * 64 + b'"')
