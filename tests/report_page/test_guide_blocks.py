"""`how_to_train.md` in blocks: nothing of its text is lost."""

from scalselect.report_page.guide_blocks import guide_blocks
from scalselect.report_page.page import coded

TEXT = """# Title

- 63 records of `pool`
- more
  of it

A paragraph with `code`
that goes on.
## Part

```json
{"a": "`b`",

 "<c>": 1}
```
A lone ` backquote and `code`.
"""


def test_blocks():
    assert guide_blocks(TEXT) == [
        {"kind": "list", "items": ["63 records of `pool`", "more of it"]},
        {"kind": "paragraph", "text": "A paragraph with `code` that goes on."},
        {"kind": "heading", "text": "Part"},
        {"kind": "code", "text": '{"a": "`b`",\n\n "<c>": 1}'},
        {"kind": "paragraph", "text": "A lone ` backquote and `code`."},
    ]


def test_odd_texts():
    assert guide_blocks("") == []
    assert guide_blocks("```\nnever closed") == [{"kind": "code", "text": "never closed"}]
    assert guide_blocks("\n\n") == []


def test_code_between_backquotes():
    assert coded("a `<b>` & `c`") == "a <code>&lt;b&gt;</code> &amp; <code>c</code>"
    assert coded("a lone ` backquote") == "a lone ` backquote"
    assert coded("`x` and `") == "<code>x</code> and `"
