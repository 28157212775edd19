"""Sections put together into one HTML file: template, style and script are inlined, nothing is fetched.

The page carries its own content security policy: only this style and these scripts, named by their hashes, may run, so
that nothing that comes from the data does, whatever it looks like.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup, escape

from scalselect.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STYLES = ("page.css", "map.css", "samples.css")
# Run in this order, each in a scope of its own.
_SCRIPTS = ("page.js", "map_drawing.js", "map_search.js", "map.js", "samples.js")
_ROOM = "scalselect.report_page"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of the page.

    Attributes
    ----------
    name
        Its anchor; `templates/{name}.html` shows it.
    title
        Its heading, which the list of contents repeats.
    content
        What the template is given.
    data
        What the scripts are given, as `data[name]`: values of JSON. Arrays as `encoded` returns them.
    """

    name: str
    title: str
    content: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] | None = None


def page_bytes(
    title: str,
    subtitle: str,
    sections: Sequence[Section],
    *,
    mark: str = "",
    style_files: Sequence[str] = _STYLES,
    script_files: Sequence[str] = _SCRIPTS,
) -> bytes:
    """Return the HTML file of these sections, in order.

    Parameters
    ----------
    mark
        Stands in the head of the page.
    style_files, script_files
        What of `static/` is inlined; scripts run in this order.
    """
    style, scripts = _static(style_files), [_static([name]) for name in script_files]
    data = json.dumps(
        {section.name: section.data for section in sections if section.data is not None},
        allow_nan=False,
        ensure_ascii=False,  # spelled out, a Chinese text would be twice as long
    )
    allowed = " ".join(map(_hash, scripts)) or "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            subtitle=subtitle,
            sections=sections,
            style=style,
            scripts=scripts,
            policy=policy,
            mark=mark,
            # `<` would end the element, or begin a comment in it.
            data=data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
        )
    )
    # Texts of data may hold halves of surrogate pairs, which no encoding takes.
    return page.encode("utf-8", errors="replace")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(_ROOM),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_spelled_out,
    )
    environment.filters["coded"] = coded
    return environment


def _spelled_out(value: Any) -> Any:
    """Return a text from the data without what would hide a part of it or turn the order of its letters."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)


def coded(text: str) -> Markup:
    """Return a text as HTML in which what stands between backquotes is code; a backquote without its fellow stays."""
    pieces = printable(text).split("`")
    if len(pieces) % 2 == 0:
        pieces[-2:] = ["`".join(pieces[-2:])]
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if place % 2 else escape(piece) for place, piece in enumerate(pieces)
    )


def _static(names: Sequence[str]) -> str:
    folder = resources.files(_ROOM) / "static"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
