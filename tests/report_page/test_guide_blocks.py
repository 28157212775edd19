"""`how_to_train.md` in blocks: nothing of its text is lost."""

from scalselect.report_page.guide_blocks import guide_blocks

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
        {"kind": "list", "items": [[(False, "63 records of "), (True, "pool")], [(False, "more of it")]]},
        {"kind": "paragraph", "parts": [(False, "A paragraph with "), (True, "code"), (False, " that goes on.")]},
        {"kind": "heading", "text": "Part"},
        {"kind": "code", "text": '{"a": "`b`",\n\n "<c>": 1}'},
        {"kind": "paragraph", "parts": [(False, "A lone "), (True, " backquote and "), (False, "code`.")]},
    ]


def test_odd_texts():
    assert guide_blocks("") == []
    assert guide_blocks("```\nnever closed") == [{"kind": "code", "text": "never closed"}]
    assert guide_blocks("\n\n") == []
