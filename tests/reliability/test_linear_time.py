"""Texts made to keep a parser busy: twice the length takes about twice the time, in records, names and messages."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.dataset.image_outcomes import FindImages
from scalselect.dataset.joined_pool import JoinedPool
from scalselect.dataset.opening import open_pool
from scalselect.dataset.tar_index import key_and_field
from scalselect.dataset.validation import RowChecker
from scalselect.printable import printable
from scalselect.vlm.token_roles import SpecialTokenEscaper

SIZE = 1 << 16
REPEATED = (
    "<image>",
    "<",
    " ",
    "<|",
    "{{",
    "\\",
    "\n",
    "\u202e",
    "<im",
    "<image> ",
    '"',
    "\0",
    "`",
    "_",
    "/",
    "a.",
    "9",
    "[",
)
ESCAPER = SpecialTokenEscaper(["<image>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]"])
LIKE = (None, "llava", "llamafactory", "ms-swift", "trl")


def assert_linear(work, of_size, *, size=SIZE):
    """Fail where twice as much takes much more than twice the time; short times say nothing."""
    small, large = of_size(size), of_size(2 * size)
    for _ in range(3):  # another process may have had the caches
        began = time.process_time()
        work(small)
        middle = time.process_time()
        work(large)
        first, second = middle - began, time.process_time() - middle
        if second < 0.3 or second < 3 * first:
            return
    pytest.fail(f"{first:.3f} s became {second:.3f} s")


def read(records):
    pool = open_pool(records)
    return list(pool.read(0, len(pool)))


def check(records, like):
    RowChecker(JoinedPool([open_pool(records)]), FindImages(), like)(range(len(records)))


def conversations(text):
    parts = [{"type": "text", "text": text}, {"type": "image"}]
    turns = [{"from": "human", "value": f"<image>{text}"}, {"from": "gpt", "value": text}]
    llava = {"id": text, "image": "a.png", "conversations": turns}
    messages = {
        "images": ["a.png"],
        "messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": text}],
    }
    alpaca = {"instruction": text, "input": text, "output": text, "images": [text]}
    odd = {"id": "x", "image": text, "conversations": [{"from": text, "value": text}], text: text}
    return [[llava, odd], [messages], [alpaca]]


@pytest.mark.parametrize("text", REPEATED)
def test_texts_of_one_thing_many_times(text):
    for number in range(3):
        assert_linear(read, lambda size, number=number: conversations(text * (size // len(text)))[number])
    assert_linear(ESCAPER, lambda size: text * (size // len(text)))
    assert_linear(printable, lambda size: text * (size // len(text)))


@pytest.mark.parametrize("like", LIKE)
def test_rules_of_trainers(like):
    for text in ("<image>", "<", "{{", " "):
        for number in range(3):
            assert_linear(
                lambda records: check(records, like),
                lambda size, text=text, number=number: conversations(text * (size // len(text)))[number],
                size=SIZE,
            )


@pytest.mark.parametrize("like", LIKE)
def test_many_turns(like):
    def talk(turns):
        pair = [{"from": "human", "value": "<image> a"}, {"from": "gpt", "value": "b"}]
        return [{"image": "a.png", "conversations": pair * turns}]

    assert_linear(lambda records: check(records, like), talk, size=1_000)


@pytest.mark.slow
def test_ten_megabytes_of_markers_and_a_million_turns():
    began = time.process_time()
    for text in ("<image>", "<", " ", "<|", "{{", "\\"):
        for records in conversations(text * (10_000_000 // len(text))):
            read(records)
    read(
        [
            {
                "image": "a.png",
                "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}] * 500_000,
            }
        ]
    )
    assert time.process_time() - began < 120


@pytest.mark.parametrize("inside", ["[", "{", '"', ",", ":", " ", "\\", '{"a":', "[,", '"a",', "{}", "\n", "\0"])
def test_files_of_one_thing_many_times(tmp_path, inside):
    def file_of(size):
        path = tmp_path / f"{size}.json"
        path.write_text('[{"conversations": [{"from": "human", "value": "' + inside * (size // len(inside)))
        return path

    def opened(path):
        try:
            pool = open_pool(path)
            list(pool.read(0, min(10, len(pool))))
        except Exception as error:
            from scalselect.errors import ScalselectError

            if not isinstance(error, ScalselectError):
                raise

    assert_linear(opened, file_of)


@pytest.mark.parametrize("text", ["/", "_", "a", "._/", ".", "a/", "9", "__a", "\n/"])
def test_names_of_members(text):
    assert_linear(key_and_field, lambda size: text * (size // len(text)), size=50_000)
    assert_linear(key_and_field, lambda size: text * (size // len(text)) + "/x.", size=50_000)


@given(st.text("a/.\n_", max_size=14))
def test_names_are_cut_as_webdataset_cuts_them(name):
    found = re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", name)
    assert key_and_field(name) == (("", "") if found is None else (found[1], found[2].lower()))
