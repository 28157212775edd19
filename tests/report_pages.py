"""Pages read back: their data, their words, and whether they are well formed and fetch nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np

_VOID = {"meta", "input", "br", "img", "link", "hr"}
_KINDS = {"f64": "<f8", "f32": "<f4", "u32": "<u4", "u16": "<u2", "u8": "|u1", "i32": "<i4"}


def data_of(page):
    """Return what the scripts of a page are given."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def array_of(item):
    """Return an array of the data."""
    return np.frombuffer(base64.b64decode(item["bytes"]), dtype=_KINDS[item["type"]]).reshape(item["shape"])


class Page(HTMLParser):
    """A page as a tree of what matters here; raises AssertionError where it is not well formed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.ids, self._words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self._words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self._words)).strip()

    def all(self, tag):
        return [attrs for name, attrs, _ in self.elements if name == tag]


def check_page(text):
    """Assert that a page is well formed, fetches nothing, and is fit for its own policy; return it."""
    page = Page(text)
    assert len(page.ids) == len(set(page.ids)), [name for name in page.ids if page.ids.count(name) > 1]
    for tag, attrs, _ in page.elements:
        assert "style" not in attrs, (tag, attrs)
        assert not any(name.startswith("on") for name in attrs), (tag, attrs)
        for name in ("src", "href"):
            assert (attrs.get(name) or "#").startswith(("#", "data:image/")), (tag, attrs)
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert set((attrs.get(name) or "").split()) <= set(page.ids), (tag, attrs)
    if page.all("html"):
        check_policy(text, page)
    assert "@import" not in text
    assert "url(" not in text
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        svg = ET.fromstring(drawing)
        assert svg.get("aria-hidden") == "true" or (svg.get("role") == "img" and svg.find("title").text)
        assert "nan" not in " ".join(value for part in svg.iter() for value in part.attrib.values())
    return page


def check_policy(text, page):
    """Assert that the policy of a page names its scripts and style, and nothing else."""
    policy = next(attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    hashes = [
        f"sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}" for each in scripts_of(text)
    ]
    assert re.findall(r"sha256-[^']+", re.search(r"script-src ([^;]*)", policy)[1]) == hashes
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'sha256-\S+'; script-src( 'sha256-\S+')+; base-uri 'none'; "
        r"form-action 'none'",
        policy,
    )


def scripts_of(text):
    """Return the scripts of a page that run."""
    return re.findall(r"<script>(.*?)</script>", text, re.DOTALL)


def section_of(text, name):
    """Return the HTML of a section."""
    return re.search(rf'<section id="{name}".*?</section>', text, re.DOTALL)[0]
