"""Made-up comparisons of two runs, and what stands in their pages."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import numpy as np

from scalselect.comparison import Comparison
from scalselect.diagnostics.agreement import rank_correlation, set_overlap, top_overlaps
from scalselect.report_page.comparison_material import ComparisonMaterial, RowInBoth, RunFacts
from scalselect.report_page.material import ShownPicture, ShownSample, ShownTurn

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements with their attributes and texts, in order; the data block read."""

    def __init__(self, content):
        super().__init__(convert_charrefs=True)
        self.elements, self.open = [], []
        self.feed(content.decode("utf-8"))
        self.close()
        assert self.open == []
        self.data = json.loads(self.first("script", id="data")["text"])

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag, **attributes):
        return [
            each
            for each in self.elements
            if each["tag"] == tag and all(each.get(name) == value for name, value in attributes.items())
        ]

    def first(self, tag, **attributes):
        return self.all(tag, **attributes)[0]

    def of_class(self, tag, name):
        return [each for each in self.all(tag) if name in (each.get("class") or "").split()]


def scores(rows=200, seed=0, noise=0.5):
    """Return two scores of the same rows that agree in part, float64 [rows] each."""
    rng = np.random.default_rng(seed)
    first = rng.exponential(size=rows)
    return first, first + noise * rng.exponential(size=rows)


def places_of(*given):
    """Return the place of each row in the falling order of each score, int64 [2, rows]."""
    return np.array([np.argsort(np.argsort(-each, kind="stable")) for each in given], dtype=np.int64)


def material(rows=200, chosen=30, **changes):
    """Return what a page of two runs is made from, and changes to it; names of `Comparison` change the comparison."""
    first, second = scores(rows)
    places = places_of(first, second)
    sets = [np.flatnonzero(place < chosen) for place in places]
    everything = np.arange(rows)
    facts = {"k": 3, "energy": 0.91, "gap": 1.25, "largest_dimension_energy": 0.2}
    known = {
        "run_a": "runs/a",
        "run_b": "runs/b",
        "rows": rows,
        "scored_in_both": everything,
        "scored_only_in_a": everything[:0],
        "scored_only_in_b": everything[:0],
        "rank_correlation": rank_correlation(first, second),
        "top": top_overlaps(first, second),
        "overlap": set_overlap(*sets, everything, everything),
        "overlap_reason": None,
        "angles": np.array([1.0, 5.0, 60.0]),
        "angles_reason": None,
        "subspace_a": facts,
        "subspace_b": {**facts, "k": 4, "gap": None},
        "options": {"score": {"energy": (0.9, 0.95)}},
        "notes": (),
    }
    of_comparison = {name: changes.pop(name) for name in tuple(changes) if name in known}
    only = [np.setdiff1d(sets[0], sets[1]), np.setdiff1d(sets[1], sets[0])]
    run = RunFacts(
        folder="runs/a",
        model="models/a",
        created="2026-11-26T05:08:14+00:00",
        scored=rows,
        budget=str(chosen),
        strategy="top-leverage",
    )
    whole = {
        "comparison": Comparison(**{**known, **of_comparison}),
        "runs": (run, run),
        "places": places,
        "only": tuple(
            tuple(in_both(int(row), given[row], other[row]) for row in alone)
            for alone, given, other in zip(only, (first, second), (second, first), strict=True)
        ),
        "only_rows": (only[0].size, only[1].size),
        "samples": {},
        "no_samples": "the data are gone",
    }
    return ComparisonMaterial(**{**whole, **changes})


def in_both(row=0, score=0.5, other_score=0.25, **changes):
    known = {"row": row, "source": "pool", "id": f"id-{row}", "score": float(score), "rank": 1}
    known |= {"other_score": float(other_score), "other_rank": 2, "other_reason": None}
    return RowInBoth(**{**known, **changes})


def sample(row=0, *, question="What is this? [image 1]", answer="A shape.", thumbnail=b"webp", **changes):
    picture = ShownPicture(thumbnail=thumbnail, width=64, height=48, name=f"{row}.png", **changes)
    turns = (ShownTurn(role="user", text=question), ShownTurn(role="assistant", text=answer))
    return ShownSample(row=row, pictures=(picture,), turns=turns)
