"""The numbers that the page's scripts work with are those of the run's files, to the last bit."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from scalselect.report_page.shown_rows import shown_rows
from scalselect.run_folder import RunFolder

pytestmark = pytest.mark.slow
POINTS = """() => {
  const { data, decoded } = scalselectReport, points = data.map.points;
  const found = Object.fromEntries(Object.keys(points).map((name) => [name, Array.from(decoded(points[name]))]));
  found.densities = Array.from(decoded(data.map.densities));
  return JSON.stringify(found);  // much faster than value by value
}"""


@pytest.mark.parametrize("which", ["run", "large"])
def test_points_are_those_of_the_files(show, request, which):
    run = request.getfixturevalue(which)
    table = pq.read_table(run / "scores.parquet")
    with show(run / "report.html") as page:
        found = {name: np.array(values) for name, values in json.loads(page.evaluate(POINTS)).items()}
        cards = json.loads(page.evaluate("JSON.stringify(scalselectReport.data.samples.cards)"))
    rows = found["row"]
    lines = table.take(rows)
    scored = np.flatnonzero(pc.equal(table["status"], "scored").to_numpy(zero_copy_only=False))
    shown = {row for some in shown_rows(table).values() for row in some.tolist()}
    assert len(rows) == len(set(rows.tolist())) >= min(len(scored), 20_000)
    assert set(rows.tolist()) >= shown & set(scored.tolist())
    np.testing.assert_array_equal(found["score"], lines["leverage_score"].to_numpy())
    np.testing.assert_array_equal(found["rank"], lines["rank"].to_numpy())
    np.testing.assert_array_equal(found["chosen"], np.array(lines["selected"].to_pylist(), dtype=int))
    np.testing.assert_array_equal(found["shown"], [row in shown for row in rows.tolist()])
    coordinates = RunFolder(run).read_coordinates().vision
    places = np.searchsorted(scored, rows)
    np.testing.assert_array_equal(found["coordinates"].reshape(-1, len(rows)).T, coordinates[places, :4].astype(float))
    assert (found["densities"].reshape(6, -1).sum(axis=1) == len(scored)).all()
    assert {card["row"] for card in cards} == shown
    for card, line in zip(cards, table.take([card["row"] for card in cards]).to_pylist(), strict=True):
        assert (card["score"], card["rank"], card["chosen"]) == tuple(
            line[name] for name in ("leverage_score", "rank", "selected")
        )


@pytest.mark.parametrize("which", ["run", "large"])
def test_the_curve_of_budgets_moves_over_the_sorted_scores(show, request, which):
    run = request.getfixturevalue(which)
    scores = pq.read_table(run / "scores.parquet")["leverage_score"].drop_null().to_numpy()
    falling = np.sort(scores)[::-1]
    with show(run / "report.html") as page:
        slider = page.locator("#budget-rows")
        last = int(slider.get_attribute("max"))
        curve = page.evaluate(
            """() => { const { data, decoded } = scalselectReport;
               return ["ranks", "held", "scores"].map((name) => Array.from(decoded(data.leverage[name]))); }"""
        )
        ranks, held, lowest = map(np.array, curve)
        np.testing.assert_array_equal(lowest, falling[ranks - 1])
        np.testing.assert_allclose(held, np.cumsum(falling)[ranks - 1] / falling.sum(), rtol=1e-12)
        slider.focus()
        for key, at in (("Home", 0), ("ArrowRight", 1), ("End", last)):
            page.keyboard.press(key)
            words = page.locator("#budget-words").inner_text()
            assert f"({ranks[at]:,})" in words
            assert slider.get_attribute("aria-valuetext") == words
        assert "hold 100" in words


def test_the_table_of_fates_counts_every_row(show, run, report, scores):
    with show(report) as page:
        told = page.locator(".fates-table tbody td:nth-child(2)").all_inner_texts()
        reasons = page.locator(".fates-table tbody code").all_inner_texts()
        assert page.locator(".fates-table tfoot td").first.inner_text().startswith("440")
    assert sum(int(each.replace(",", "")) for each in told) == len(scores["row"])
    assert int(told[0]) == sum(map(bool, scores["selected"]))
    assert set(reasons) >= {reason for reason in scores["reason"] if reason}
