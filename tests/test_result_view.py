"""A finished run at a prompt and in a notebook: its numbers, nothing of the data as markup, and no arrays."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

import scalselect
from scalselect.results import RunResult
from scored_runs import clustered_vectors, scored_run

HOSTILE = "<script>alert(1)</script>\"' onload=alert(1)\n\x1b[31m"


class Read(HTMLParser):
    """Texts by label, elements and attributes of a table."""

    def __init__(self, markup):
        super().__init__()
        self.elements, self.attributes, self.texts = [], [], []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)

    def value(self, label):
        return self.texts[self.texts.index(label) + 1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = scored_run(tmp_path_factory.mktemp("view"), clustered_vectors(120), unusable=(3, 4))
    return scalselect.select(folder, budget=[20, "5%"])


def result(**changes):
    known = {"folder": Path("run"), "rows": np.arange(3), "scores": np.array([0.5, np.nan, 0.1, 0.2]), "summary": {}}
    return RunResult(**{**known, **changes})


def test_a_table_says_what_happened(run):
    shown = Read(run._repr_html_())
    assert shown.value("chosen") == ("20 rows (20 asked, 118 eligible, strategy top-leverage); other budgets: 5 at 5%")
    assert shown.value("pool") == "120 rows: 118 scored, 2 skipped (image_missing 2)"
    facts = run.summary["subspace"]
    told = f"k = {facts['k']} with {facts['energy']:.2%} of the energy; s_k / s_k+1: {facts['gap']:.4g}"
    assert shown.value("subspace") == told
    assert shown.value("folder") == str(run.folder)
    assert "warnings" not in shown.texts
    assert "report" not in shown.texts


def test_a_line_prints_no_arrays(run):
    assert repr(run) == (
        f"RunResult(folder={str(run.folder)!r}, 20 chosen of 118 scored of 120 rows, budget 20, "
        f"k = {run.summary['subspace']['k']})"
    )
    large = result(rows=np.arange(300_000), scores=np.zeros(600_000), summary={"warnings": ["a", "b"]})
    assert repr(large) == "RunResult(folder='run', 300,000 chosen of 600,000 scored of 600,000 rows, 2 warnings)"


def test_what_is_not_known_is_not_told():
    assert repr(result()) == "RunResult(folder='run', 3 chosen of 3 scored of 4 rows)"
    shown = Read(result()._repr_html_())
    assert (shown.value("chosen"), shown.value("pool")) == ("3 rows", "4 rows: 3 scored")


def test_reasons_stand_beside_the_skipped_rows():
    rows = {"skipped": 5, "text_only": 2, "eligible": 3}
    shown = Read(result(summary={"rows": rows, "skipped": {"too_long": 1, "image_missing": 4}})._repr_html_())
    assert shown.value("pool") == "4 rows: 3 scored, 5 skipped (image_missing 4, too_long 1), 2 text-only"


def test_every_warning_is_told():
    shown = Read(result(summary={"warnings": ["first", "second"]})._repr_html_())
    assert shown.texts[shown.texts.index("warnings") :][1:3] == ["first", "second"]


def test_texts_from_the_data_are_no_markup():
    rows = {"skipped": 1, "text_only": 0, "eligible": 3}
    summary = {
        "rows": rows,
        "warnings": [HOSTILE],
        "skipped": {HOSTILE: 1},
        "strategy": HOSTILE,
        "budget": {"asked": HOSTILE},
    }
    hostile = result(folder=Path(HOSTILE), summary=summary)
    shown = Read(hostile._repr_html_())
    assert set(shown.elements) == {"table", "tbody", "tr", "th", "td", "div"}
    assert {name for name, _ in shown.attributes} == {"style", "scope"}
    assert sum("<script>alert(1)</script>\"' onload=alert(1)" in text for text in shown.texts) == 4
    for text in (hostile._repr_html_(), repr(hostile)):
        assert "\x1b" not in text
        assert "\n" not in text


@pytest.mark.parametrize("name", ["run", "javascript:alert(1)", "a b&c\"d'<e>#f?g%41"])
def test_the_report_is_linked_where_there_is_one(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = Path(name)
    folder.mkdir()
    assert "report" not in Read(result(folder=folder)._repr_html_()).texts
    (folder / "report.html").touch()
    for given in (folder, tmp_path / folder):
        shown = Read(result(folder=given)._repr_html_())
        (address,) = [value for key, value in shown.attributes if key == "href"]
        assert unquote(address) == f"{name}/report.html"
        assert not re.match(r"[a-z]+:", address)
        assert not set(address) & set("\"'<>#? ")


def test_nothing_is_fetched_and_colours_are_those_of_the_page(run):
    markup = html.unescape(result(summary={"warnings": ["w"]})._repr_html_())
    assert "http" not in markup
    assert "url(" not in markup
    assert "src=" not in markup
    styles = "; ".join(value for key, value in Read(markup).attributes if key == "style")
    assert set(re.findall(r"(?<![-\w])color: ([^;]+)", styles)) == {"inherit"}
    assert set(re.findall(r"background: ([^;]+)", styles)) == {"none"}
