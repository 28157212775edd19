"""The map of the page: dots, shading, axes and groups against the records they come from."""

from __future__ import annotations

import base64

import numpy as np
import pyarrow as pa
import pytest
from materials import material_of, table_of

from scalselect.report_page import map_points, map_section
from scalselect.report_page.map_density import densities
from scalselect.report_page.map_points import map_axes, map_rows
from scalselect.report_page.map_section import map_section as section_of

DTYPES = {"f64": np.float64, "f32": np.float32, "u32": np.uint32, "u16": np.uint16, "u8": np.uint8}


def decoded(item):
    return np.frombuffer(base64.b64decode(item["bytes"]), DTYPES[item["type"]]).reshape(item["shape"])


def coordinates_of(rows, k=6, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, k)).astype(np.float32)


def test_dots_have_the_numbers_of_the_table():
    material = material_of(rows=300, skipped=(3, 50))
    data = section_of(material).data
    rows = decoded(data["points"]["row"])
    table = material.table
    scored = [row for row in range(300) if row not in (3, 50)]
    assert rows.tolist() == scored
    assert decoded(data["points"]["score"]).tolist() == table["leverage_score"].take(pa.array(scored)).to_pylist()
    assert decoded(data["points"]["rank"]).tolist() == table["rank"].take(pa.array(scored)).to_pylist()
    assert decoded(data["points"]["chosen"]).tolist() == [int(table["selected"][row].as_py()) for row in scored]
    np.testing.assert_array_equal(decoded(data["points"]["coordinates"]), material.coordinates[:, :4].T)
    shown = np.concatenate(list(material.shown.values()))
    assert decoded(data["points"]["shown"]).tolist() == np.isin(scored, shown).astype(int).tolist()


def test_of_many_rows_some_are_drawn_and_those_shown_are_there(monkeypatch):
    monkeypatch.setattr(map_points, "MOST_POINTS", 50)
    material = material_of(rows=400)
    section = section_of(material)
    rows = decoded(section.data["points"]["row"])
    shown = np.concatenate(list(material.shown.values()))
    assert np.isin(shown, rows).all()
    assert section.content["drawn"] == 50
    assert rows.size < 50 + shown.size + 1
    assert section.data == section_of(material).data


def test_the_seed_of_the_choice_decides_which_rows_are_drawn(monkeypatch):
    monkeypatch.setattr(map_points, "MOST_POINTS", 50)
    scored, none = np.arange(1000), np.empty(0, dtype=np.int64)
    first, drawn = map_rows(scored, none, 0)
    assert drawn == first.size == np.unique(first).size == 50
    assert first.tolist() != map_rows(scored, none, 1)[0].tolist()
    assert (np.diff(first) > 0).all()


def test_shading_counts_every_row_once_for_every_pair():
    values = coordinates_of(5_000)
    axes = map_axes(values, np.zeros(5_000))
    counts = densities(axes)
    assert counts.shape == (6, 70, 70)
    assert counts.sum(axis=(1, 2)).tolist() == [5_000] * 6
    for pair, (x, y) in enumerate(axes.pairs):
        low, high = axes.ranges[x]
        left = np.count_nonzero(values[:, x].astype(np.float64) < low + (high - low) * 35 / 70)
        assert counts[pair][:, :35].sum() == left
        low, high = axes.ranges[y]
        below = np.count_nonzero(values[:, y].astype(np.float64) < low + (high - low) * 35 / 70)
        assert counts[pair][:35].sum() == below


def test_a_few_rows_far_out_do_not_shrink_the_rest():
    values = coordinates_of(10_000)
    values[:5, 0] = 1e6
    axes = map_axes(values, np.zeros(10_000))
    low, high = axes.ranges[0]
    assert -10 < low < -3
    assert 3 < high < 10
    assert axes.outside().tolist()[0] >= 5
    assert axes.outside()[axes.pairs.index((2, 3))] == 0
    assert densities(axes)[0][:, -1].sum() >= 5  # they stand in the last column


def test_without_such_rows_the_axes_cover_all():
    values = np.linspace(-1, 1, 1_000, dtype=np.float32)[:, np.newaxis] * np.ones(4, dtype=np.float32)
    axes = map_axes(values, np.zeros(1_000))
    assert axes.ranges.tolist() == [[-1, 1]] * 4
    assert axes.outside().sum() == 0


def test_a_single_coordinate_is_laid_against_the_score():
    material = material_of(rows=40, k=1)
    section = section_of(material)
    assert [axis["name"] for axis in section.data["axes"]] == ["coordinate 1", "leverage score"]
    assert [pair["label"] for pair in section.data["pairs"]] == ["1 and leverage score"]
    scores = decoded(section.data["points"]["score"]).astype(np.float32)
    np.testing.assert_array_equal(decoded(section.data["points"]["coordinates"])[1], scores)


def test_rows_that_are_all_alike_have_a_map():
    axes = map_axes(np.full((20, 2), 0.5, dtype=np.float32), np.zeros(20))
    assert axes.ranges.tolist() == [[-0.5, 1.5]] * 2
    assert densities(axes).max() == 20


def test_three_coordinates_make_three_pairs():
    assert [pair["label"] for pair in section_of(material_of(rows=40, k=3)).data["pairs"]] == [
        "1 and 2",
        "1 and 3",
        "2 and 3",
    ]


def test_without_scores_there_is_no_map():
    section = section_of(material_of(rows=4, skipped=range(4)))
    assert section.content == {"there": False, "scored": 0}
    assert section.data is None


def test_sources_and_strata_have_colours_only_where_there_are_several():
    material = material_of(rows=60, source=["ocr", "vqa", "vqa"] * 20)
    groups = section_of(material).data["groups"]
    assert list(groups) == ["source"]
    assert groups["source"]["names"] == ["vqa", "ocr"]
    assert groups["source"]["counts"] == [40, 20]
    assert decoded(groups["source"]["code"]).tolist() == [1, 0, 0] * 20


def test_a_single_source_has_no_colours():
    assert section_of(material_of(rows=30)).data["groups"] == {}


def test_of_many_groups_the_largest_are_named(monkeypatch):
    monkeypatch.setattr(map_section, "_MOST_NAMES", 20)
    strata = [f"s{min(row, 600 - row) % 30:02d}" for row in range(600)]
    material = material_of(rows=600, stratum=strata)
    facts = section_of(material).data["groups"]["stratum"]
    assert len(facts["names"]) == 20
    assert facts["names"][-1] == "one of 11 others"
    assert facts["named"] == 8
    assert facts["values"] == 30
    for row, place in zip(range(600), decoded(facts["code"]), strict=True):
        assert place == 19 or facts["names"][place] == strata[row]


def test_without_a_choice_nothing_is_called_chosen():
    section = section_of(material_of(rows=30, decided=False))
    assert section.content["decided"] is False
    assert decoded(section.data["points"]["chosen"]).sum() == 0


@pytest.mark.parametrize("count", [65_535, 65_536])
def test_counts_are_narrow_where_they_fit(count):
    narrow = map_section._narrow(np.array([[[count]]], dtype=np.uint32))
    assert narrow.item() == count
    assert narrow.dtype == (np.uint16 if count < 65_536 else np.uint32)


def test_the_table_of_these_tests_is_ranked():
    table = table_of(20, skipped=(4,))
    scores = np.array(table["leverage_score"].to_pylist(), dtype=float)
    assert scores[table["rank"].to_pylist().index(1)] == np.nanmax(scores)
